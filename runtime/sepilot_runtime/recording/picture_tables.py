"""Pictures with a table of labels: a CSV or text file with a row for each.

`labels.csv` with the columns filename and steering, `data.txt` with `0.jpg 0.00` in its lines, `signs.csv` with image
and class, `faces.csv` with image, x0, y0, x1, y1, … Where it says nothing else, its names are looked for beside it and
in the folders next to it. A column of classes is read where somebody asks for the label "class", columns of points also
where there is neither steering nor a class.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.images import IMAGE_SUFFIXES
from sepilot_runtime.recording import tables
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.frames import ImageFrames
from sepilot_runtime.recording.geometry import Tally, labelled_size
from sepilot_runtime.recording.labelled import GROUPING, as_set, in_order, require_apart, side_in, side_of
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import FileFinder, Folder
from sepilot_runtime.recording.rows import Rows
from sepilot_runtime.recording.tables import STEERING, Table, open_table, read_rows
from sepilot_runtime.recording.udacity import find_picture

__all__ = ["PICTURE_TABLES"]

FULL_SCALE_DEG = 25.0

_X = re.compile(r"(?:([^xX].*_)|)([xX])(_?\w*|)")

CLASS = ("class", "label", "category")
GROUP = ("group", "track", "person", "subject", "drive")


def _find(folder: Folder) -> Iterator[Part]:
    """Tables that name pictures; those of videos do not."""
    for name in folder.with_suffix({".csv", ".txt"}):
        if folder.with_suffix(IMAGE_SUFFIXES) or folder.folders:
            try:
                first = read_rows(folder.path / name, 2)[-1:]
            except DriveError:  # No table; whoever lists what lies there says so.
                continue
            if any(_is_picture(cell) for row in first for cell in row):
                yield Part(path=folder.path / name, files=frozenset({name}))


def _read(path: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: no column of what is asked for, a unit that cannot be told, or no usable row."""
    table = open_table(path)
    if options.csv_class and not options.asks("class"):
        options = options.wishing([*options.wished, "class"])
    beside = _beside(table, options)
    rows, tally = Rows(path.parent, options), Tally(path)
    values, notes = _values(table, beside, options, rows.further)
    seconds = table.seconds(options)
    for row, picture in _pictures(table, rows, ordered=not beside.steered):
        steering, throttle, *further = values[row]
        wide: dict[str, NDArray[np.float32]] = {}
        if beside.points is not None:
            size = (1.0, 1.0) if beside.in_fractions else labelled_size(picture, None)
            if isinstance(size, str):
                rows.skip(size)
                continue
            wide["points"] = tally.points(beside.points[row], size)
        if not beside.steered and beside.classes and math.isnan(beside.places[row]):
            rows.skip("row without a class")
            continue
        rows.add(
            picture.name,
            picture,
            time_s=math.nan if seconds is None else float(seconds[row]),
            steering=steering if beside.steered else None,
            throttle=throttle,
            further=further,
            wide=wide,
            group=beside.groups[row] or picture.name if beside.groups else "",
        )
    return [_finished(path, rows, beside, options, [*notes, *tally.notes()])]


def _finished(path: Path, rows: Rows, beside: _Beside, options: ReaderOptions, notes: Sequence[str]) -> Drive:
    name, kind = f"{path.parent.name}/{path.stem}", "picture-csv"
    names = {label: known for label, known in (("class", beside.classes), ("points", beside.names)) if known}
    if not beside.steered:
        return as_set(
            rows, options, kind=kind, name=name, label_names=names, group_column=beside.group_column, notes=notes,
            side=side_in(path.stem) or side_of(path.parent.name),
        )  # fmt: skip
    scale = options.full_scale(FULL_SCALE_DEG)
    drive = rows.drive(kind, ImageFrames, full_scale_deg=scale, name=name, notes=notes)
    return dataclasses.replace(drive, label_names=names)


def _pictures(table: Table, rows: Rows, *, ordered: bool) -> Iterator[tuple[int, Path]]:
    """Places of the rows whose picture is there; the others are skipped.

    Args:
        ordered: look first into a folder of the table's own name or side.
    """
    path = table.path
    finder, folders = FileFinder(path.parent), Folder.at(path.parent).folders
    if ordered:
        side = side_in(path.stem)
        own = [name for name in folders if name.lower() == path.stem.lower() or (side and side_of(name) == side)]
        folders = (*own, *(name for name in folders if name not in own))
    names = next((cells for cells in table.columns.values() if _is_picture(next(filter(None, cells), ""))), [])
    for row, name in enumerate(names):
        picture = find_picture(finder, name, folders)
        if picture is None:
            rows.skip("missing image" if name else "row without an image")
        else:
            yield row, picture


def _values(
    table: Table, beside: _Beside, options: ReaderOptions, further: Sequence[str]
) -> tuple[list[list[float]], list[str]]:
    """Of each row the steering, the throttle and the numbers `further`; and how the steering was read."""
    if beside.steered:
        values, note = table.labels(_by_place(table, options), options.full_scale(FULL_SCALE_DEG), further)
        notes = [note]
    else:
        nothing = np.full(len(table), np.nan)
        columns = [table.numbers(name) for name in further]
        values, notes = np.stack([nothing, nothing, *columns], axis=1).tolist(), []
    if beside.classes and "class" in further:
        at = 2 + further.index("class")
        for row, place in zip(values, beside.places, strict=True):
            row[at] = place
    return values, notes


def _by_place(table: Table, options: ReaderOptions) -> ReaderOptions:
    """Of a table without a header that has two columns, the one without the names is the steering."""
    if options.csv_steering or list(table.columns) != ["1", "2"]:
        return options
    return dataclasses.replace(options, csv_steering="1" if _is_picture(table.columns["2"][0]) else "2")


def _is_picture(cell: str) -> bool:
    return cell.lower().endswith(tuple(IMAGE_SUFFIXES))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Beside:
    """What a table says besides steering.

    Attributes:
        steered: it is a recording with steering, or there is nothing else that it could be.
        classes: names; none without such a column.
        places: of each row's class, NaN where its cell is empty.
        names: of points; none without.
        points: (rows, points, 2), x and y as they stand there.
        in_fractions: of the picture, as none is more than a pixel from its corner.
        groups: of each row; none without such a column.
        group_column: its name.
    """

    steered: bool
    classes: tuple[str, ...] = ()
    places: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    points: NDArray[np.float64] | None = None
    in_fractions: bool = False
    groups: tuple[str, ...] = ()
    group_column: str = ""


def _beside(table: Table, options: ReaderOptions) -> _Beside:
    """Raises DriveError: no column is what was asked for, or two classes differ in case only."""
    steered = bool(options.csv_steering or table.named(STEERING))
    by_class = options.csv_class or (table.named(CLASS) if options.asks("class") else None)
    points = _point_columns(table) if options.asks("points") or not (steered or by_class) else {}
    # The rows of a recording follow each other in time, and are parted by it where nothing else is said.
    by_group = options.csv_group or (None if steered else table.named(GROUP))
    column = table.pick(by_group, GROUP, "--csv-group") if by_group else ""
    groups = tuple(table.columns[column]) if column else ()
    if not (by_class or points):
        if not steered and "class" in options.labels:
            table.pick("", CLASS, "--csv-class")
        if not steered and (found := table.named(CLASS)):
            raise DriveError(
                f"{table.path}: no column of the steering among {', '.join(table.columns)}; read {found!r} as classes "
                "with --label class, or name the steering with --csv-steering"
            )
        return _Beside(steered=True, groups=groups, group_column=column)
    cells = table.columns[table.pick(by_class, CLASS, "--csv-class")] if by_class else []
    classes = in_order([cell for cell in cells if cell])
    require_apart(table.path, classes)
    place = {name: float(i) for i, name in enumerate(classes)}
    numbers = np.array([[table.numbers(column) for column in pair] for pair in points.values()])  # (points, 2, rows)
    return _Beside(
        steered=steered,
        classes=classes,
        places=tuple(place.get(cell, math.nan) for cell in cells),
        names=tuple(points),
        points=numbers.transpose(2, 0, 1) if points else None,
        in_fractions=bool(points) and float(np.nan_to_num(numbers).max()) <= 1.0,
        groups=groups,
        group_column=column,
    )


def _point_columns(table: Table) -> dict[str, tuple[str, str]]:
    """Columns of x and y by the name of the point: `x0, y0`, `x_0, y_0`, `nose_x, nose_y`, or `x, y` alone.

    Where there is a z as well, it is an acceleration or the like.
    """
    found = {}
    for name in table.columns:
        if match := _X.fullmatch(name):
            before, x, behind = match[1] or "", match[2], match[3]
            y, z = (f"{before}{chr(ord(x) + step)}{behind}" for step in (1, 2))
            if y in table.columns and z not in table.columns:
                found[(before or behind or "point").strip("_")] = name, y
    return found


PICTURE_TABLES = Format(
    what="pictures with a table (.csv, .txt)",
    kinds={"picture-csv": tables.OPTIONS | GROUPING | {"csv_class", "csv_group"}},
    find=_find,
    read=_read,
)
