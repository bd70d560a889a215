"""Novelty: how unlike the training pictures a picture is, cheaply enough to ask of every frame.

Thirteen measures of a gray picture, all of them sums over pixels: brightness, contrast, sharpness (mean absolute
difference of horizontal neighbours), stretch (of steps of two pixels), roughness (by how much two steps of one pixel
differ more than one of two), and the horizontal and vertical sharpness of four bands of rows. Their logarithms make
two groups: five of the whole picture, which tell a covered, glaring, hazy, noisy or defocused lens, and nine of how
sharpness lies over the bands, which tell a camera that was turned, or another place. Each group's score is the
Mahalanobis distance to the training pictures (P. C. Mahalanobis, "On the generalised distance in statistics", 1936), in
units of the distance that one training picture in a thousand exceeds; the picture's score is the larger one. So 1.0 is
the edge of what was trained on. What is alike in these measures stays unseen: a mirrored picture, or another track
under the same lamps.

The limit beyond which a drive stops comes from the training as well: each fifth of it is scored by the other four, and
whatever two pictures in a row reach there, with a margin, is no novelty.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ContractError, FrameError
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.contract import Contract, FrameStatistics
from sepilot_runtime.contract.statistics import PictureDistribution, WhitenedGaussian
from sepilot_runtime.drive.frame_checks import Novelty
from sepilot_runtime.drive.glance import MEASURES, SMALLEST_SIDE, Glance
from sepilot_runtime.drive.older_measures import OlderMeasures
from sepilot_runtime.drive.supervisor import Limits

__all__ = ["EDGE_PERCENTILE", "NoveltyMonitor", "novelty_of", "statistics_of"]

norm = cv2.norm  # Looking it up in OpenCV's module takes a tenth as long as it does.

EDGE_PERCENTILE = 99.9
"""Of the training pictures' distances; it scores 1.0."""

MOST_PICTURES = 10_000
"""From which the statistics are taken, spread evenly over the training pictures."""

WHOLE_RIDGE, BANDS_RIDGE = 2e-4, 0.05
"""Added to the correlations. The whole picture's measures are almost one; the little by which they differ tells blur,
and must not be smoothed away. Among the bands it is noise of a drive."""

NORMAL_EDGE = 1.54
"""Distance of the edge in distances of the 99th percentile, as a normal distribution has it: 3.59 over 2.33, where one
picture in a thousand lies beyond one of six edges."""

LEAST_DEVIATION = 0.02
"""Of a logarithm: pictures that are all alike must not make the smallest change a novelty."""

LEAST_RANGE = 0.5
"""Gray levels between percentiles."""

PARTS, LIMIT_MARGIN = 5, 1.1
LEAST_LIMIT, MOST_LIMIT = 1.25, 3.0
"""Of what is a novelty without an option. A lens that is covered, or half a frame of one colour, scores beyond any."""

OLDER_LIMIT = 1.5
"""For contracts from before there was a limit in them."""


class NoveltyMonitor:
    """Scores pictures against the statistics of a contract. Its buffers are allocated once; not for two threads.

    Attributes:
        limit: of the score, by the contract's training; None where a contract knows too little of its pictures.
    """

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
        self._glance = Glance(height, width)
        self._likeness = likeness = statistics.likeness
        self._older: OlderMeasures | None = None
        self.limit: float | None = None
        if likeness is not None:
            self.limit = likeness.limit or OLDER_LIMIT
            self._older = None if likeness.limit else OlderMeasures(height, width)
            whole, bands = _lower(likeness.whole), _lower(likeness.bands)
            centre = np.concatenate([whole @ likeness.whole.mean, bands @ likeness.bands.mean])
            # One product for both groups and their centres.
            self._whiten = np.column_stack([np.vstack([whole @ WHOLE, bands @ BANDED]), -centre])
            self._logs = np.ones(MEASURES + 1, np.float32)
            self._measures = self._logs[:MEASURES]
            self._whiten = self._whiten.astype(np.float32)
            self._away = np.empty(len(self._whiten), np.float32)
            self._of_whole, self._of_bands = self._away[:5], self._away[5:]
        ranges = np.array([statistics.brightness, statistics.contrast, statistics.sharpness])
        self._middle = ranges[:, 1]
        self._below = 1 / (NORMAL_EDGE * np.maximum(ranges[:, 1] - ranges[:, 0], LEAST_RANGE))
        self._above = 1 / (NORMAL_EDGE * np.maximum(ranges[:, 2] - ranges[:, 1], LEAST_RANGE))

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
        self._glance.take(pixels)
        return self.score_of(self._glance, pixels)

    def score_of(self, glance: Glance, pixels: NDArray[np.uint8]) -> float:
        """The score of a picture (h, w, c), which `glance` looked at last."""
        if self._likeness is None:
            away = np.array(_three_measures(_gray(pixels))) - self._middle
            return float(np.maximum(away * self._above, -away * self._below).max())
        if self._older is not None:
            self._measures[:] = self._older.logs_of(_gray(pixels))[OLDER_ORDER]
        else:
            np.log(glance.measures, self._measures)
        np.dot(self._whiten, self._logs, self._away)
        whole, bands = norm(self._of_whole), norm(self._of_bands)
        return whole if whole > bands else bands


def novelty_of(contract: Contract, limits: Limits) -> Novelty | None:
    """The monitor that `limits.max_novelty` asks for; None for none, and where the contract has no limit of its own.

    Raises:
        ContractError: a limit is set, and the contract has no statistics of its training pictures.
    """
    wanted = limits.max_novelty
    if wanted == "off" or (wanted == "auto" and contract.statistics is None):
        return None
    monitor = NoveltyMonitor(contract)
    limit = monitor.limit if wanted == "auto" else wanted
    return None if limit is None else Novelty(monitor.score_of, float(limit))


class Pictures(Protocol):
    """Pictures (h, w, c) uint8 by number, all of one size; an array of them (n, h, w, c) is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


def statistics_of(pictures: Pictures) -> FrameStatistics:
    """The statistics of training pictures, at least one, for their contract; one picture is looked at at a time."""
    height, width = pictures[0].shape[:2]
    glance, large = Glance(height, width), min(height, width) >= SMALLEST_SIDE
    three, logs, flat = [], [], []
    for place in np.linspace(0, len(pictures) - 1, min(MOST_PICTURES, len(pictures))).astype(int).tolist():
        glance.take(pixels := pictures[place])
        three.append(_three_measures(_gray(pixels)))
        flat.append(glance.flat_rows())
        if large:
            logs.append(np.log(glance.measures))
    brightness, contrast, sharpness = (_triple(column) for column in np.percentile(three, (1, 50, 99), axis=0).T)
    return FrameStatistics(
        brightness=brightness,
        contrast=contrast,
        sharpness=sharpness,
        likeness=_likeness(np.stack(logs).astype(np.float64)) if large else None,
        flat_rows=round(float(np.percentile(flat, EDGE_PERCENTILE)), 3),
    )


def _likeness(logs: NDArray[np.float64]) -> PictureDistribution:
    """Of the measures (n, 13) of training pictures, in their order."""
    whole, bands = _spread(logs @ WHOLE.T, WHOLE_RIDGE), _spread(logs @ BANDED.T, BANDS_RIDGE)
    return PictureDistribution(whole=whole, bands=bands, limit=_limit(logs))


def _limit(logs: NDArray[np.float64]) -> float:
    """What two pictures in a row reach when each part of the training is scored by the others, with a margin."""
    if len(logs) < 2 * PARTS:
        return MOST_LIMIT
    scores = []
    for part in np.array_split(np.arange(len(logs)), PARTS):
        rest = np.delete(logs, part, axis=0)
        groups = ((WHOLE, WHOLE_RIDGE), (BANDED, BANDS_RIDGE))
        spreads = [(logs[part] @ group.T, _spread(rest @ group.T, ridge)) for group, ridge in groups]
        scores.append(np.max([np.linalg.norm((v - s.mean) @ _lower(s).T, axis=1) for v, s in spreads], axis=0))
    found = np.concatenate(scores)
    reached = float(np.minimum(found[1:], found[:-1]).max())
    return round(min(max(LIMIT_MARGIN * reached, LEAST_LIMIT), MOST_LIMIT), 2)


OLDER_ORDER = [0, 2, 5, 6, 7, 8, 9, 10, 11, 12, 1, 4, 3]
"""Where the older measures stand among their own."""

WHOLE = np.eye(MEASURES)[[0, 10, 1, 12, 11]]
"""From the thirteen logarithms those of the whole picture."""

EIGHT = np.eye(MEASURES)[2:10]
BANDED = np.vstack([np.eye(MEASURES)[1], EIGHT]) - EIGHT.mean(axis=0)
"""From the thirteen logarithms sharpness and the eight of the bands, less the mean of the eight."""


def _spread(values: NDArray[np.float64], ridge: float) -> WhitenedGaussian:
    """Mean of (n, d) values, and the matrix that gives each its distance, 1.0 at the edge."""
    mean, deviation = values.mean(axis=0), np.maximum(values.std(axis=0), LEAST_DEVIATION)
    scaled = (values - mean) / deviation
    correlation = scaled.T @ scaled / len(scaled) + ridge * np.eye(values.shape[1])
    whiten = np.linalg.inv(np.linalg.cholesky(correlation)) / deviation
    distances = np.linalg.norm((values - mean) @ whiten.T, axis=1)
    whiten /= max(float(np.percentile(distances, EDGE_PERCENTILE)), 1.0)
    entries = whiten[np.tril_indices(len(whiten))]
    return WhitenedGaussian(
        mean=tuple(round(float(m), 5) for m in mean), whiten=tuple(float(f"{e:.6g}") for e in entries)
    )


def _lower(spread: WhitenedGaussian) -> NDArray[np.float64]:
    size = len(spread.mean)
    matrix = np.zeros((size, size))
    matrix[np.tril_indices(size)] = spread.whiten
    return matrix


def _three_measures(gray: NDArray[np.uint8]) -> tuple[float, float, float]:
    mean, deviation = cv2.meanStdDev(gray)
    pairs = gray.shape[0] * (gray.shape[1] - 1)
    sharpness = cv2.norm(gray[:, 1:], gray[:, :-1], cv2.NORM_L1) / pairs if pairs else 0.0
    return float(mean[0, 0]), float(deviation[0, 0]), sharpness


def _gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = (round(float(v), 3) for v in values)
    return low, middle, high
