"""Folders of pictures, with the steering angle in the file name or without any label, and plain videos."""

from __future__ import annotations

import re
from pathlib import Path

from sepilot_runtime.errors import UsageError
from sepilot_train.drives.drive import NOMINAL_RATE_HZ, Drive, Rows
from sepilot_train.drives.frames import ImageFrames, VideoFrames, video_length
from sepilot_train.drives.options import ReaderOptions

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "angle_pattern", "images_in", "read_angle_names", "read_images", "read_video"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")

ANGLE_FULL_SCALE_DEG = 45.0
"""DeepPiCar steers from 45 to 135 degrees with 90 straight ahead."""

UNLABELLED_FULL_SCALE_DEG = 25.0


def images_in(folder: Path) -> list[Path]:
    """Pictures directly in a folder, in natural order: frame 2 before frame 10."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    return sorted(found, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)])


def angle_pattern(options: ReaderOptions) -> re.Pattern[str] | None:
    """The compiled pattern; None when angles in file names are switched off.

    Raises:
        UsageError: not a regular expression, or without the groups drive, frame and angle.
    """
    if options.angle_pattern == "none":
        return None
    try:
        pattern = re.compile(options.angle_pattern)
    except re.error as e:
        raise UsageError(f"--angle-pattern: not a regular expression: {e}") from e
    if missing := [g for g in ("drive", "frame", "angle") if g not in pattern.groupindex]:
        raise UsageError(f"--angle-pattern: a group named {missing[0]!r} expected in {options.angle_pattern!r}")
    return pattern


def read_angle_names(folder: Path, paths: list[Path], pattern: re.Pattern[str], options: ReaderOptions) -> list[Drive]:
    """One drive per prefix; names that do not match are counted with the first."""
    scale = options.full_scale(ANGLE_FULL_SCALE_DEG)
    groups: dict[str, Rows] = {}
    others = 0
    for path in paths:
        match = pattern.fullmatch(path.stem)
        if match is None:
            others += 1
            continue
        rows = groups.setdefault(match["drive"], Rows(folder))
        angle = float(match["angle"])
        rows.add(path.name, path, steering=options.sign * (angle - options.angle_straight_deg) / scale)
    if others:
        next(iter(groups.values())).skip("name without an angle", others)
    return [
        rows.drive("filename-angle", ImageFrames(rows.sources), full_scale_deg=scale, name=f"{folder.name}/{prefix}")
        for prefix, rows in groups.items()
    ]


def read_images(folder: Path, paths: list[Path], options: ReaderOptions) -> Drive:
    """Pictures without labels: to drive over, not to train on."""
    rows = Rows(folder)
    for path in paths:
        rows.add(path.name, path)
    return rows.drive("images", ImageFrames(paths), full_scale_deg=options.full_scale(UNLABELLED_FULL_SCALE_DEG))


def read_video(path: Path, options: ReaderOptions) -> Drive:
    """A video without labels: to drive over, not to train on."""
    count, rate = video_length(path)
    rows = Rows(path)
    for number in range(count):
        rows.add(str(number), number, time_s=number / (rate or NOMINAL_RATE_HZ))
    return rows.drive(
        "video", VideoFrames(path, range(count)), full_scale_deg=options.full_scale(UNLABELLED_FULL_SCALE_DEG)
    )
