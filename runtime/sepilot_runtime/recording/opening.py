"""Finding out what a path holds, and reading it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepilot_runtime.base.errors import DriveError, UsageError
from sepilot_runtime.base.images import IMAGE_SUFFIXES
from sepilot_runtime.base.terminal import one_line
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format
from sepilot_runtime.recording.frames import ImageFrames
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import Folder

__all__ = ["SET_LABELS", "LeftOut", "formats", "meet", "open_apart", "open_drives"]

MAX_DEPTH = 4

SET_LABELS = frozenset({"class", "boxes", "points"})
"""What sets of labelled pictures are for, as recordings are for steering."""

LABELS = frozenset(
    {".csv", ".txt", ".xml", ".json", ".jsonl", ".tsv", ".xlsx", ".npy", ".npz", ".pkl", ".h5", ".mat", ".parquet"}
)
"""Of files that may hold the labels of the pictures or videos beside them."""


def formats() -> Iterator[Format]:
    """In the order in which they are asked what a folder holds; another reader is one file and a line here.

    Each is imported when it is asked for, so that a drive over a tub does not wait for the others.
    """
    from sepilot_runtime.recording.tubs import TUB_V1, TUB_V2

    yield TUB_V2
    yield TUB_V1
    from sepilot_runtime.recording.udacity import UDACITY

    yield UDACITY
    from sepilot_runtime.recording.voc import VOC, VOC_BESIDE

    yield VOC
    yield VOC_BESIDE
    from sepilot_runtime.recording.coco import COCO, COCO_BESIDE

    yield COCO
    yield COCO_BESIDE
    from sepilot_runtime.recording.yolo import YOLO

    yield YOLO
    from sepilot_runtime.recording.picture_tables import PICTURE_TABLES

    yield PICTURE_TABLES
    from sepilot_runtime.recording.class_folders import CLASS_FOLDERS

    yield CLASS_FOLDERS
    from sepilot_runtime.recording.pictures import PICTURES

    yield PICTURES
    from sepilot_runtime.recording.videos import VIDEOS

    yield VIDEOS


def _asked(options: ReaderOptions) -> Iterator[Format]:
    return (known for known in formats() if not known.label or options.asks(known.label))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that a search came upon and that is no recording.

    Attributes:
        failed: it looked like a recording and cannot be taken, which users of the others are told.
    """

    path: Path
    reason: str
    failed: bool = False

    def __str__(self) -> str:
        return self.reason if self.reason.startswith(str(self.path)) else f"{self.path}: {self.reason}"


def open_drives(
    paths: Sequence[Path],
    options: ReaderOptions,
    *,
    labelled: bool = False,
    told: Callable[[str], None] = lambda line: None,
) -> list[Drive]:
    """Read the recordings at `paths`, each one recording or a folder of several, in order of path.

    A recording that is reached in two ways, a video and its CSV file for one, is there once. What cannot be read in a
    folder is left out, as long as something else in it can.

    Args:
        labelled: leave out what has no steering where a folder holds something that has.
        told: gets a line for each recording that was left out.

    Raises:
        DriveError: a path that is not there, or holds no recording that can be read.
        UsageError: options that make no sense for what is there.
    """
    return open_apart(paths, (), options, labelled=labelled, told=told)[0]


def open_apart(
    train: Sequence[Path],
    judge: Sequence[Path],
    options: ReaderOptions,
    *,
    labelled: bool = True,
    told: Callable[[str], None] = lambda line: None,
) -> tuple[list[Drive], list[Drive]]:
    """Recordings to train on and others to judge on, named as `open_drives` names all of them.

    Raises:
        DriveError: as `open_drives`; or a recording stands on both sides.
        UsageError: as `open_drives`.
    """
    first, second = (
        [m for path in paths for m in _found_at(path, options, labelled=labelled)] for paths in (train, judge)
    )
    for met in (*first, *second):
        if isinstance(met, LeftOut) and met.failed:
            told(str(met))
    drives, others = _once(first), _once(second)
    if twice := drives.keys() & others.keys():
        drive = next(d for key, d in others.items() if key in twice)
        raise DriveError(f"{drive.path}: given to train on and with --val; a drive must not train and judge")
    together = _named_apart([*drives.values(), *others.values()])
    _require_acting(together, options)
    return together[: len(drives)], together[len(drives) :]


def meet(paths: Sequence[Path], options: ReaderOptions) -> tuple[list[Drive], list[LeftOut]]:
    """Everything that there is at `paths`: the recordings, named as `open_drives` names them, and what is none.

    Raises:
        DriveError, UsageError: as `open_drives`.
    """
    found = [m for path in paths for m in _found_at(path, options, labelled=False)]
    drives = _named_apart(list(_once(found).values()))
    _require_acting(drives, options)
    return drives, [m for m in found if isinstance(m, LeftOut)]


def _found_at(path: Path, options: ReaderOptions, *, labelled: bool) -> list[Drive | LeftOut]:
    """Raises DriveError: nothing there can be read, for the first reason."""
    if not path.exists():
        raise DriveError(f"{path}: no such file or folder")
    if not path.is_file() and not path.is_dir():
        raise DriveError(f"{path}: a file or a folder expected, found something else")
    found = list(_file(path, options) if path.is_file() else _search(path, options, MAX_DEPTH))
    if not any(isinstance(m, Drive) for m in found):
        if failed := [m for m in found if isinstance(m, LeftOut) and m.failed]:
            more = f" (and {len(failed) - 1} more that cannot be read)" if len(failed) > 1 else ""
            raise DriveError(f"{failed[0]}{more}")
        what = ", ".join(known.what for known in formats())
        depth = "" if path.is_file() else f" (looked {MAX_DEPTH} folders deep)"
        raise DriveError(f"{path}: {what}, or a folder of these expected, found none{depth}")
    asked = SET_LABELS.intersection(options.labels) or {"steering"}
    sets = {folder for m in found if isinstance(m, Drive) and m.label_names for folder in _folders(m)}
    answered = any(isinstance(m, Drive) and _answers(m, asked) for m in found)
    if sets or answered:
        found = [_beside_labelled(m, asked, sets, labelled=labelled and answered) for m in found]
    return found


def _answers(drive: Drive, asked: Iterable[str]) -> bool:
    """It knows one of the labels that somebody learns from."""
    return any(name in drive.labels and not np.isnan(drive.labels[name]).all() for name in asked)


def _folders(drive: Drive) -> set[str]:
    return drive.frames.folders() if isinstance(drive.frames, ImageFrames) else set()


def _beside_labelled(
    met: Drive | LeftOut, asked: Collection[str], sets: Collection[str], *, labelled: bool
) -> Drive | LeftOut:
    """A contact sheet or a photograph of the track beside recordings is none itself, nor are the pictures of a set."""
    if isinstance(met, LeftOut) or _answers(met, asked) or not (labelled or met.kind == "images"):
        return met
    if met.kind == "images" and str(met.path) in sets:
        return LeftOut(path=met.path, reason="pictures of a set that is taken")
    what = "labels" if "steering" in asked else f"the label {' or '.join(map(repr, sorted(asked)))}"
    return LeftOut(path=met.path, reason=f"{met.kind} without {what} beside recordings with labels", failed=labelled)


def _file(path: Path, options: ReaderOptions) -> Iterator[Drive | LeftOut]:
    """The recording that a file is part of."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        from sepilot_runtime.recording.pictures import read_pictures

        yield from read_pictures(path.parent, [path], options)
        return
    folder = Folder.at(path.parent)
    for known in _asked(options):
        for part in known.find(folder):
            if path.name in part.files:
                yield from known.read(part.path, options)
                return


def _search(path: Path, options: ReaderOptions, depth: int) -> Iterator[Drive | LeftOut]:
    try:
        folder = Folder.at(path)
        taken: set[str] = set()
        for known in _asked(options):
            filled = False
            for part in known.find(folder):
                if part.files & taken:
                    continue  # It is what the format before says it is.
                taken |= part.files
                filled = known.fills_folder
                yield from _read(known, part.path, options)
            if filled:
                return
    except DriveError as e:
        yield LeftOut(path=path, reason=str(e), failed=True)
        return
    yield from _unknown(folder, taken)
    for name in folder.folders:
        if depth:
            yield from _search(path / name, options, depth - 1)
        else:
            yield LeftOut(path=path / name, reason=f"not looked into: more than {MAX_DEPTH} folders deep")


def _read(known: Format, path: Path, options: ReaderOptions) -> Iterator[Drive | LeftOut]:
    try:
        yield from known.read(path, options)
    except DriveError as e:
        yield LeftOut(path=path, reason=str(e), failed=True)


def _unknown(folder: Folder, taken: set[str]) -> Iterator[LeftOut]:
    """Files that no reader knows, a line for each kind of them."""
    by_suffix: dict[str, list[str]] = {}
    for name in sorted(folder.files - taken):
        by_suffix.setdefault(Path(name).suffix.lower(), []).append(name)
    for suffix, names in by_suffix.items():
        others = f" (and {len(names) - 1:,} more {suffix or 'files without a suffix'})" if len(names) > 1 else ""
        # Whoever trains on pictures without labels may have meant these.
        missed = bool(taken) and suffix in LABELS
        yield LeftOut(path=folder.path / names[0], reason=f"no reader knows it{others}", failed=missed)


def _once(found: Sequence[Drive | LeftOut]) -> dict[tuple[Path, str], Drive]:
    """The recordings by what makes them one and the same: where they lie, and their name there."""
    drives: dict[tuple[Path, str], Drive] = {}
    for met in found:
        if isinstance(met, Drive):
            drives.setdefault((met.path.resolve(), met.id), met)
    return drives


def _require_acting(drives: Sequence[Drive], options: ReaderOptions) -> None:
    """Refuse an option that no reader here goes by: whoever gives it thinks that it does something."""
    if not options.given:
        return
    going_by = {kind: names for known in formats() for kind, names in known.kinds.items()}
    kinds = sorted({drive.kind for drive in drives})
    for name in options.given:
        if not any(name in going_by[kind] for kind in kinds):
            flag = f"--label {' '.join(options.labels)}" if name == "labels" else f"--{name.replace('_', '-')}"
            able = ", ".join(kind for kind, names in going_by.items() if name in names)
            classes = "; pictures lie in a folder for each of two classes or more" if "class" in options.labels else ""
            raise UsageError(f"{flag}: for drives of the kind {able}, found {', '.join(kinds)}{classes}")


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
