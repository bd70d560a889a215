"""Folders of pictures: with the steering angle in the file name, or without any label."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.images import IMAGE_SUFFIXES, natural_key
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.frames import ImageFrames
from sepilot_runtime.recording.options import ANGLE_PATTERN, ReaderOptions
from sepilot_runtime.recording.places import FileFinder, Folder
from sepilot_runtime.recording.rows import Rows

__all__ = ["PICTURES", "read_pictures"]

ANGLE_FULL_SCALE_DEG = 45.0
"""DeepPiCar steers from 45 to 135 degrees with 90 straight ahead."""

UNLABELLED_FULL_SCALE_DEG = 25.0

COUNTER_NOTE = "the last number of the names counts frames: not taken for an angle"


def _find_pictures(folder: Folder) -> Iterator[Part]:
    if names := folder.with_suffix(IMAGE_SUFFIXES):
        yield Part(path=folder.path, files=frozenset(names))


def _read_folder(folder: Path, options: ReaderOptions) -> list[Drive]:
    finder = FileFinder(folder)
    found = [finder.find(name) for name in Folder.at(folder).with_suffix(IMAGE_SUFFIXES)]
    return read_pictures(folder, sorted((path for path in found if path is not None), key=natural_key), options)


def read_pictures(folder: Path, paths: list[Path], options: ReaderOptions) -> list[Drive]:
    """One drive per prefix where the names hold angles, otherwise one without labels.

    A stray picture beside labelled ones is skipped; a stray match among plain pictures makes no drive of them.

    Args:
        paths: in natural order, frame 2 before frame 10.

    Raises:
        DriveError: no usable frame.
        UsageError: the pattern cannot be used.
    """
    pattern = _angle_pattern(options)
    matches = [(path, match) for path in paths if pattern and (match := pattern.fullmatch(path.stem))]
    if len(matches) <= len(paths) / 2:
        return [_read_unlabelled(folder, paths, options)]
    if options.angle_pattern == ANGLE_PATTERN and _is_counter(matches):
        return [_read_unlabelled(folder, paths, options, note=COUNTER_NOTE)]
    return _read_angles(folder, matches, options, strays=len(paths) - len(matches))


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
        rows.drive(
            "filename-angle",
            ImageFrames,
            full_scale_deg=scale,
            name=f"{folder.name}/{prefix}",
            unit_flags="--angle-straight-deg and --full-scale-deg",
        )
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
    # Udacity's simulator puts three cameras into one folder; only the middle one looks where the car goes.
    shown = [path for path in paths if path.name.startswith("center_")] or paths
    for path in shown:
        rows.add(path.name, path)
    if len(shown) < len(paths):
        rows.skip("picture of a side camera", len(paths) - len(shown))
    full_scale_deg = options.full_scale(UNLABELLED_FULL_SCALE_DEG)
    return rows.drive("images", ImageFrames, full_scale_deg=full_scale_deg, notes=(note,) if note else ())


PICTURES = Format(
    what="pictures",
    kinds={
        "filename-angle": frozenset({"full_scale_deg", "positive", "angle_pattern", "angle_straight_deg"}),
        "images": frozenset({"full_scale_deg", "angle_pattern"}),
    },
    find=_find_pictures,
    read=_read_folder,
)
