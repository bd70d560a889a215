"""Finding out what a path holds, and reading it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.images import IMAGE_SUFFIXES
from sepilot_runtime.base.terminal import one_line
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.pictures import VIDEO_SUFFIXES, images_in, read_pictures, read_video
from sepilot_runtime.recording.places import children_of, files_in
from sepilot_runtime.recording.tubs import is_tub_v1, is_tub_v2, read_tub_v1, read_tub_v2
from sepilot_runtime.recording.udacity import LOG_NAME, read_udacity
from sepilot_runtime.recording.video_csv import csv_beside, read_video_csv, video_beside

__all__ = ["open_apart", "open_drives"]

KNOWN = (
    "a Donkeycar tub (manifest.json or record_*.json), a Udacity log (driving_log.csv), pictures, a video, "
    "a video with a CSV file, or a folder of these"
)

MAX_DEPTH = 4


def open_drives(paths: Sequence[Path], options: ReaderOptions) -> list[Drive]:
    """Read the recordings at `paths`, each one recording or a folder of several, in order of path.

    A recording that is reached in two ways, a video and its CSV file for one, is there once.

    Raises:
        DriveError: a path that is not there, holds no recording, or holds a broken one.
        UsageError: options that make no sense for what is there.
    """
    return _named_apart(list(_found_at(paths, options).values()))


def open_apart(train: Sequence[Path], judge: Sequence[Path], options: ReaderOptions) -> tuple[list[Drive], list[Drive]]:
    """Recordings to train on and others to judge on, named as `open_drives` names all of them.

    Raises:
        DriveError: as `open_drives`; or a recording stands on both sides.
        UsageError: as `open_drives`.
    """
    first, second = (_found_at(paths, options) for paths in (train, judge))
    if twice := first.keys() & second.keys():
        drive = next(d for key, d in second.items() if key in twice)
        raise DriveError(f"{drive.path}: given to train on and with --val; a drive must not train and judge")
    together = _named_apart([*first.values(), *second.values()])
    return together[: len(first)], together[len(first) :]


def _found_at(paths: Sequence[Path], options: ReaderOptions) -> dict[tuple[Path, str], Drive]:
    """The recordings by what makes them one and the same: where they lie, and their name there."""
    found: dict[tuple[Path, str], Drive] = {}
    for path in paths:
        if not path.exists():
            raise DriveError(f"{path}: no such file or folder")
        if not path.is_file() and not path.is_dir():
            raise DriveError(f"{path}: a file or a folder expected, found something else")
        here = _open_file(path, options) if path.is_file() else _open_folder(path, options, MAX_DEPTH)
        if not here:
            raise DriveError(f"{path}: {KNOWN} expected, found none")
        for drive in here:
            found.setdefault((drive.path.resolve(), drive.id), drive)
    return found


def _open_file(path: Path, options: ReaderOptions) -> list[Drive]:
    suffix = path.suffix.lower()
    if path.name == "manifest.json":
        return [read_tub_v2(path.parent, options)]
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
    if suffix in IMAGE_SUFFIXES:
        return read_pictures(path.parent, [path], options)
    return []


def _open_folder(path: Path, options: ReaderOptions, depth: int) -> list[Drive]:
    if is_tub_v2(path):
        return [read_tub_v2(path, options)]
    if is_tub_v1(path):
        return [read_tub_v1(path, options)]
    if (path / LOG_NAME).is_file():
        return [read_udacity(path / LOG_NAME, options)]
    drives = [d for video in sorted(files_in(path, VIDEO_SUFFIXES)) for d in _open_file(video, options)]
    if depth:
        drives += [d for child in children_of(path) for d in _open_folder(child, options, depth - 1)]
    pictures = images_in(path)
    beside = read_pictures(path, pictures, options) if pictures else []
    # A contact sheet or a photograph of the track beside recordings is none itself.
    if any(d.has("steering") for d in drives):
        beside = [d for d in beside if d.has("steering")]
    return beside + drives


def _named_apart(drives: list[Drive]) -> list[Drive]:
    """Drives of one name get their parent folders' names in front, as far as is needed, then numbers."""
    names = [d.id for d in drives]
    for level in range(8):
        for i in _repeated(names):
            parents = drives[i].path.resolve().parents
            if level < len(parents) and parents[level].name:
                names[i] = f"{parents[level].name}/{names[i]}"
    for number, i in enumerate(_repeated(names), 1):
        names[i] = f"{names[i]}#{number}"
    # They go onto terminals and into model files.
    return [dataclasses.replace(d, id=one_line(n)) for d, n in zip(drives, names, strict=True)]


def _repeated(names: Sequence[str]) -> list[int]:
    """Positions of the names that are there more than once."""
    counts = Counter(names)
    return [i for i, name in enumerate(names) if counts[name] > 1]
