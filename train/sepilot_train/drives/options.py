"""How recordings are to be understood where the files do not say, and the flags for it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from sepilot_train.drives.drive import DriveFilter, require_full_scale

__all__ = ["ReaderOptions", "add_filter_arguments", "add_reader_arguments", "drive_filter", "reader_options"]

ANGLE_PATTERN = r"(?P<drive>.+)_(?P<frame>\d+)_(?P<angle>\d+(\.\d+)?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions:
    """Attributes:
    full_scale_deg: wheel angle of full steering; None takes the format's own (Donkeycar 25, Udacity 25, angle in
        file name 45, video + CSV 30) or what the recording says.
    cameras: Udacity logs: the centre camera, or all three.
    side_camera_correction: added to the left camera's label and taken from the right one's, in label units.
    angle_pattern: regular expression for a file name without suffix, with groups drive, frame and angle (degrees);
        "none" switches angles in file names off.
    angle_straight_deg: the angle that means straight ahead.
    positive: direction of growing angles in file names and CSV files.
    csv_steering, csv_time, csv_frame: columns of the CSV beside a video; "" finds them by name.
    csv_unit: of the steering column; "auto" tells by the column's name and values.
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
    csv_unit: Literal["auto", "rad", "deg", "full-scale"] = "auto"

    def full_scale(self, default: float) -> float:
        """The full-scale angle, by this option or the format's default."""
        return default if self.full_scale_deg is None else self.full_scale_deg

    @property
    def sign(self) -> float:
        return 1.0 if self.positive == "right" else -1.0


def add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags for `ReaderOptions`."""
    default = ReaderOptions()
    group = parser.add_argument_group("how to read the recordings")
    group.add_argument("--full-scale-deg", type=float, metavar="DEG", help="wheel angle of full steering (default: the format's)")
    group.add_argument("--cameras", choices=("centre", "all"), default=default.cameras, help="of a three-camera log (default: centre)")
    group.add_argument("--side-camera-correction", type=float, metavar="X", default=default.side_camera_correction, help="steering added for the left and taken for the right camera (default: 0.2)")
    group.add_argument("--angle-pattern", metavar="REGEX", default=default.angle_pattern, help="file names with groups drive, frame, angle; or none")
    group.add_argument("--angle-straight-deg", type=float, metavar="DEG", default=default.angle_straight_deg, help="angle that means straight (default: 90)")
    group.add_argument("--positive", choices=("right", "left"), default=default.positive, help="direction of growing angles in names and CSV files (default: right)")
    group.add_argument("--csv-steering", metavar="COLUMN", default="", help="steering column beside a video (default: found by name)")
    group.add_argument("--csv-time", metavar="COLUMN", default="", help="time column beside a video")
    group.add_argument("--csv-frame", metavar="COLUMN", default="", help="frame number column beside a video")
    group.add_argument("--csv-unit", choices=("auto", "rad", "deg", "full-scale"), default="auto", help="of the steering column")


def reader_options(arguments: argparse.Namespace) -> ReaderOptions:
    """The options of parsed flags. Raises UsageError."""
    if arguments.full_scale_deg is not None:
        require_full_scale(arguments.full_scale_deg)
    return ReaderOptions(
        full_scale_deg=arguments.full_scale_deg,
        cameras=arguments.cameras,
        side_camera_correction=arguments.side_camera_correction,
        angle_pattern=arguments.angle_pattern,
        angle_straight_deg=arguments.angle_straight_deg,
        positive=arguments.positive,
        csv_steering=arguments.csv_steering,
        csv_time=arguments.csv_time,
        csv_frame=arguments.csv_frame,
        csv_unit=arguments.csv_unit,
    )


def add_filter_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags for `DriveFilter`."""
    group = parser.add_argument_group("which frames to take, of each drive")
    group.add_argument("--min-throttle", type=float, metavar="X", help="leave out frames at or below")
    group.add_argument("--from-s", type=float, metavar="S", help="seconds from the first frame")
    group.add_argument("--to-s", type=float, metavar="S", help="seconds from the first frame, not included")
    group.add_argument("--first", type=int, metavar="N", help="first frame, counted from 0")
    group.add_argument("--last", type=int, metavar="N", help="last frame, included")


def drive_filter(arguments: argparse.Namespace) -> DriveFilter:
    """The filter of parsed flags."""
    return DriveFilter(
        min_throttle=arguments.min_throttle,
        from_s=arguments.from_s,
        to_s=arguments.to_s,
        first=arguments.first,
        last=arguments.last,
    )
