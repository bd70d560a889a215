"""Folders of pictures: with a table of labels, with the steering angle in the file name, or without any label.

A table is a CSV or text file with a row for each picture: `labels.csv` with the columns filename and steering, or
`data.txt` with `0.jpg 0.00` in its lines. Where it says nothing else, its names are looked for beside it and in the
folders next to it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sepilot_runtime.base.errors import DriveError, UsageError
from sepilot_runtime.base.images import IMAGE_SUFFIXES, natural_key
from sepilot_runtime.recording import tables
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.frames import ImageFrames
from sepilot_runtime.recording.options import ANGLE_PATTERN, ReaderOptions
from sepilot_runtime.recording.places import FileFinder, Folder
from sepilot_runtime.recording.rows import Rows
from sepilot_runtime.recording.tables import Table, open_table, read_rows
from sepilot_runtime.recording.udacity import find_picture

__all__ = ["PICTURES", "PICTURE_TABLES", "read_pictures"]

ANGLE_FULL_SCALE_DEG = 45.0
"""DeepPiCar steers from 45 to 135 degrees with 90 straight ahead."""

TABLE_FULL_SCALE_DEG = 25.0
UNLABELLED_FULL_SCALE_DEG = 25.0

COUNTER_NOTE = "the last number of the names counts frames: not taken for an angle"


def _find_tables(folder: Folder) -> Iterator[Part]:
    """Tables that name pictures; those of videos do not."""
    for name in folder.with_suffix({".csv", ".txt"}):
        if folder.with_suffix(IMAGE_SUFFIXES) or folder.folders:
            try:
                first = read_rows(folder.path / name, 2)[-1:]
            except DriveError:  # No table; whoever lists what lies there says so.
                continue
            if any(_is_picture(cell) for row in first for cell in row):
                yield Part(path=folder.path / name, files=frozenset({name}))


def _read_table(path: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: no column of the steering, a unit that cannot be told, or no usable row."""
    table = open_table(path)
    scale = options.full_scale(TABLE_FULL_SCALE_DEG)
    rows = Rows(path.parent, options)
    labels, note = table.labels(_by_place(table, options), scale, rows.further)
    seconds = table.seconds(options)
    finder, folders = FileFinder(path.parent), Folder.at(path.parent).folders
    names = next((cells for cells in table.columns.values() if _is_picture(next(filter(None, cells), ""))), [])
    for row, name in enumerate(names):
        picture = find_picture(finder, name, folders)
        if picture is None:
            rows.skip("missing image" if name else "row without an image")
            continue
        time_s = np.nan if seconds is None else float(seconds[row])
        steering, throttle, *further = labels[row]
        rows.add(picture.name, picture, time_s=time_s, steering=steering, throttle=throttle, further=further)
    return [
        rows.drive(
            "picture-csv", ImageFrames, full_scale_deg=scale, name=f"{path.parent.name}/{path.stem}", notes=(note,)
        )
    ]


def _by_place(table: Table, options: ReaderOptions) -> ReaderOptions:
    """Of a table without a header that has two columns, the one without the names is the steering."""
    if options.csv_steering or list(table.columns) != ["1", "2"]:
        return options
    return dataclasses.replace(options, csv_steering="1" if _is_picture(table.columns["2"][0]) else "2")


def _is_picture(cell: str) -> bool:
    return cell.lower().endswith(tuple(IMAGE_SUFFIXES))


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


PICTURE_TABLES = Format(
    what="pictures with a table (.csv, .txt)",
    kinds={"picture-csv": tables.OPTIONS},
    find=_find_tables,
    read=_read_table,
)

PICTURES = Format(
    what="pictures",
    kinds={
        "filename-angle": frozenset({"full_scale_deg", "positive", "angle_pattern", "angle_straight_deg"}),
        "images": frozenset({"full_scale_deg", "angle_pattern"}),
    },
    find=_find_pictures,
    read=_read_folder,
)
