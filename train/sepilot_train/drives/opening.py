"""Finding out what a path holds, and reading it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from sepilot_runtime.errors import DriveError
from sepilot_train.drives.drive import Drive
from sepilot_train.drives.options import ReaderOptions
from sepilot_train.drives.pictures import (
    VIDEO_SUFFIXES,
    angle_pattern,
    images_in,
    read_angle_names,
    read_images,
    read_video,
)
from sepilot_train.drives.tubs import read_tub_v1, read_tub_v2
from sepilot_train.drives.udacity import LOG_NAME, read_udacity
from sepilot_train.drives.video_csv import csv_beside, read_video_csv, video_beside

__all__ = ["open_drives"]

KNOWN = (
    "a Donkeycar tub (manifest.json or record_*.json), a Udacity log (driving_log.csv), pictures, a video, "
    "a video with a CSV file, or a folder of these"
)

MAX_DEPTH = 4


def open_drives(paths: Sequence[Path], options: ReaderOptions) -> list[Drive]:
    """Read the recordings at `paths`, each one recording or a folder of several, in order of path.

    Raises:
        DriveError: a path that is not there, holds no recording, or holds a broken one.
    """
    found: list[Drive] = []
    for path in paths:
        if not path.exists():
            raise DriveError(f"{path}: no such file or folder")
        here = _open(path, options, MAX_DEPTH)
        if not here:
            raise DriveError(f"{path}: {KNOWN} expected, found none")
        found += here
    return _named_apart(found)


def _open(path: Path, options: ReaderOptions, depth: int) -> list[Drive]:
    if path.is_file():
        return _open_file(path, options)
    for test, read in _FOLDERS:
        if test(path):
            return read(path, options)
    drives = [d for video in _videos(path) for d in _open_file(video, options)]
    if depth:
        for child in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
            drives += _open(child, options, depth - 1)
    return drives


def _open_file(path: Path, options: ReaderOptions) -> list[Drive]:
    suffix = path.suffix.lower()
    if path.name == LOG_NAME:
        return [read_udacity(path, options)]
    if suffix in VIDEO_SUFFIXES:
        table = csv_beside(path)
        return [read_video_csv(path, table, options) if table else read_video(path, options)]
    if suffix == ".csv":
        video = video_beside(path)
        if video is None:
            raise DriveError(f"{path}: a video of the same name beside it expected, found none")
        return [read_video_csv(video, path, options)]
    if path.name == "manifest.json":
        return [read_tub_v2(path.parent, options)]
    return []


def _read_pictures(folder: Path, options: ReaderOptions) -> list[Drive]:
    paths = images_in(folder)
    pattern = angle_pattern(options)
    matching = [p for p in paths if pattern is not None and pattern.fullmatch(p.stem)]
    # A stray picture beside labelled ones is skipped; a stray match among plain pictures makes no drive of them.
    if pattern is not None and len(matching) > len(paths) / 2:
        return read_angle_names(folder, paths, pattern, options)
    return [read_images(folder, paths, options)]


_FOLDERS: tuple[tuple[Callable[[Path], bool], Callable[[Path, ReaderOptions], list[Drive]]], ...] = (
    (lambda p: (p / "manifest.json").is_file(), lambda p, o: [read_tub_v2(p, o)]),
    (lambda p: any(p.glob("record_*.json")), lambda p, o: [read_tub_v1(p, o)]),
    (lambda p: (p / LOG_NAME).is_file(), lambda p, o: [read_udacity(p / LOG_NAME, o)]),
    (lambda p: bool(images_in(p)), _read_pictures),
)


def _videos(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())


def _named_apart(drives: list[Drive]) -> list[Drive]:
    """Drives of one name get their parent folders' names in front, as far as is needed."""
    names = [d.id for d in drives]
    for level in range(1, 8):
        twice = {n for n in names if names.count(n) > 1}
        if not twice:
            break
        for i, drive in enumerate(drives):
            parents = drive.path.resolve().parents
            if names[i] in twice and level <= len(parents):
                names[i] = f"{parents[level - 1].name}/{names[i]}"
    return [dataclasses.replace(d, id=n) for d, n in zip(drives, names, strict=True)]
