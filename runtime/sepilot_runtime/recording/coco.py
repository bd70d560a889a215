"""COCO: one JSON file with the boxes, or the key points, of a whole set of pictures.

It lies beside its pictures, beside the folders that hold them, or in `annotations/` beside those folders. Pixels are
counted from the upper left corner. Regions of crowds are no boxes and outlines are not read. A net with points says
those of one thing in a picture: the first with points is taken.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.caps import LABEL_SET_BYTES
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.files import read_json
from sepilot_runtime.base.images import IMAGE_SUFFIXES
from sepilot_runtime.base.reading import open_regular
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.geometry import Box, Tally, labelled_size, unknown, visible
from sepilot_runtime.recording.labelled import GROUPING, as_set, set_of, side_in
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import FileFinder, Folder
from sepilot_runtime.recording.rows import Rows
from sepilot_runtime.recording.udacity import find_picture

__all__ = ["COCO", "COCO_BESIDE"]

HEAD_BYTES = 1 << 14
ANNOTATIONS = "annotations"
_TABLES = re.compile(rb'"(?:images|annotations|categories)"\s*:\s*\[')


OTHER_TASKS = ("captions", "panoptic", "stuff")
"""Of COCO's own files, by how their names begin: there is no box in them."""

BOXES, POINTS = "instances", "person_keypoints"
"""Of COCO's own, two files on the same pictures."""


def _find(folder: Folder) -> Iterator[Part]:
    for inner in folder.folders:
        if inner.lower() == ANNOTATIONS:
            for name in _sets_in(Folder.at(folder.path / inner)):
                yield Part(path=folder.path / inner / name, files=frozenset())


def _find_beside(folder: Folder) -> Iterator[Part]:
    pictures = folder.with_suffix(IMAGE_SUFFIXES)
    if pictures or folder.folders or folder.path.name.lower() == ANNOTATIONS:
        names = _sets_in(folder)
        for name in names:
            yield Part(path=folder.path / name, files=frozenset([name, *pictures] if len(names) == 1 else [name]))


def _sets_in(folder: Folder) -> list[str]:
    found = []
    for name in folder.with_suffix({".json"}):
        if name.startswith(OTHER_TASKS):
            continue
        try:
            with open_regular(folder.path / name) as file:
                head = file.read(HEAD_BYTES)
        except OSError:
            continue
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and _TABLES.search(head):
            found.append(name)
    return found


def _read(path: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: it cannot be read, lacks a table, or names no picture that is there."""
    asked, other = (POINTS, BOXES) if options.asks("points") else (BOXES, POINTS)
    if path.stem.startswith(other) and path.with_name(path.name.replace(other, asked, 1)).exists():
        return []  # The same pictures, in the file beside it.
    document = read_json(path, DriveError, limit=LABEL_SET_BYTES)
    if not isinstance(document, dict):
        raise DriveError(
            f"{path}: a table with images, annotations and categories expected, found {str(document)[:40]}"
        )
    tables: list[list[Any]] = []
    for name in ("images", "annotations"):
        if not isinstance(table := document.get(name), list):
            raise DriveError(f"{path}: {name}: a list expected, found {str(table)[:40]}")
        tables.append(table)
    reader = _Reader(path, document.get("categories"))
    root = path.parent.parent if path.parent.name.lower() == ANNOTATIONS else path.parent
    return [reader.drive(root, tables[0], tables[1], options)]


class _Reader:
    def __init__(self, path: Path, categories: Any) -> None:
        """Raises DriveError: categories without names."""
        self._path, self.tally = path, Tally(path)
        listed = categories if isinstance(categories, list) else []
        if not listed or not all(isinstance(c, dict) and isinstance(c.get("name"), str) for c in listed):
            raise DriveError(
                f"{path}: categories: a list of tables with id and name expected, found {str(listed)[:40]}"
            )
        self._places = {_key(category.get("id")): place for place, category in enumerate(listed)}
        self.names = tuple(str(category["name"]) for category in listed)
        named = (c["keypoints"] for c in listed if isinstance(c.get("keypoints"), list))
        self.points = tuple(str(name) for name in next(filter(None, named), ()))

    def drive(self, root: Path, images: list[Any], annotations: list[Any], options: ReaderOptions) -> Drive:
        by_image = self._by_image(images, annotations)
        rows, finder = Rows(root, options), FileFinder(root)
        folders = self._folders(root)
        taken: set[Path] = set()
        for image in images:
            if reason := self._take(rows, finder, folders, image, by_image, taken):
                rows.skip(reason)
        beside = sum(len(Folder.at(place).with_suffix(IMAGE_SUFFIXES)) for place in {path.parent for path in taken})
        if beside > len(taken):
            self.tally.note("pictures beside those that are not listed", beside - len(taken))
        name, side = set_of(self._path.parent)
        if root != self._path.parent or not side:
            side = side_in(self._path.stem)
            name = f"{root.name}/{self._path.stem}"
        names = {"boxes": self.names} | ({"points": self.points} if self.points else {})
        return as_set(
            rows, options, kind="coco", name=name, label_names=names, side=side, notes=self.tally.notes()
        )  # fmt: skip

    def _by_image(self, images: list[Any], annotations: list[Any]) -> dict[str, list[dict[str, Any]]]:
        known = {_key(image.get("id")) for image in images if isinstance(image, dict)}
        found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for annotation in annotations:
            key = _key(annotation.get("image_id")) if isinstance(annotation, dict) else ""
            if key not in known:
                self.tally.note("annotations of pictures that are not listed")
            elif annotation.get("iscrowd"):
                self.tally.note("regions of crowds left out")
            else:
                found[key].append(annotation)
        return found

    def _folders(self, root: Path) -> list[str]:
        """Where pictures may be, those of this file's side or name first."""
        top = Folder.at(root).folders
        deeper = [
            f"{name}/{inner}" for name in top if name.lower() == "images" for inner in Folder.at(root / name).folders
        ]
        side = side_in(self._path.stem)

        def stranger(folder: str) -> bool:
            name = folder.rpartition("/")[2]
            return name not in self._path.stem and not (side and side_in(name) == side)

        here = [self._path.parent.relative_to(root).as_posix().removeprefix(".")]
        return [*here, *sorted([*top, *deeper], key=stranger)]

    def _take(
        self, rows: Rows, finder: FileFinder, folders: Sequence[str], image: Any,
        by_image: dict[str, list[dict[str, Any]]], taken: set[Path],
    ) -> str:  # fmt: skip
        """Why a picture cannot be taken, or ""."""
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            return "picture without a name"
        if ".." in name.replace("\\", "/").split("/"):  # From where a tool stood: only the last part means something.
            name = name.replace("\\", "/").rpartition("/")[2]
        picture = find_picture(finder, name, folders)
        if picture is None:
            return "missing image"
        taken.add(picture)
        size = labelled_size(picture, (_number(image.get("height")), _number(image.get("width"))))
        if isinstance(size, str):
            return size
        found = by_image.get(_key(image.get("id")), [])
        wide = {"boxes": self.tally.boxes(self._boxes(found), size)}
        if self.points:
            wide["points"] = self._points_of(found, size)
        rows.add(picture.relative_to(rows.path).as_posix(), picture, wide=wide)
        return ""

    def _boxes(self, annotations: Sequence[dict[str, Any]]) -> Iterator[Box]:
        for annotation in annotations:
            place = self._places.get(_key(annotation.get("category_id")))
            box = annotation.get("bbox")
            if place is None:
                self.tally.note("boxes left out, of a class that is not listed")
            elif not isinstance(box, list) or len(box) != 4:
                self.tally.note("boxes left out, not four numbers")
            else:
                left, top, width, height = map(_number, box)
                yield place, left, top, left + width, top + height

    def _points_of(self, annotations: Sequence[dict[str, Any]], size: tuple[float, float]) -> NDArray[np.float32]:
        """Of the first in the picture that has some."""
        found = []
        for annotation in annotations:
            values = annotation.get("keypoints")
            if isinstance(values, list) and any(map(_number, values[2::3])):
                if len(values) == 3 * len(self.points):
                    found.append(list(map(_number, values)))
                else:
                    self.tally.note(f"points left out, not {len(self.points)} times three numbers")
        if not found:
            return unknown(len(self.points))
        if len(found) > 1:
            self.tally.note("others with points in a picture left out", len(found) - 1)
        return self.tally.points(visible(found[0], 3), size)


def _key(value: Any) -> str:
    """An id, which some write as a number and others as a text."""
    return str(value)


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else float("nan")
    except OverflowError:
        return float("nan")


COCO = Format(what="COCO (annotations/*.json)", kinds={"coco": GROUPING}, fills_folder=True, find=_find, read=_read)
COCO_BESIDE = Format(what="pictures with a COCO file (.json)", kinds={"coco": GROUPING}, find=_find_beside, read=_read)
