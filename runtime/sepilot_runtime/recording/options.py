"""How recordings are to be understood where the files do not say, and which frames to take."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Literal

from sepilot_runtime.base.errors import UsageError

__all__ = ["DriveFilter", "ReaderOptions", "degrees_per"]

ANGLE_PATTERN = r"(?P<drive>.+)_(?P<frame>\d+)_(?P<angle>\d+(\.\d+)?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions:
    """Attributes:
    full_scale_deg: wheel angle of full steering; None takes what the recording says or the format's own (Donkeycar
        25, Udacity 25, angle in file name 45, video + CSV 30).
    cameras: Udacity logs: the centre camera, or all three.
    side_camera_correction: added to the left camera's label and taken from the right one's, in label units.
    angle_pattern: regular expression for a file name without suffix, with groups drive, frame and angle (degrees);
        "none" switches angles in file names off.
    angle_straight_deg: the angle that means straight ahead.
    positive: side of growing steering, as it was recorded.
    csv_steering, csv_time, csv_frame: columns of a CSV file beside a video or pictures; "" finds them by name.
    csv_unit: of the steering column there; "auto" tells by the column's name and values.
    unit: of the steering in tubs and Udacity logs.
    autopilot: what to do with the rows of a Donkeycar tub that its autopilot drove: their steering is not the driver's.
    csv_class, csv_group: columns of a CSV file beside pictures that name each one's class, and what no split may part;
        "" finds them by name.
    group_pattern: regular expression with a group named `group` that finds in a picture's name, without suffix, what no
        split may part; "" takes what stands before the last `_` and number where that makes sense, "none" nothing.
    labels: columns of numbers to read beside steering and throttle, as they stand there; `brake` finds a tub's
        `user/brake`, too. "class" makes classes of a folder's folders or of a column of names.
    wished: more of them, which nobody misses where there are none.
    """

    full_scale_deg: float | None = None
    cameras: Literal["centre", "all"] = "centre"
    side_camera_correction: float = 0.2
    angle_pattern: str = ANGLE_PATTERN
    angle_straight_deg: float = 90.0
    positive: Literal["right", "left"] = "right"
    csv_steering: str = ""
    csv_time: str = ""
    csv_frame: str = ""
    csv_unit: Literal["auto", "rad", "deg", "percent", "full-scale"] = "auto"
    unit: Literal["rad", "deg", "percent", "full-scale"] = "full-scale"
    autopilot: Literal["leave-out", "take"] = "leave-out"
    csv_class: str = ""
    csv_group: str = ""
    group_pattern: str = ""
    labels: tuple[str, ...] = ()
    wished: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.full_scale_deg is not None and not 0.0 < self.full_scale_deg <= 180.0:
            raise UsageError(f"--full-scale-deg: an angle in (0, 180] expected, found {self.full_scale_deg:g}")
        if not abs(self.side_camera_correction) <= 1.0:
            raise UsageError(f"--side-camera-correction: -1 to 1 expected, found {self.side_camera_correction:g}")
        if not math.isfinite(self.angle_straight_deg):
            raise UsageError(f"--angle-straight-deg: an angle expected, found {self.angle_straight_deg}")
        if self.group_pattern not in ("", "none"):
            try:
                named = re.compile(self.group_pattern).groupindex
            except re.error as e:
                raise UsageError(f"--group-pattern: not a regular expression: {e}") from e
            if "group" not in named:
                raise UsageError(f"--group-pattern: a group named 'group' expected, found {self.group_pattern!r}")

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that say something, which a reader must go by; wishes are none."""
        differ = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return tuple(name for name in differ if name != "wished")

    def asks(self, label: str) -> bool:
        """Somebody needs or would like this label."""
        return label in self.labels or label in self.wished

    def wishing(self, labels: Iterable[str]) -> ReaderOptions:
        """The same, and these labels where the recording has columns of their names."""
        return replace(self, wished=tuple(labels))

    def full_scale(self, default: float) -> float:
        """The full-scale angle, by this option or the format's default."""
        return default if self.full_scale_deg is None else self.full_scale_deg

    @property
    def sign(self) -> float:
        return 1.0 if self.positive == "right" else -1.0

    def steering(self, full_scale_deg: float) -> tuple[float, tuple[str, ...]]:
        """What makes a label of the steering in a tub or a Udacity log, and a note where it is not 1."""
        # Of full scale first, which changes no bit.
        factor = self.sign * (degrees_per(self.unit, full_scale_deg) / full_scale_deg)
        return factor, () if factor == 1.0 else (f"steering read in {self.unit}, + = {self.positive}",)


def degrees_per(unit: str, full_scale_deg: float) -> float:
    """The wheels' degrees that a recorded steering of 1 stands for."""
    scales = {"rad": math.degrees(1.0), "deg": 1.0, "percent": full_scale_deg / 100, "full-scale": full_scale_deg}
    return scales[unit]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveFilter:
    """Which frames of a drive are taken; None does not limit.

    Attributes:
        min_throttle: frames at or below, or without a throttle, are left out.
        from_s, to_s: seconds from the first frame, half open.
        first, last: positions in the drive as it is read, counted from 0, both included.
    """

    min_throttle: float | None = None
    from_s: float | None = None
    to_s: float | None = None
    first: int | None = None
    last: int | None = None
