"""Is this picture worth driving by? What a camera gives that is new, but shows nothing, or nothing new.

A live sensor never gives the same picture twice: its noise differs. One that is byte for byte an earlier one comes
from a driver that hangs, or that hands out old buffers in turn; one of which some rows are so is torn. Noise on a
frozen picture tells itself by its blocks: they change no more than noise lets them, while the car should move.

All checks look at the model's own small picture, in one `Glance`, so they cost a few microseconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.drive.glance import Glance
from sepilot_runtime.drive.supervisor import GOOD, Level, Limits, Verdict

__all__ = ["FrameChecks", "Novelty", "Score"]

Score = Callable[[Glance, NDArray[np.uint8]], float]
"""A picture (h, w, c), and the look that was taken at it, to its novelty, 1 at the edge of the training pictures."""

RECENT = 0xFF
"""Mask of the last eight frames, one bit each."""

STILL_FRAMES = 2
"""In a row that show no motion: one may be a picture that came twice."""

MOVING_FRAMES = 3
"""In a row that show motion, before a car that stood still though it should drive is believed to move: noise shows some
once in a hundred frames."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """A score and the limit that is set to it."""

    score: Score
    limit: float


class FrameChecks:
    """Looks at one frame after the other; it remembers the last ones."""

    def __init__(self, contract: Contract, limits: Limits, novelty: Novelty | None = None) -> None:
        """
        Args:
            contract: of the model whose pictures are looked at.
        """
        self._limits = limits
        self._score: Score | None = None if novelty is None else novelty.score
        self._most_novel = 0.0 if novelty is None else novelty.limit
        self._glance = Glance(contract.picture.height, contract.picture.width)
        statistics = contract.statistics
        flat = None if statistics is None else statistics.flat_rows
        self._most_flat = 1.0 if flat is None else flat + limits.max_lost_rows
        self._repeats, self._checksum = 0, 0
        self._novel, self._jumps = False, 0
        self._last_mean: float | None = None
        self._start_ns: int | None = None
        self._started, self._still, self._stuck, self._moving = False, 0, False, 0

    def start(self) -> None:
        """What comes now does not follow upon what was: the car may have to start, the light may be another."""
        self._last_mean = self._start_ns = None
        self._started, self._still, self._stuck, self._moving = False, 0, False, 0

    def judge(self, image: NDArray[np.uint8], picture: NDArray[np.uint8], now_ns: int, *, moving: bool) -> Verdict:
        """The verdict on a frame (H, W[, 3]) and the model's picture of it (h, w, c).

        Long because the order of the checks is what it says, and because it runs for every frame.

        Args:
            moving: throttle was not 0 when the frame was taken.
        """
        limits, glance = self._limits, self._glance
        glance.take(picture)
        mean = glance.mean
        last_mean, self._last_mean = self._last_mean, mean
        if mean < limits.least_mean:
            return Verdict(Level.TROUBLE, "the picture is black")
        if mean > limits.most_mean:
            return Verdict(Level.TROUBLE, "the picture is over-exposed")
        if glance.deviation < limits.least_spread:
            return Verdict(Level.TROUBLE, "the picture is blank")
        # After those three: a covered lens gives the same black picture twice, which is more than odd.
        ago, share = glance.seen_before()
        if (ago or self._repeats) and (verdict := self._stale(image, ago, share)):
            return verdict
        if glance.flat_rows() > self._most_flat:
            return Verdict(Level.TROUBLE, "a part of the picture is one colour")
        if not (moving or self._stuck) or last_mean is None:
            self._start_ns, self._started, self._still = None, False, 0
        elif glance.moved_by() >= limits.least_motion:
            self._moving += 1
            self._started, self._still, self._stuck = True, 0, self._stuck and self._moving < MOVING_FRAMES
            if self._stuck:
                return Verdict(Level.TROUBLE, "nothing moves in the picture")
        elif self._stands_still(now_ns):
            return Verdict(Level.TROUBLE, "nothing moves in the picture")
        # A single novel picture or step of brightness (a flash, a passer-by) is no reason to stop; two are.
        before = self._novel
        if self._score is not None:
            self._novel = self._score(glance, picture) > self._most_novel
        jumps = last_mean is not None and abs(mean - last_mean) > limits.max_brightness_step
        if not (jumps or self._novel or self._jumps):
            return GOOD
        self._jumps = (self._jumps << 1 | jumps) & RECENT
        if self._novel:
            return Verdict(Level.TROUBLE if before else Level.ODD, "the picture is unlike those of the training")
        if jumps:
            return Verdict(Level.TROUBLE if self._jumps & (self._jumps - 1) else Level.ODD, "the brightness jumps")
        return GOOD

    def _stale(self, image: NDArray[np.uint8], ago: int, share: float) -> Verdict | None:
        """What it means that so much of the picture was there so many pictures ago."""
        if ago == 1 and share == 1:
            return self._repeated(image)
        self._repeats = 0
        if share == 1:
            return Verdict(Level.TROUBLE, "the picture is an earlier one")
        if share > self._limits.max_lost_rows:
            return Verdict(Level.TROUBLE, "a part of the picture is of an earlier one")
        return None

    def _repeated(self, image: NDArray[np.uint8]) -> Verdict:
        """What it means that the picture is the one before."""
        # A few whole rows of the frame besides: where the small picture rounds the noise away, they do not.
        middle = image.shape[0] // 2
        checksum = zlib.crc32(image[middle : middle + 2].tobytes())
        same, self._checksum = not self._repeats or checksum == self._checksum, checksum
        self._repeats = self._repeats + 1 if same else 1
        if self._repeats >= self._limits.max_repeats:
            return Verdict(Level.TROUBLE, "the picture is frozen")
        return Verdict(Level.ODD, "the same picture twice")

    def _stands_still(self, now_ns: int) -> bool:
        """Whether a picture without motion is trouble; then so are all that follow until something moves, as the car
        stands."""
        self._still, self._moving = self._still + 1, 0
        if self._start_ns is None:
            self._start_ns = now_ns
        expected = self._started or now_ns - self._start_ns > self._limits.start_ms * 1e6
        self._stuck = self._stuck or (expected and self._still >= STILL_FRAMES)
        return self._stuck
