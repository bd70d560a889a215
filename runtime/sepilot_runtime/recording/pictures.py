"""Folders of pictures, with the steering angle in the file name or without any label, and plain videos."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.images import IMAGE_SUFFIXES, natural_key
from sepilot_runtime.recording.drive import NOMINAL_RATE_HZ, Drive, Rows
from sepilot_runtime.recording.frames import ImageFrames, VideoFrames, look_through
from sepilot_runtime.recording.options import ANGLE_PATTERN, ReaderOptions
from sepilot_runtime.recording.places import FileFinder, files_in

__all__ = ["VIDEO_SUFFIXES", "images_in", "read_pictures", "read_video"]

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})

ANGLE_FULL_SCALE_DEG = 45.0
"""DeepPiCar steers from 45 to 135 degrees with 90 straight ahead."""

UNLABELLED_FULL_SCALE_DEG = 25.0

COUNTER_NOTE = "the last number of the names counts frames: not taken for an angle"


def images_in(folder: Path) -> list[Path]:
    """Pictures directly in a folder, in natural order: frame 2 before frame 10.

    Raises:
        DriveError: the folder cannot be read, or one of them is a link that leads out of it.
    """
    finder = FileFinder(folder)
    found = [finder.find(path.name) for path in files_in(folder, IMAGE_SUFFIXES)]
    return sorted((path for path in found if path is not None), key=natural_key)


def read_pictures(folder: Path, paths: list[Path], options: ReaderOptions) -> list[Drive]:
    """One drive per prefix where the names hold angles, otherwise one without labels.

    A stray picture beside labelled ones is skipped; a stray match among plain pictures makes no drive of them.

    Raises:
        DriveError: no usable frame.
        UsageError: the pattern cannot be used.
    """
    pattern = _angle_pattern(options)
    if pattern is None:
        return [_read_unlabelled(folder, paths, options)]
    matches = [(path, match) for path in paths if (match := pattern.fullmatch(path.stem))]
    if len(matches) <= len(paths) / 2:
        return [_read_unlabelled(folder, paths, options)]
    if options.angle_pattern == ANGLE_PATTERN and _is_counter(matches):
        return [_read_unlabelled(folder, paths, options, note=COUNTER_NOTE)]
    return _read_angles(folder, matches, options, strays=len(paths) - len(matches))


def read_video(path: Path, options: ReaderOptions) -> Drive:
    """A video without labels: to drive over, not to train on."""
    info = look_through(path)
    rows = Rows(path, options)
    rate_hz = info.rate_hz or NOMINAL_RATE_HZ
    for number in range(info.frames):
        rows.add(str(number), number, time_s=number / rate_hz)
    if info.missing:
        rows.skip("missing at the end of the video", info.missing)
    full_scale_deg = options.full_scale(UNLABELLED_FULL_SCALE_DEG)
    return rows.drive("video", VideoFrames(path, range(info.frames)), full_scale_deg=full_scale_deg)


def _angle_pattern(options: ReaderOptions) -> re.Pattern[str] | None:
    if options.angle_pattern == "none":
        return None
    try:
        pattern = re.compile(options.angle_pattern)
    except re.error as e:
        raise UsageError(f"--angle-pattern: not a regular expression: {e}") from e
    if missing := [g for g in ("drive", "frame", "angle") if g not in pattern.groupindex]:
        raise UsageError(f"--angle-pattern: a group named {missing[0]!r} expected in {options.angle_pattern!r}")
    return pattern


def _is_counter(matches: list[tuple[Path, re.Match[str]]]) -> bool:
    """The last number counts frames: `cam_01_0042.png` fits the default pattern, too.

    Then the number before it comes again and again. A labelled folder may hold a frame twice as well, but not most.
    """
    last = [float(match["angle"]) for _, match in matches]
    frames = {(match["drive"], match["frame"]) for _, match in matches}
    counts_up = len(last) > 2 and bool(np.all(np.diff(last) == 1))
    return len(frames) <= len(matches) / 2 or counts_up


def _read_angles(
    folder: Path, matches: list[tuple[Path, re.Match[str]]], options: ReaderOptions, *, strays: int
) -> list[Drive]:
    scale = options.full_scale(ANGLE_FULL_SCALE_DEG)
    groups: dict[str, Rows] = {}
    taken: set[tuple[str, str]] = set()
    for path, match in sorted(matches, key=_by_frame):
        rows = groups.setdefault(match["drive"] or "", Rows(folder, options))
        # A pattern of the user's own may find frame numbers that start over, or none.
        if options.angle_pattern == ANGLE_PATTERN and (match["drive"], match["frame"]) in taken:
            rows.skip("second picture of a frame number")
            continue
        taken.add((match["drive"], match["frame"]))
        try:
            angle_deg = float(match["angle"])
        except (TypeError, ValueError):
            rows.skip("label is not a number")
            continue
        rows.add(path.name, path, steering=options.sign * (angle_deg - options.angle_straight_deg) / scale)
    if strays:
        next(iter(groups.values())).skip("name without an angle", strays)
    return [
        rows.drive("filename-angle", ImageFrames(rows.sources), full_scale_deg=scale, name=f"{folder.name}/{prefix}")
        for prefix, rows in groups.items()
    ]


def _by_frame(item: tuple[Path, re.Match[str]]) -> tuple[str, int, str]:
    """Sorts by drive, then by the frame's number, wherever in the name the pattern finds it."""
    path, match = item
    frame = match["frame"] or ""
    return match["drive"] or "", int(frame) if frame.isdecimal() and len(frame) < 19 else 0, path.name


def _read_unlabelled(folder: Path, paths: list[Path], options: ReaderOptions, *, note: str = "") -> Drive:
    """Pictures without labels: to drive over, not to train on."""
    rows = Rows(folder, options)
    for path in paths:
        rows.add(path.name, path)
    full_scale_deg = options.full_scale(UNLABELLED_FULL_SCALE_DEG)
    notes = (note,) if note else ()
    return rows.drive("images", ImageFrames(rows.sources), full_scale_deg=full_scale_deg, notes=notes)
