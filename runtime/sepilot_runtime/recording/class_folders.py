"""A folder of a folder for each class, with pictures in it, as `signs/train/stop/00012_03.png`.

Several folders of pictures may as well be several drives without labels. They are classes where somebody asks for the
label "class", as a recipe with classes or `--label class` does, and drives for everybody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sepilot_runtime.base.images import IMAGE_SUFFIXES, natural_key
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.labelled import GROUPING, as_set, in_order, require_apart, set_of, side_of
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import FileFinder, Folder
from sepilot_runtime.recording.rows import Rows

__all__ = ["CLASS_FOLDERS"]

NOT_PICTURES_ALONE = frozenset(
    {".csv", ".json", ".jsonl", ".catalog", ".xml", ".yaml", ".yml", ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}
)
"""Of files that make another format of the folder they lie in: a recording, or a set with labels of its own."""


def _find(folder: Folder) -> Iterator[Part]:
    inside = [Folder.at(folder.path / name) for name in folder.folders]
    if any(child.with_suffix(NOT_PICTURES_ALONE) for child in [folder, *inside]):
        return
    # `train` is a class beside `bus` and a side beside `val`.
    shown = [child.path.name for child in inside if child.with_suffix(IMAGE_SUFFIXES)]
    if len(shown) > 1 and not all(map(side_of, shown)):
        yield Part(path=folder.path, files=frozenset())


def _read(folder: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: two folders' names differ in nothing but case."""
    classes = in_order(Folder.at(folder).folders)
    require_apart(folder, classes)
    rows, finder = Rows(folder, options), FileFinder(folder)
    deeper = 0
    for place, name in enumerate(classes):
        inside = Folder.at(folder / name)
        deeper += len(inside.folders)
        further = [float(place) if label == "class" else float("nan") for label in rows.further]
        for file in sorted(inside.with_suffix(IMAGE_SUFFIXES), key=lambda file: natural_key(Path(file))):
            if (path := finder.find(file, below=name)) is not None:
                rows.add(f"{name}/{file}", path, further=further)
    name, side = set_of(folder)
    notes = [f"{deeper:,} folders inside of the classes': not looked into"] if deeper else []
    names = {"class": classes}
    return [as_set(rows, options, kind="class-folders", name=name, label_names=names, side=side, notes=notes)]


CLASS_FOLDERS = Format(
    what="a folder of pictures for each class",
    kinds={"class-folders": GROUPING},
    label="class",
    fills_folder=True,
    find=_find,
    read=_read,
)
