"""One look at a picture: few passes over its pixels, from which all checks of a frame take what they need.

What costs time is the number of calls, each half a microsecond or more, so the sums of all rows of all difference
pictures are taken in one, and a matrix makes bands and blocks of them. Every second row is enough.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2

__all__ = ["BANDS", "EARLIER", "MEASURES", "SMALLEST_SIDE", "Glance"]

OFFSET, ROUGHNESS_OFFSET = 0.5, 0.2
"""Gray levels, added to measures; they keep logarithms finite and small differences from counting. A defocused
picture's roughness is near zero, and that it is must show."""

MEASURES = 13

EARLIER = 8
"""Pictures before the last one that are kept: as many buffers as a driver has."""

BANDS = 4
"""Of rows, whose sharpness is told apart."""

SMALLEST_SIDE = 2 * BANDS
"""Smaller pictures have no bands, and nothing but their levels is looked at."""

BLOCKS = 8, 2
"""Of a picture, down and across, of which only the sums count: noise averages out in them, what moves does not."""

LEAST_ACTIVE = 0.5
"""Mean difference of neighbours, in gray levels, of a row that shows something. Plain ones are alike by chance."""

MOST_NOISE = 5.0
"""Mean change of a pixel, in gray levels, that noise may make. A blurred road changes by more and as evenly; a picture
with more noise than that is unlike the training's."""

LEAST_LINES = 16
"""Of a picture whose motion is told: two of each block at least."""

GRAY, ACROSS, ALONG = range(3)
"""Pictures whose sums are taken together: itself, and the differences of its neighbours."""

# Looking them up in OpenCV's module takes as long as one of them takes for a hundred pixels.
absdiff, norm, reduce, count_non_zero = cv2.absdiff, cv2.norm, cv2.reduce, cv2.countNonZero
L1, L2_SQUARED, SUM, INT32 = cv2.NORM_L1, cv2.NORM_L2SQR, cv2.REDUCE_SUM, cv2.CV_32S


class Glance:
    """Looks at one picture after the other, of one size. Its buffers are allocated once; not for two threads.

    Attributes:
        gray: (ceil(h / 2), w) uint8, every second row of the last picture, valid until `EARLIER` more were taken.
        mean, deviation: of its gray levels.
        measures: (13,) float32, in gray levels, each with its offset added, as logarithms are taken of them: mean,
            sharpness, that of the bands from top to bottom, first horizontal, then vertical; deviation, stretch, and
            roughness: by how much two steps of one pixel differ more than one step of two.
    """

    def __init__(self, height: int, width: int) -> None:
        lines, columns = -(-height // 2), -(-width // BLOCKS[1]) * BLOCKS[1]
        self._pixels, self._tiny, slots = lines * width, min(height, width) < SMALLEST_SIDE, EARLIER + 1
        planes: NDArray[np.uint8] = np.zeros((slots, 3, lines, columns, 1), np.uint8)
        # Halves of lines of all three are added up at once, then those to blocks, bands and wholes.
        self._half_sums: NDArray[np.int32] = np.empty((3 * lines * BLOCKS[1], 1), np.int32)
        # The last one stays 1: what the matrix has there is added to the result.
        self._half_values: NDArray[np.float32] = np.ones(len(self._half_sums) + 1, np.float32)
        self._half_line, self._values_line = self._half_sums[:, 0], self._half_values[:-1]
        self._across_sums = self._half_sums.reshape(3, lines, BLOCKS[1])[ACROSS]
        self._adding = _adding_halves(lines, width)
        count = math.prod(BLOCKS)
        self._rows: NDArray[np.float32] = np.full((slots, count + MEASURES + 1), -1, np.float32)
        # Two neighbouring sums in one number: half the comparisons, and hardly one that holds by chance.
        self._pairs = self._rows[:, :count].view(np.int64)
        self._alike = np.empty(self._pairs.shape, bool)
        self._alike_bytes = self._alike.view(np.uint8)
        # What noise changes a block's sum by is what it changes a pixel by, times the root of the pixels.
        self._most_change = MOST_NOISE * self._pixels if lines >= LEAST_LINES else 0.0
        self._per_change = self._pixels / (count * math.sqrt(self._pixels / count))
        # Views are made once: slicing takes as long as adding up a band does.
        self._slots = [_Slot(planes[slot], self._rows[slot], width) for slot in range(slots)]
        self._place = 0
        self._slot = self._before = self._slots[0]
        self.gray, self.measures = self._slot.gray, self._slot.measures
        self.mean = self.deviation = 0.0

    def take(self, picture: NDArray[np.uint8]) -> None:
        """Look at a picture (h, w, c) of the size that this was made for."""
        self._place = (self._place + 1) % (EARLIER + 1)
        self._before, pixels = self._slot, self._pixels
        self._slot = slot = self._slots[self._place]
        self.gray = gray = slot.gray
        if picture.shape[2] == 3:
            cv2.cvtColor(picture[::2], cv2.COLOR_BGR2GRAY, gray)
        else:
            np.copyto(slot.picture, picture[::2])
        stretch = 0.0
        if not self._tiny:
            absdiff(slot.right, slot.left, slot.across)
            absdiff(slot.below, slot.above, slot.along)
            stretch = norm(slot.next_but_one, slot.first, L1) / pixels
        reduce(slot.halves, 1, SUM, self._half_sums, INT32)
        np.copyto(self._values_line, self._half_line)
        np.dot(self._adding, self._half_values, slot.sums)
        self.measures = measures = slot.measures
        mean, sharpness = slot.wholes.tolist()
        self.mean = mean = mean - OFFSET
        variance = norm(gray, L2_SQUARED) / pixels - mean * mean
        self.deviation = deviation = math.sqrt(variance) if variance > 0 else 0.0
        measures[10] = deviation + OFFSET
        measures[11] = stretch + OFFSET
        roughness = 2 * (sharpness - OFFSET) - stretch
        measures[12] = (roughness if roughness > 0 else 0.0) + ROUGHNESS_OFFSET

    def moved_by(self) -> float:
        """How much the last picture differs from the one before: 1 for noise alone, whatever its level; 0 for nothing;
        infinity where it differs too much for noise, or has too few rows to tell.

        The change of the blocks' sums over what they would change by if each pixel did for itself.
        """
        change = norm(self.gray, self._before.gray, L1)
        if not 0 < change <= self._most_change:
            return math.inf if change else 0.0
        return norm(self._slot.blocks, self._before.blocks, L1) * self._per_change / change

    def seen_before(self) -> tuple[int, float]:
        """How many pictures ago there was the same, and which share of the rows it is; (0, 0.0) where there was none.

        The share is 1.0 for the whole picture; otherwise that of the rows one below the other that show something and
        are the same, byte for byte.
        """
        np.equal(self._pairs, self._slot.pairs, self._alike)
        if count_non_zero(self._alike_bytes) == len(self._slot.pairs):
            return 0, 0.0
        found = 0, 0.0
        for ago in range(1, EARLIER + 1):
            place = (self._place - ago) % (EARLIER + 1)
            if not self._alike[place].any():
                continue
            same: NDArray[np.bool_] = (self.gray == self._slots[place].gray).all(axis=1)
            if same.all():
                return ago, 1.0
            share = _longest_run(same & self._active()) / len(same)
            found = max(found, (ago, share), key=lambda known: known[1])
        return found

    def flat_rows(self) -> float:
        """Share of the rows that are one below the other without any difference of neighbours."""
        if self._tiny or np.count_nonzero(self._across_sums) == len(self._half_line) // 3:
            return 0.0
        return _longest_run(self._across_sums.sum(axis=1) == 0) / len(self._across_sums)

    def _active(self) -> NDArray[np.bool_]:
        if self._tiny:
            return np.zeros(len(self._across_sums), bool)
        active: NDArray[np.bool_] = self._across_sums.sum(axis=1) >= LEAST_ACTIVE * self._slot.across.shape[1]
        return active


class _Slot:
    """One of the last pictures, every second row of it, with its differences and what came out."""

    def __init__(self, planes: NDArray[np.uint8], row: NDArray[np.float32], width: int) -> None:
        """
        Args:
            planes: (3, lines, columns, 1), columns beyond `width` are zero.
            row: (30,), the blocks' sums and `Glance.measures`.
        """
        self.picture = planes[GRAY, :, :width]
        self.gray = gray = self.picture[..., 0]
        self.right, self.left, self.next_but_one, self.first = gray[:, 1:], gray[:, :-1], gray[:, 2:], gray[:, :-2]
        self.below, self.above = gray[1:], gray[:-1]
        self.across, self.along = planes[ACROSS, :, : width - 1, 0], planes[ALONG, :-1, :width, 0]
        self.halves = planes.reshape(-1, planes.shape[2] // BLOCKS[1])
        count = math.prod(BLOCKS)
        self.blocks, self.measures, self.wholes = row[:count], row[count : count + MEASURES], row[count : count + 2]
        self.sums = row[: count + 2 + 2 * BANDS]
        self.pairs = self.blocks.view(np.int64)


def _adding(rows: int, parts: int) -> NDArray[np.float32]:
    """(parts, rows): adds up so many parts of rows, as equal as they get."""
    matrix = np.zeros((parts, rows), np.float32)
    for part, (first, end) in enumerate(pairwise(rows * part // parts for part in range(parts + 1))):
        matrix[part, first:end] = 1
    return matrix


def _adding_halves(height: int, width: int) -> NDArray[np.float32]:
    """(26, 6 * height + 1): from the sums of half lines of the three pictures, and 1, to the blocks' sums and those of
    `Glance.measures` that are sums."""
    halves = BLOCKS[1]
    blocks = np.zeros((*BLOCKS, height, halves), np.float32)
    for half in range(halves):
        blocks[:, half, :, half] = _adding(height, BLOCKS[0])
    bands = _adding(height, BANDS)[:, :, None].repeat(halves, axis=2)
    whole = np.full((height, halves), 1 / (height * width), np.float32)
    matrix = np.zeros((math.prod(BLOCKS) + 2 + 2 * BANDS, 3, height, halves), np.float32)
    matrix[: math.prod(BLOCKS), GRAY] = blocks.reshape(-1, height, halves)
    rest = matrix[math.prod(BLOCKS) :]
    rest[0, GRAY] = rest[1, ACROSS] = whole
    size = np.maximum(bands[:, :, :1].sum(axis=(1, 2), keepdims=True), 1) * width
    rest[2 : 2 + BANDS, ACROSS] = rest[2 + BANDS :, ALONG] = bands / size
    offsets = np.zeros((len(matrix), 1), np.float32)
    offsets[math.prod(BLOCKS) :, 0] = OFFSET
    return np.hstack([matrix.reshape(len(matrix), -1), offsets])


def _longest_run(values: NDArray[np.bool_]) -> int:
    """How many are true in a row, at most."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
