"""Logs of Udacity's simulator: `driving_log.csv` with three cameras, pictures in `IMG/`.

Columns are center, left, right, steering, throttle, brake, speed, with or without a header. Paths are those of the
machine that recorded, POSIX or Windows; only their last part counts. Under a locale with decimal commas the simulator
writes `-0,3578973` unquoted into its comma-separated rows.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.frames import ImageFrames
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import FileFinder, Folder
from sepilot_runtime.recording.rows import LABEL_TOLERANCE, Rows
from sepilot_runtime.recording.tables import read_rows, to_number

__all__ = ["UDACITY", "find_picture"]

LOG_NAME = "driving_log.csv"
FULL_SCALE_DEG = 25.0
COLUMNS = ("center", "left", "right", "steering", "throttle", "brake", "speed")
CAMERAS = {"center": 0, "left": -1, "right": 1}

LARGEST = {"steering": 1.0, "throttle": 1.0, "brake": 1.0, "speed": 200.0}
"""What a column can hold, to tell which of a row's numbers were parted at their commas."""

_NUMBER = re.compile(r"-?\d+(,\d*[1-9])?(E-\d+)?", re.IGNORECASE)
"""As .NET writes it under such a locale: without zeros at the end of the fraction."""

_STAMP = re.compile(r"(\d{4}_\d{2}_\d{2}_\d{2}_\d{2}_\d{2}_\d{3})")


def _find(folder: Folder) -> Iterator[Part]:
    if LOG_NAME in folder.files:
        yield Part(path=folder.path / LOG_NAME, files=frozenset({LOG_NAME}))


def _read(log: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: unreadable, without the columns, or without a usable row."""
    table = read_rows(log)
    columns = list(COLUMNS)
    if table and _is_header(table[0]):
        columns = [name.lower() for name in table.pop(0)]
        if missing := [name for name in ("center", "steering") if name not in columns]:
            raise DriveError(f"{log}: column {missing[0]!r} expected, found {', '.join(columns)}")
    rows = Rows(log.parent, options)
    scale = options.full_scale(FULL_SCALE_DEG)
    factor, notes = options.steering(scale)
    finder, joined = FileFinder(log.parent), 0
    for cells in table:
        row = cells
        if any(cells[len(columns) :]):
            row = _joined(cells, columns, LARGEST | {"steering": 1.0 / abs(factor)})
            joined += bool(row)
            if not row:
                rows.skip("decimal commas that cannot be told from others")
                continue
        _take(rows, finder, dict(zip(columns, row, strict=False)), options, factor)
    if joined:
        notes = (*notes, f"{joined:,} rows with decimal commas: joined")
    flags = "--unit and --full-scale-deg"
    return [rows.drive("udacity", ImageFrames, full_scale_deg=scale, notes=notes, unit_flags=flags)]


def _is_header(row: list[str]) -> bool:
    """Names of columns, rather than a first row that may be damaged."""
    return not set(COLUMNS).isdisjoint(cell.lower() for cell in row)


def _joined(cells: Sequence[str], columns: Sequence[str], largest: Mapping[str, float]) -> list[str]:
    """The row with its decimal numbers put together again.

    A cell for which there are several ways is empty, and so is the row if that is the steering.
    """
    while cells and not cells[-1]:
        cells = cells[:-1]
    places = [place for place, name in enumerate(columns) if name in largest]
    ways = []
    for parted in itertools.combinations(places, min(len(cells) - len(columns), len(places))):
        rest, row = iter(cells), []
        for place in range(len(columns)):
            row.append(next(rest) + ("," + next(rest) if place in parted else ""))
        numbers = {columns[place]: row[place] for place in places}
        if not any(rest) and all(
            _NUMBER.fullmatch(cell) and abs(to_number(cell)) <= largest[name] for name, cell in numbers.items()
        ):
            ways.append(row)
    agreed = [cells[0] if len(set(cells)) == 1 else "" for cells in zip(*ways, strict=True)]
    return agreed if agreed and agreed[columns.index("steering")] else []


def _take(rows: Rows, finder: FileFinder, row: dict[str, str], options: ReaderOptions, factor: float) -> None:
    label = factor * to_number(row.get("steering", ""))
    if not abs(label) <= 1.0 + LABEL_TOLERANCE:  # NaN, or what `Rows` judges: of one row, and not of its three cameras.
        rows.add("", row.get("center"), steering=label)
        return
    for camera, side in CAMERAS.items():
        if side and (options.cameras == "centre" or camera not in row):
            continue
        if not row.get(camera):
            rows.skip("row without an image")
            continue
        path = find_picture(finder, row[camera])
        if path is None:
            rows.skip("missing image")
            continue
        # The left camera sees what the car would see further left, from where it has to steer more to the right.
        steering = label - side * options.side_camera_correction
        rows.add(
            path.name,
            path,
            time_s=_time(path.name),
            steering=min(1.0, max(-1.0, steering)),
            throttle=to_number(row.get("throttle", "")),
            camera=side,
            further=[to_number(row.get(name, "")) for name in rows.further],
        )


def find_picture(finder: FileFinder, recorded: str, below: Sequence[str] = ("IMG",)) -> Path | None:
    """The picture where the log says, or by its bare name in one of the folders `below`.

    An absolute path is the recording machine's own: only its last part means anything here.
    """
    as_posix = recorded.replace("\\", "/")
    if not _absolute(recorded) and (path := finder.find(as_posix)) is not None:
        return path
    name = as_posix.rpartition("/")[2]
    return next((path for folder in (*below, "") if (path := finder.find(name, below=folder)) is not None), None)


def _absolute(recorded: str) -> bool:
    return recorded.startswith(("/", "\\")) or bool(PureWindowsPath(recorded).drive)


def _time(name: str) -> float:
    found = _STAMP.search(name)
    if not found:
        return math.nan
    try:
        # Read as UTC, which has no hour that comes twice.
        return datetime.strptime(found[1], "%Y_%m_%d_%H_%M_%S_%f").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return math.nan


UDACITY = Format(
    what=f"a Udacity log ({LOG_NAME})",
    kinds={"udacity": frozenset({"full_scale_deg", "positive", "unit", "cameras", "side_camera_correction", "labels"})},
    fills_folder=True,
    find=_find,
    read=_read,
)
