"""Novelty: how unlike the training pictures a picture is, cheaply enough to ask of every frame.

Thirteen measures of a gray picture, all of them sums over pixels: brightness, contrast, sharpness (mean absolute
difference of horizontal neighbours), roughness (of second differences, horizontal and vertical), coarse sharpness (at
half the size), and the horizontal and vertical sharpness of four bands of rows. Their logarithms make two groups: five
of the whole picture, which tell a covered, glaring, hazy, noisy or defocused lens, and nine of how sharpness lies over
the bands, which tell a camera that was turned, or another place. Each group's score is the Mahalanobis distance to the
training pictures (P. C. Mahalanobis, "On the generalised distance in statistics", 1936), in units of the distance that
one training picture in a thousand exceeds; the picture's score is the larger one. So 1.0 is the edge of what was
trained on. What is alike in these measures stays unseen: a mirrored picture, or another track under the same lamps.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract import Contract, FrameStatistics, Likeness, Spread
from sepilot_runtime.errors import ContractError, FrameError
from sepilot_runtime.opencv import cv2

__all__ = ["EDGE_PERCENTILE", "NoveltyMonitor", "statistics_of"]

EDGE_PERCENTILE = 99.9
"""Of the training pictures' distances; it scores 1.0."""

MOST_PICTURES = 10_000
"""From which the statistics are taken, spread evenly over the training pictures."""

BANDS = 4
SMALLEST_SIDE = 2 * BANDS
"""Smaller pictures have no bands, and only the three ranges of brightness, contrast and sharpness."""

WHOLE_RIDGE, BANDS_RIDGE = 2e-4, 0.05
"""Added to the correlations. The whole picture's measures are almost one; the little by which they differ tells blur,
and must not be smoothed away. Among the bands it is noise of a drive."""

NORMAL_EDGE = 1.54
"""Distance of the edge in distances of the 99th percentile, as a normal distribution has it: 3.59 over 2.33, where one
picture in a thousand lies beyond one of six edges."""

LEAST_DEVIATION = 0.02
"""Of a logarithm: pictures that are all alike must not make the smallest change a novelty."""

LOG_OFFSET = 0.5
"""Gray levels; keeps the logarithm of a black picture finite."""


class NoveltyMonitor:
    """Scores pictures against the statistics of a contract. Its buffers are allocated once; not for two threads."""

    def __init__(self, contract: Contract) -> None:
        """
        Raises:
            ContractError: the contract has no statistics of its training pictures.
        """
        statistics = contract.statistics
        if statistics is None:
            raise ContractError(
                "statistics: those of the training pictures expected for novelty, found none; train and export again"
            )
        height, width = contract.picture.height, contract.picture.width
        self._shape = contract.picture.shape
        self._gray: NDArray[np.uint8] = np.empty((height, width), np.uint8)
        self._measures = _Measures(height, width) if statistics.likeness else None
        if likeness := statistics.likeness:
            whole, bands = _lower(likeness.whole), _lower(likeness.bands)
            # One product for both groups.
            self._whiten = np.vstack([whole @ WHOLE, bands @ BANDED])
            self._away = np.empty(len(self._whiten))
            self._of_whole, self._of_bands = self._away[:5], self._away[5:]
            self._centre = np.concatenate([whole @ likeness.whole.mean, bands @ likeness.bands.mean])
        ranges = np.array([statistics.brightness, statistics.contrast, statistics.sharpness])
        self._middle = ranges[:, 1]
        self._below = 1 / (NORMAL_EDGE * np.maximum(ranges[:, 1] - ranges[:, 0], LOG_OFFSET))
        self._above = 1 / (NORMAL_EDGE * np.maximum(ranges[:, 2] - ranges[:, 1], LOG_OFFSET))

    def score(self, pixels: NDArray[np.uint8]) -> float:
        """0 for the most usual picture, 1.0 at the edge of the training pictures, without an upper end.

        A contract written before there was such a thing has only the percentiles of brightness, contrast and
        sharpness; the score is then the largest way beyond the middle of one of them, which sees far less.

        Args:
            pixels: (h, w, c) uint8, the picture that the model sees.

        Raises:
            FrameError: another shape.
        """
        if pixels.shape != self._shape:
            raise FrameError("wrong shape", f"a picture {self._shape} expected, found {pixels.shape}")
        if pixels.shape[2] == 3:
            cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY, dst=self._gray)
        gray = self._gray if pixels.shape[2] == 3 else pixels[:, :, 0]
        if not self._measures:
            away = np.array(_three_measures(gray)) - self._middle
            return float(np.maximum(away * self._above, -away * self._below).max())
        np.dot(self._whiten, self._measures.logs_of(gray), out=self._away)
        np.subtract(self._away, self._centre, out=self._away)
        return math.sqrt(max(np.dot(self._of_whole, self._of_whole), np.dot(self._of_bands, self._of_bands)))


class Pictures(Protocol):
    """Pictures (h, w, c) uint8 by number, all of one size; an array of them (n, h, w, c) is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


def statistics_of(pictures: Pictures) -> FrameStatistics:
    """The statistics of training pictures, at least one, for their contract; one picture is looked at at a time."""
    height, width = pictures[0].shape[:2]
    measures = _Measures(height, width) if min(height, width) >= SMALLEST_SIDE else None
    three, logs = [], []
    for place in np.linspace(0, len(pictures) - 1, min(MOST_PICTURES, len(pictures))).astype(int).tolist():
        pixels = pictures[place]
        gray = pixels[:, :, 0] if pixels.shape[2] == 1 else _luma(pixels)
        three.append(_three_measures(gray))
        if measures is not None:
            logs.append(measures.logs_of(gray))
    brightness, contrast, sharpness = (_triple(column) for column in np.percentile(three, (1, 50, 99), axis=0).T)
    likeness = None
    if measures is not None:
        table = np.stack(logs)
        whole, bands = _spread(table @ WHOLE.T, WHOLE_RIDGE), _spread(table @ BANDED.T, BANDS_RIDGE)
        likeness = Likeness(whole=whole, bands=bands)
    return FrameStatistics(brightness=brightness, contrast=contrast, sharpness=sharpness, likeness=likeness)


class _Measures:
    """Takes the thirteen measures of gray pictures of one size, at least `SMALLEST_SIDE` on each side."""

    def __init__(self, height: int, width: int) -> None:
        self._wide: NDArray[np.int16] = np.empty((height, width), np.int16)
        self._across: NDArray[np.int16] = np.empty((height, width - 1), np.int16)
        self._along: NDArray[np.int16] = np.empty((height - 1, width), np.int16)
        self._half: NDArray[np.uint8] = np.empty((height // 2, width // 2), np.uint8)
        self._half_size = (width // 2, height // 2)
        # Views are made once: slicing takes as long as adding up a band does.
        edges = [height * band // BANDS for band in range(BANDS + 1)]
        across = [self._across[top:bottom] for top, bottom in pairwise(edges)]
        along = [self._along[top:bottom] for top, bottom in pairwise(edges)]
        self._bands = [*across, *along]
        self._neighbours_across = self._wide[:, 1:], self._wide[:, :-1]
        self._neighbours_along = self._wide[1:], self._wide[:-1]
        self._second_across = self._across[:, 1:], self._across[:, :-1]
        self._second_along = self._along[1:], self._along[:-1]
        self._coarse = self._half[:, 1:], self._half[:, :-1]
        self._even = height % 2 == width % 2 == 0
        sizes = [1, 1, self._across.size, self._across.size, self._coarse[0].size, *(view.size for view in self._bands)]
        self._per_size = 1 / np.array(sizes, np.float64)

    def logs_of(self, gray: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(13,): brightness, contrast, sharpness, roughness, coarse sharpness, and of each band across and along."""
        norm, l1, half = cv2.norm, cv2.NORM_L1, self._half
        mean, deviation = cv2.meanStdDev(gray)
        # OpenCV subtracts int16 in a quarter of the time that it takes for uint8 to int16.
        np.copyto(self._wide, gray)
        cv2.subtract(*self._neighbours_across, dst=self._across)
        cv2.subtract(*self._neighbours_along, dst=self._along)
        bands = [norm(view, l1) for view in self._bands]
        rough = norm(*self._second_across, l1) + norm(*self._second_along, l1)
        # Of an odd size a row or column is left out: halves of pixels would cost five times as much.
        even = gray if self._even else gray[: 2 * half.shape[0], : 2 * half.shape[1]]
        cv2.resize(even, self._half_size, dst=half, interpolation=cv2.INTER_AREA)
        logs: NDArray[np.float64] = np.array(
            [mean[0, 0], deviation[0, 0], sum(bands[:BANDS]), rough, norm(*self._coarse, l1), *bands]
        )
        logs *= self._per_size
        logs += LOG_OFFSET
        np.log(logs, out=logs)
        return logs


WHOLE = np.eye(5, 13)
"""From the thirteen logarithms those of the whole picture."""

EIGHT = np.eye(13)[5:]
BANDED = np.vstack([np.eye(13)[2], EIGHT]) - EIGHT.mean(axis=0)
"""From the thirteen logarithms sharpness and the eight of the bands, less the mean of the eight."""


def _spread(values: NDArray[np.float64], ridge: float) -> Spread:
    """Mean of (n, d) values, and the matrix that gives each its distance, 1.0 at the edge."""
    mean, deviation = values.mean(axis=0), np.maximum(values.std(axis=0), LEAST_DEVIATION)
    scaled = (values - mean) / deviation
    correlation = scaled.T @ scaled / len(scaled) + ridge * np.eye(values.shape[1])
    whiten = np.linalg.inv(np.linalg.cholesky(correlation)) / deviation
    distances = np.linalg.norm((values - mean) @ whiten.T, axis=1)
    whiten /= max(float(np.percentile(distances, EDGE_PERCENTILE)), 1.0)
    entries = whiten[np.tril_indices(len(whiten))]
    return Spread(mean=tuple(round(float(m), 5) for m in mean), whiten=tuple(float(f"{e:.6g}") for e in entries))


def _lower(spread: Spread) -> NDArray[np.float64]:
    size = len(spread.mean)
    matrix = np.zeros((size, size))
    matrix[np.tril_indices(size)] = spread.whiten
    return matrix


def _three_measures(gray: NDArray[np.uint8]) -> tuple[float, float, float]:
    mean, deviation = cv2.meanStdDev(gray)
    pairs = gray.shape[0] * (gray.shape[1] - 1)
    sharpness = cv2.norm(gray[:, 1:], gray[:, :-1], cv2.NORM_L1) / pairs if pairs else 0.0
    return float(mean[0, 0]), float(deviation[0, 0]), sharpness


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = (round(float(v), 3) for v in values)
    return low, middle, high
