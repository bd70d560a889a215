"""Time stamps of recordings, which are missing, repeated, wild or of another clock as often as not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.recording.drive import NOMINAL_RATE_HZ, median

__all__ = ["nearest", "usable_time"]

LONGEST_PAUSE_S = 600.0
"""A longer step between two time stamps is another session or a clock that was set, and no time of this recording."""


def usable_time(stamps: NDArray[np.float64], *, several_cameras: bool) -> tuple[NDArray[np.float64], list[str]]:
    """Seconds from the first frame; replaced by a nominal rate where the stamps cannot be true."""
    nominal = np.arange(len(stamps)) / NOMINAL_RATE_HZ
    if len(stamps) == 1:
        return np.zeros(1), []
    known = np.isfinite(stamps)
    if known.mean() < 0.99:
        return nominal, [f"no time stamps: {NOMINAL_RATE_HZ:g} Hz assumed"]
    stamps = _between_neighbours(stamps, known)
    wild = _wild(stamps)
    stamps = _between_neighbours(stamps, ~wild)
    steps = np.diff(stamps)
    advancing, backwards, ahead = steps[steps > 0], steps < 0, steps > LONGEST_PAUSE_S
    usual_s = median(advancing) if advancing.size else 0.0
    # Several cameras share a stamp, a paused recording leaves gaps; a median outside of 2 to 200 Hz is no camera's.
    if not 0.005 <= usual_s <= 0.5 or backwards.sum() > max(1, 0.01 * len(steps)):
        return nominal, [f"time stamps cannot be used: {NOMINAL_RATE_HZ:g} Hz assumed"]
    notes = [] if known.all() else [f"{(~known).sum()} frames have no time stamp: put between their neighbours"]
    if wild.any():
        notes.append(f"{wild.sum():,} frames have a time stamp far from all others: put between their neighbours")
    if (repeated := int((steps == 0).sum())) and not several_cameras:
        notes.append(f"{repeated:,} frames have the time stamp of the one before")
    if ahead.any():
        step = f"over {LONGEST_PAUSE_S / 60:g} minutes"
        notes.append(f"{step} between two frames (a new session, or the clock was set), {ahead.sum():,}x: joined there")
    if backwards.any():
        notes.append(f"the clock was set back, {backwards.sum()}x: joined there")
    if not (backwards | ahead).any():
        return stamps - stamps[0], notes
    # What follows is right but for a constant.
    return np.concatenate(([0.0], np.cumsum(np.where(backwards | ahead, usual_s, steps)))), notes


def nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place in the sorted `times`, one or more, that is nearest to each of `wanted`."""
    after = np.searchsorted(times, wanted).clip(1, max(1, len(times) - 1))
    before = after - 1
    after = after.clip(0, len(times) - 1)
    return np.where(wanted - times[before] <= times[after] - wanted, before, after)


def _wild(stamps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which stamps are far from both their neighbours'; one at an end might as well be on the right side of a jump."""
    far = np.abs(np.diff(stamps)) > LONGEST_PAUSE_S
    return np.concatenate(([False], far[:-1] & far[1:], [False]))


def _between_neighbours(stamps: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.interp(np.arange(len(stamps)), np.flatnonzero(known), stamps[known])
