"""What a training was asked for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions

__all__ = ["Request", "first_difference", "standing_still_left_out", "wanted_frames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for; `--resume` and every later verb read the same drives the same way.

    Attributes:
        drives, validation_drives: paths; the latter empty where the split was left to sepilot.
        seed: of the split, the initial weights and the augmentation.
    """

    drives: tuple[str, ...]
    validation_drives: tuple[str, ...]
    reader: ReaderOptions
    filter: DriveFilter
    seed: int


def wanted_frames(drive: Drive, filter_: DriveFilter, min_throttle: float) -> Drive:
    """The frames of a drive that a request and its recipe take; what the throttle leaves out counts as skipped.

    Raises:
        DriveError: none is left.
    """
    kept = drive.filtered(dataclasses.replace(filter_, min_throttle=None))
    if filter_.min_throttle is not None:
        kept = _above(kept, filter_.min_throttle)
    return standing_still_left_out(kept, min_throttle)


def standing_still_left_out(drive: Drive, min_throttle: float) -> Drive:
    """The drive without the frames at or below `min_throttle`, which count as skipped, if its throttle says anything.

    Many cars record a constant throttle, or none; there it tells nothing about standing still.
    """
    throttle = drive.labels.get("throttle", np.empty(0, np.float32))
    throttle = throttle[np.isfinite(throttle)]
    if min_throttle <= 0 or not throttle.size or throttle.max() <= min_throttle or np.ptp(throttle) < 1e-6:
        return drive
    return _above(drive, min_throttle)


def _above(drive: Drive, min_throttle: float) -> Drive:
    kept = drive.filtered(DriveFilter(min_throttle=min_throttle))
    if len(kept) == len(drive):
        return drive
    reason = f"throttle at or below {min_throttle:g}"
    count = len(drive) - len(kept) + drive.skipped.get(reason, 0)
    return dataclasses.replace(kept, skipped={**drive.skipped, reason: count})


def first_difference(begun: Any, asked: Any) -> str:
    """The first key in which two requests, or parts of them, differ, with what was expected and found; or ""."""
    for field in fields(begun):
        expected, found = getattr(begun, field.name), getattr(asked, field.name)
        if expected == found:
            continue
        if dataclasses.is_dataclass(expected):
            return f"{field.name}.{first_difference(expected, found)}"
        return f"{field.name}: {expected!r} expected, found {found!r}"
    return ""
