"""Is this picture worth steering by? What a camera gives that is new, but shows nothing.

A live sensor never gives the same picture twice: its noise differs. One that is byte for byte the last one comes from a
driver that hangs. All checks look at the model's own small picture, so they cost a few microseconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.opencv import cv2
from sepilot_runtime.states import GOOD, Level, Limits, Verdict

__all__ = ["ContentCheck", "Score"]

Score = Callable[[NDArray[np.uint8]], float]
"""A picture (h, w, c) to its novelty, 1 at the edge of the training pictures."""


class ContentCheck:
    """Looks at one frame after the other; it remembers the last one."""

    def __init__(self, limits: Limits, novelty: Score | None = None) -> None:
        self._limits, self._novelty = limits, novelty
        self._last: int | None = None
        self._repeats = 0
        self._novel = False

    def judge(self, image: NDArray[np.uint8], picture: NDArray[np.uint8]) -> Verdict:
        """The verdict on a frame (H, W[, 3]) and the model's picture of it (h, w, c)."""
        limits, repeated = self._limits, self._repeated(image, picture)
        # One value per channel. As numpy arrays they would take longer than looking at all pixels.
        means, spreads = (values.ravel().tolist() for values in cv2.meanStdDev(picture))
        level, width = sum(means) / len(means), max(spreads)
        if level < limits.least_mean:
            return Verdict(Level.TROUBLE, "the picture is black")
        if level > limits.most_mean:
            return Verdict(Level.TROUBLE, "the picture is over-exposed")
        if width < limits.least_spread:
            return Verdict(Level.TROUBLE, "the picture is blank")
        # After those three: a covered lens gives the same black picture twice, which is more than odd.
        if repeated:
            return repeated
        if self._novelty is not None and limits.max_novelty is not None:
            # A single odd frame (a flash, a passer-by) is no reason to stop; two in a row are.
            before, self._novel = self._novel, self._novelty(picture) > limits.max_novelty
            if self._novel:
                level_of = Level.TROUBLE if before else Level.ODD
                return Verdict(level_of, "the picture is unlike those of the training")
        return GOOD

    def _repeated(self, image: NDArray[np.uint8], picture: NDArray[np.uint8]) -> Verdict | None:
        # A few whole rows of the frame besides: where the small picture rounds the noise away, they do not.
        middle = image.shape[0] // 2
        checksum = zlib.crc32(image[middle : middle + 2].tobytes(), zlib.crc32(np.ascontiguousarray(picture).data))
        same, self._last = checksum == self._last, checksum
        self._repeats = self._repeats + 1 if same else 0
        if self._repeats >= self._limits.max_repeats:
            return Verdict(Level.TROUBLE, "the picture is frozen")
        return Verdict(Level.ODD, "the same picture twice") if self._repeats else None
