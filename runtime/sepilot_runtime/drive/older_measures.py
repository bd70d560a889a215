"""What a picture is measured by for contracts from before version 1.2, whose statistics are of these measures.

Brightness, contrast, sharpness (mean absolute difference of horizontal neighbours), roughness (of second differences,
horizontal and vertical), coarse sharpness (at half the size), and the horizontal and vertical sharpness of four bands
of rows. They take twice as long as those of today, and tell a defocused or noisy lens less well.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.drive.glance import BANDS

__all__ = ["OlderMeasures"]

LOG_OFFSET = 0.5
"""Gray levels; keeps the logarithm of a black picture finite."""


class OlderMeasures:
    """Takes thirteen measures of gray pictures of one size, at least `SMALLEST_SIDE` on each side."""

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
