"""What sets of labelled pictures have in common: sides, groups, and classes that nobody shows."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.images import natural_key
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.rows import Rows

__all__ = [
    "FULL_SCALE_DEG",
    "GROUPING",
    "Side",
    "as_set",
    "in_order",
    "quoted",
    "require_apart",
    "set_of",
    "side_in",
    "side_of",
]

Side = Literal["", "train", "val", "test"]

GROUPING = frozenset({"labels", "group_pattern"})
"""The reader's options that every set goes by."""

FULL_SCALE_DEG = 25.0
"""Of pictures without steering, as of others without labels."""

FEWEST_GROUPS = 3

_SIDES: dict[str, Side] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_YEAR = re.compile(r"\d{4}$")
_COUNTED = re.compile(r"(?P<group>.+)_\d+")


def side_of(name: str) -> Side:
    """Of a folder or a list by its whole name: `train`, `valid`, `test2017`, in any case."""
    return _SIDES.get(_YEAR.sub("", name.lower()), "")


def side_in(stem: str) -> Side:
    """Of a file by one of the words in its name: `instances_val2017`."""
    return next((side for word in re.split(r"[_\-. ]+", stem) if (side := side_of(word))), "")


def set_of(folder: Path) -> tuple[str, Side]:
    """Name and side of the set that a folder holds: `signs/train` where the folder is a side of one."""
    side = side_of(folder.name)
    return (f"{folder.absolute().parent.name}/{folder.name}" if side else folder.name), side


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Each name once, `class 2` before `class 10`."""
    return tuple(sorted(set(names), key=lambda name: natural_key(Path(name))))


def require_apart(where: Path, names: Sequence[str]) -> None:
    """Raises DriveError: two classes' names differ in nothing but case."""
    by_lower: dict[str, str] = {}
    for name in names:
        if (other := by_lower.setdefault(name.lower(), name)) != name:
            raise DriveError(f"{where}: the classes {other!r} and {name!r} differ in case only; one class or two?")


def as_set(
    rows: Rows,
    options: ReaderOptions,
    *,
    kind: str,
    name: str,
    label_names: Mapping[str, tuple[str, ...]],
    side: Side = "",
    group_column: str = "",
    notes: Sequence[str] = (),
) -> Drive:
    """The set of the pictures in `rows`, whose sources are image files, with their groups. Raises DriveError."""
    from sepilot_runtime.recording.frames import ImageFrames

    drive = rows.drive(kind, ImageFrames, full_scale_deg=FULL_SCALE_DEG, name=name, notes=notes, timed=False)
    drive = dataclasses.replace(drive, label_names=label_names, side=side)
    groups, how = _groups(drive, options, group_column)
    return dataclasses.replace(drive, groups=groups, notes=(*drive.notes, *_absent(drive), how))


def quoted(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, for a message."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _absent(drive: Drive) -> list[str]:
    notes = []
    for label in ("class", "boxes"):
        if label in drive.label_names:
            values = drive.labels[label] if label == "class" else drive.labels[label][..., 0]
            shown = set(values[values >= 0].astype(int).tolist())
            if absent := [name for place, name in enumerate(drive.label_names[label]) if place not in shown]:
                notes.append(f"no example of {quoted(absent)}")
    return notes


def _groups(drive: Drive, options: ReaderOptions, column: str) -> tuple[tuple[str, ...], str]:
    """Of each picture, its own name where nothing groups it; and how they were found."""
    if drive.groups:
        groups = tuple(group or name for group, name in zip(drive.groups, drive.names, strict=True))
        return groups, f"{len(set(groups)):,} groups by column {column!r}"
    given = options.group_pattern
    how = "every picture is its own group"
    if given == "none":
        return drive.names, how
    pattern = re.compile(given) if given else _COUNTED
    folders, found = [], []
    for name in drive.names:
        folder, _, file = name.rpartition("/")
        stem = file.rpartition(".")[0]
        match = pattern.search(stem) if given else pattern.fullmatch(stem)
        folders.append(folder)
        found.append(f"{folder}/{match['group']}" if match and match["group"] else "")
    if not (any(found) if given else _groups_most(folders, found)):
        return drive.names, how
    groups = tuple(group.lstrip("/") or name for group, name in zip(found, drive.names, strict=True))
    by = "by --group-pattern" if given else "by what stands before the last _ in the names"
    alone = found.count("")
    return groups, f"{len(set(groups)):,} groups {by}" + (f", {alone:,} pictures on their own" if alone else "")


def _groups_most(folders: Sequence[str], groups: Sequence[str]) -> bool:
    """The names of at least half of the folders, which may be classes, tell three groups or more, and not all alone."""
    sizes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for folder, group in zip(folders, groups, strict=True):
        sizes[folder][group] += 1
    for of_folder in sizes.values():
        of_folder.pop("", None)
    good = [len(of) >= FEWEST_GROUPS and max(of.values()) > 1 for of in sizes.values()]
    return bool(np.mean(good) >= 0.5)
