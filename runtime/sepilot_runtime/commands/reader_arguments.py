"""Flags that say how to read recordings, and which of their frames to take."""

from __future__ import annotations

import argparse

from sepilot_runtime.commands.arguments import Part, request_of
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions

__all__ = ["READER", "add_filter_arguments", "add_reader_arguments", "drive_filter", "reader_options"]


def add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags for `ReaderOptions`, one per field."""
    group = parser.add_argument_group("how to read the recordings")

    def add(flag: str, says: str, **settings: object) -> None:
        default = getattr(ReaderOptions(), flag.removeprefix("--").replace("-", "_"))
        group.add_argument(flag, default=default, help=says, **settings)  # type: ignore[arg-type]

    add("--full-scale-deg", "wheel angle of full steering (default: the format's)", type=float, metavar="DEG")
    add("--cameras", "of a three-camera log (default: centre)", choices=("centre", "all"))
    add(
        "--side-camera-correction",
        "steering added for the left and taken for the right camera (default: 0.2)",
        type=float,
        metavar="X",
    )
    add("--angle-pattern", "file names with groups drive, frame, angle; or none", metavar="REGEX")
    add("--angle-straight-deg", "angle that means straight (default: 90)", type=float, metavar="DEG")
    add("--positive", "side of growing steering as recorded (default: right)", choices=("right", "left"))
    add("--csv-steering", "steering column beside a video or pictures (default: found by name)", metavar="COLUMN")
    add("--csv-time", "time column beside a video or pictures", metavar="COLUMN")
    add("--csv-frame", "frame number column beside a video", metavar="COLUMN")
    units = ("rad", "deg", "percent", "full-scale")
    add("--csv-unit", "of that steering column (default: auto)", choices=("auto", *units))
    add("--unit", "of the steering in tubs and Udacity logs (default: full-scale)", choices=units)
    add("--autopilot", "rows of a tub that its autopilot drove (default: leave-out)", choices=("leave-out", "take"))
    add("--csv-class", "column of the classes beside pictures (default: found by name)", metavar="COLUMN")
    add("--csv-group", "column of what no split may part, such as a person", metavar="COLUMN")
    add("--group-pattern", "finds the 'group' of a picture in its name; or none", metavar="REGEX")
    group.add_argument(
        "--label",
        dest="labels",
        action="append",
        default=[],
        metavar="COLUMN",
        help="another column of numbers to read; class: folders as classes",
    )


def reader_options(arguments: argparse.Namespace) -> ReaderOptions:
    """The options of parsed flags. Raises UsageError."""
    return request_of(ReaderOptions, arguments, wished=())


READER: Part = (add_reader_arguments, reader_options)


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
    return request_of(DriveFilter, arguments)
