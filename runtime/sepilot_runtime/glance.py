"""One look at a picture: few passes over its pixels, from which all checks of a frame take what they need.

What costs time is the number of calls, each half a microsecond or more, so the sums of all rows of all difference
pictures are taken in one, and a matrix makes bands and blocks of them. Every second row is enough.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.opencv import cv2

__all__ = ["BANDS", "EARLIER", "SMALLEST_SIDE", "Glance"]

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

GRAY, ACROSS, ALONG, CHANGE = range(4)
"""Pictures whose sums are taken together: itself, and its differences to its neighbours and to the one before."""


class Glance:
    """Looks at one picture after the other, of one size. Its buffers are allocated once; not for two threads.

    Attributes:
        gray: (ceil(h / 2), w) uint8, every second row of the last picture, valid until `EARLIER` more were taken.
        mean, deviation: of its gray levels.
        sharpness: mean difference of horizontal neighbours in gray levels.
        stretch: mean difference between pixels and their next but one, horizontally.
        sums: (11,) float32: mean, change, sharpness, and the sharpness of the bands from top to bottom, first
            horizontal, then vertical.
    """

    def __init__(self, height: int, width: int) -> None:
        lines, columns = -(-height // 2), -(-width // BLOCKS[1]) * BLOCKS[1]
        self._pixels, self._tiny, slots = lines * width, min(height, width) < SMALLEST_SIDE, EARLIER + 1
        planes: NDArray[np.uint8] = np.zeros((slots, 4, lines, columns, 1), np.uint8)
        # Halves of lines of all four are added up at once, then those to blocks, bands and wholes.
        self._half_sums: NDArray[np.int32] = np.empty((4 * lines * BLOCKS[1], 1), np.int32)
        self._half_values: NDArray[np.float32] = np.empty(len(self._half_sums), np.float32)
        self._half_column = self._half_values.reshape(-1, 1)
        self._across_sums = self._half_sums.reshape(4, lines, BLOCKS[1])[ACROSS]
        self._adding = _adding_halves(lines, width)
        count = math.prod(BLOCKS)
        self._rows: NDArray[np.float32] = np.full((slots, len(self._adding)), -1, np.float32)
        # Two neighbouring sums in one number: half the comparisons, and hardly one that holds by chance.
        self._pairs = self._rows[:, :count].view(np.int64)
        self._alike = np.empty(self._pairs.shape, bool)
        self._alike_bytes = self._alike.view(np.uint8)
        # What noise changes a block's sum by is what it changes a pixel by, times the root of the pixels.
        self._per_noise = 1 / (count * math.sqrt(self._pixels / count))
        # Views are made once: slicing takes as long as adding up a band does.
        self._slots = [_Slot(planes[slot], self._rows[slot], width) for slot in range(slots)]
        self._place = 0
        self._slot = self._before = self._slots[0]
        self.gray, self.sums = self._slot.gray, self._slot.sums
        self.mean = self.deviation = self.sharpness = self.stretch = self._noise = 0.0

    def take(self, picture: NDArray[np.uint8]) -> None:
        """Look at a picture (h, w, c) of the size that this was made for."""
        self._place = (self._place + 1) % (EARLIER + 1)
        before, pixels = self._slot, self._pixels
        self._before, self._slot = before, (slot := self._slots[self._place])
        self.gray = gray = slot.gray
        if picture.shape[2] == 3:
            cv2.cvtColor(picture[::2], cv2.COLOR_BGR2GRAY, gray)
        else:
            np.copyto(slot.picture, picture[::2])
        cv2.absdiff(gray, before.gray, slot.change)
        if not self._tiny:
            cv2.absdiff(slot.right, slot.left, slot.across)
            cv2.absdiff(slot.below, slot.above, slot.along)
            self.stretch = cv2.norm(slot.next_but_one, slot.first, cv2.NORM_L1) / pixels
        cv2.reduce(slot.halves, 1, cv2.REDUCE_SUM, self._half_sums, cv2.CV_32S)
        np.copyto(self._half_column, self._half_sums)
        np.dot(self._adding, self._half_values, slot.row)
        self.sums = slot.sums
        self.mean, self._noise, self.sharpness = mean, _, _ = slot.wholes.tolist()
        self.deviation = math.sqrt(max(0.0, cv2.norm(gray, cv2.NORM_L2SQR) / pixels - mean * mean))

    def moved_by(self) -> float:
        """How much the last picture differs from the one before: 1 for noise alone, whatever its level; 0 for nothing.

        The change of the blocks' sums over what they would change by if each pixel did for itself.
        """
        if self._noise == 0 or self._tiny:
            return 0.0
        change = cv2.norm(self._slot.blocks, self._before.blocks, cv2.NORM_L1)
        return change * self._per_noise / self._noise

    def seen_before(self) -> tuple[int, float]:
        """How many pictures ago there was the same, and which share of the rows it is; (0, 0.0) where there was none.

        The share is 1.0 for the whole picture; otherwise that of the rows one below the other that show something and
        are the same, byte for byte.
        """
        np.equal(self._pairs, self._slot.pairs, self._alike)
        if cv2.countNonZero(self._alike_bytes) == len(self._slot.pairs):
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
        if self._tiny or np.count_nonzero(self._across_sums) == self._across_sums.size:
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
            planes: (4, lines, columns, 1), columns beyond `width` are zero.
            row: (27,), the sums.
        """
        self.picture = planes[GRAY, :, :width]
        self.gray = gray = self.picture[..., 0]
        self.right, self.left, self.next_but_one, self.first = gray[:, 1:], gray[:, :-1], gray[:, 2:], gray[:, :-2]
        self.below, self.above = gray[1:], gray[:-1]
        self.across, self.along = planes[ACROSS, :, : width - 1, 0], planes[ALONG, :-1, :width, 0]
        self.change = planes[CHANGE, :, :width, 0]
        self.halves = planes.reshape(-1, planes.shape[2] // BLOCKS[1])
        count = math.prod(BLOCKS)
        self.row, self.blocks, self.sums, self.wholes = row, row[:count], row[count:], row[count : count + 3]
        self.pairs = self.blocks.view(np.int64)


def _adding(rows: int, parts: int) -> NDArray[np.float32]:
    """(parts, rows): adds up so many parts of rows, as equal as they get."""
    matrix = np.zeros((parts, rows), np.float32)
    for part, (first, end) in enumerate(pairwise(rows * part // parts for part in range(parts + 1))):
        matrix[part, first:end] = 1
    return matrix


def _adding_halves(height: int, width: int) -> NDArray[np.float32]:
    """(27, 8 * height): from the sums of half lines of the four pictures to the blocks' sums and `Glance.sums`."""
    halves = BLOCKS[1]
    blocks = np.zeros((*BLOCKS, height, halves), np.float32)
    for half in range(halves):
        blocks[:, half, :, half] = _adding(height, BLOCKS[0])
    bands = _adding(height, BANDS)[:, :, None].repeat(halves, axis=2)
    whole = np.full((height, halves), 1 / (height * width), np.float32)
    matrix = np.zeros((math.prod(BLOCKS) + 3 + 2 * BANDS, 4, height, halves), np.float32)
    matrix[: math.prod(BLOCKS), GRAY] = blocks.reshape(-1, height, halves)
    rest = matrix[math.prod(BLOCKS) :]
    rest[0, GRAY] = rest[1, CHANGE] = rest[2, ACROSS] = whole
    size = np.maximum(bands[:, :, :1].sum(axis=(1, 2), keepdims=True), 1) * width
    rest[3 : 3 + BANDS, ACROSS] = rest[3 + BANDS :, ALONG] = bands / size
    return matrix.reshape(len(matrix), -1)


def _longest_run(values: NDArray[np.bool_]) -> int:
    """How many are true in a row, at most."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
