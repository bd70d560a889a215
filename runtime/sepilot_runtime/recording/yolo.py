"""YOLO: `data.yaml` with names and folders, and beside `images/` in `labels/` a text file for each picture.

A line is the place of the class and centre x, centre y, width and height in fractions; with `kpt_shape` the points
follow. An outline (three corners or more) is taken as the box around it. An empty file means that nothing is there, and
so does one that is absent, as for those who train with this format; both are counted. Where `data.yaml` names a folder
of another machine, as much of the end of its path counts as is found here. LabelImg and Label Studio write no
`data.yaml`, but the names into `classes.txt`, beside the pictures or beside `images/`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.caps import LABEL_FILE_BYTES, RECORDING_BYTES
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.images import IMAGE_SUFFIXES, natural_key
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.recording.data_yaml import Value, read_data_yaml
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.geometry import Box, Tally, unknown, visible
from sepilot_runtime.recording.labelled import GROUPING, Side, as_set, set_of
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import FileFinder, Folder
from sepilot_runtime.recording.rows import Rows
from sepilot_runtime.recording.tables import to_number

__all__ = ["YOLO"]

SIDES: tuple[Side, ...] = ("train", "val", "test")
CLASSES = "classes.txt"
KEYS = ("path", "names", "nc", "kpt_shape", *SIDES)


def _find(folder: Folder) -> Iterator[Part]:
    for name in folder.with_suffix({".yaml", ".yml"}):
        try:
            found = read_data_yaml(folder.path / name, ("names", *SIDES))
        except DriveError:
            # `data.yaml` is the format's own name: what is wrong with it is said when it is read.
            found = {"names": "", "train": ""} if Path(name).stem == "data" else {}
        if "names" in found and not found.keys().isdisjoint(SIDES):
            yield Part(path=folder.path / name, files=frozenset({name}))
            return
    if CLASSES in folder.files:
        pictures, texts = folder.with_suffix(IMAGE_SUFFIXES), folder.with_suffix({".txt"})
        labelled = {Path(name).stem for name in pictures} & {Path(name).stem for name in texts}
        if labelled or {"images", "labels"} <= set(folder.folders):
            yield Part(path=folder.path / CLASSES, files=frozenset([*pictures, *texts]))


def _read(path: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: names or folders that cannot be read, or no usable picture."""
    root = path.parent
    if path.name == CLASSES:
        names = tuple(line.strip() for line in _text(path).splitlines() if line.strip())
        pictures = _pictures(root, None, "images" if (root / "images").is_dir() else ".")
        return [_drive(root, *set_of(root), pictures, names, (0, 0), options)]
    found = read_data_yaml(path, KEYS)
    names = _names(path, found)
    points = _points(path, found)
    sides: dict[Side, list[str]] = {}
    taken: set[str] = set()
    notes = []
    for side in SIDES:
        entries = found.get(side) or []
        entries = [entries] if isinstance(entries, str) else list(entries)
        there = [picture for entry in entries for picture in _pictures(root, found.get("path"), entry)]
        if entries and not there:
            notes.append(f"{side}: no pictures in {', '.join(entries)}")
        if again := sum(picture in taken for picture in there):
            notes.append(f"{side}: {again:,} pictures of a side before left out")
        sides[side] = [picture for picture in there if picture not in taken]
        taken |= set(there)
    if not taken:
        raise DriveError(f"{path}: folders with pictures expected beside it, found none ({'; '.join(notes)})")
    name = root.absolute().name
    drives = [_drive(root, f"{name}/{side}", side, t, names, points, options) for side, t in sides.items() if t]
    return [dataclasses.replace(drives[0], notes=(*notes, *drives[0].notes)), *drives[1:]]


def _names(path: Path, found: dict[str, Value]) -> tuple[str, ...]:
    """Of the classes, by their places. Raises DriveError: there is none, or a place without one."""
    names = found.get("names")
    if isinstance(names, dict):
        if sorted(names, key=lambda key: (len(key), key)) != [str(place) for place in range(len(names))]:
            raise DriveError(f"{path}: names: 0 to {len(names) - 1} expected, found {', '.join(names)[:60]}")
        names = [names[str(place)] for place in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DriveError(f"{path}: names: a list or a table of classes expected, found {names!r}")
    if (count := found.get("nc", "")) and count != str(len(names)):
        raise DriveError(f"{path}: nc: {len(names)} expected, as many as names, found {count}")
    return tuple(names)


def _points(path: Path, found: dict[str, Value]) -> tuple[int, int]:
    """How many points there are, of two or three numbers each; zeros without."""
    shape = found.get("kpt_shape")
    if shape is None:
        return 0, 0
    if isinstance(shape, list) and len(shape) == 2 and shape[0].isdecimal() and shape[1] in ("2", "3"):
        return min(int(shape[0]), LABEL_FILE_BYTES), int(shape[1])
    raise DriveError(f"{path}: kpt_shape: [number of points, 2 or 3] expected, found {shape}")


def _ending(root: Path, name: str) -> str | None:
    """The longest end of a path that is there below `root`."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return next((end for i in range(len(parts)) if (root / (end := "/".join(parts[i:]))).exists()), None)


def _pictures(root: Path, base: Value | None, entry: str) -> list[str]:
    """Paths below `root` of the pictures that an entry names: a folder, with those in it, or a list of files."""
    whole = f"{base}/{entry}" if isinstance(base, str) else entry
    end = _ending(root, whole) or ("" if entry in (".", "./") else None)
    if end is None:
        return []
    if (root / end).is_file():
        lines = _text(root / end).splitlines()
        return [_ending(root, line.strip()) or line.strip() for line in lines if line.strip()]
    found = []
    for folder, _, files in os.walk(root / end):
        below = Path(folder).relative_to(root).as_posix().removeprefix(".")
        found += [f"{below}/{file}".lstrip("/") for file in files if Path(file).suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found, key=lambda name: [natural_key(Path(part)) for part in name.split("/")])


def _text(path: Path) -> str:
    """Raises DriveError: it cannot be read."""
    try:
        return read_regular(path, RECORDING_BYTES).decode("utf-8-sig", "replace")
    except OSError as e:
        raise DriveError(f"{path}: cannot be read: {e.strerror or e}") from e


def _drive(
    root: Path, name: str, side: Side, pictures: Sequence[str], names: tuple[str, ...], points: tuple[int, int],
    options: ReaderOptions,
) -> Drive:  # fmt: skip
    rows, tally, finder = Rows(root, options), Tally(root), FileFinder(root)
    empty = absent = 0
    for file in pictures:
        picture = finder.find(file) if not file.startswith("/") and ".." not in file.split("/") else None
        if picture is None:
            rows.skip("missing image")
            continue
        labels = finder.find(_label_of(file))
        lines = _lines(labels) if labels else []
        if lines is None:
            rows.skip("label file that cannot be read")
            continue
        absent += labels is None
        empty += labels is not None and not lines
        boxes, shown = _labels(lines, len(names), points, tally)
        wide = {"boxes": tally.boxes(boxes)}
        if points[0]:
            wide["points"] = tally.points(shown[0]) if shown else unknown(points[0])
            tally.note("others with points in a picture left out", max(0, len(shown) - 1))
        rows.add(file, picture, wide=wide)
    if absent == len(rows):
        raise DriveError(f"{root}: a label file for one of {absent:,} pictures of {name} expected, found none")
    counts = ((absent, "pictures without a label file"), (empty, "pictures with an empty label file"))
    notes = [f"{count:,} {what}: taken as showing nothing" for count, what in counts if count]
    label_names = {"boxes": names} | ({"points": tuple(map(str, range(points[0])))} if points[0] else {})
    return as_set(
        rows, options, kind="yolo", name=name, label_names=label_names, side=side, notes=[*notes, *tally.notes()],
    )  # fmt: skip


def _label_of(picture: str) -> str:
    """`images/train/a b.jpg` has its labels in `labels/train/a b.txt`; without such a folder they lie beside it."""
    folder, _, file = picture.rpartition("/")
    parts = folder.split("/")
    if "images" in parts:
        place = len(parts) - 1 - parts[::-1].index("images")
        parts[place] = "labels"
    return "/".join([*filter(None, parts), f"{file.rpartition('.')[0]}.txt"])


def _lines(path: Path) -> list[list[str]] | None:
    try:
        text = read_regular(path, LABEL_FILE_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    return [cells for line in text.splitlines() if (cells := line.split())]


def _labels(
    lines: Sequence[Sequence[str]], classes: int, points: tuple[int, int], tally: Tally
) -> tuple[list[Box], list[NDArray[np.float64]]]:
    """The boxes, and the points of those that have some."""
    boxes: list[Box] = []
    shown = []
    count, of = points
    for cells in lines:
        place, *numbers = map(to_number, cells)
        if place not in range(classes):
            tally.note("boxes left out, of a class that is not listed")
            continue
        if len(numbers) == 4 + count * of:
            x, y, width, height = numbers[:4]
            boxes.append((int(place), x - width / 2, y - height / 2, x + width / 2, y + height / 2))
            if count and np.isfinite(found := visible(numbers[4:], of)).any():
                shown.append(found)
        elif not count and len(numbers) >= 6 and len(numbers) % 2 == 0:
            tally.note("outlines taken as the boxes around them")
            boxes.append((int(place), min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])))
        else:
            tally.note(f"boxes left out, not {5 + count * of} numbers in the line")
    return boxes, shown


YOLO = Format(
    what="YOLO (data.yaml or classes.txt)", kinds={"yolo": GROUPING}, fills_folder=True, find=_find, read=_read
)
