"""Logs of Udacity's simulator: `driving_log.csv` with three cameras, pictures in `IMG/`.

Columns are center, left, right, steering, throttle, brake, speed, with or without a header. Paths are those of the
machine that recorded, POSIX or Windows; only their last part counts.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.recording.drive import LABEL_TOLERANCE, Drive, Rows
from sepilot_runtime.recording.frames import ImageFrames
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import FileFinder
from sepilot_runtime.recording.tables import read_table, to_number

__all__ = ["LOG_NAME", "read_udacity"]

LOG_NAME = "driving_log.csv"
FULL_SCALE_DEG = 25.0
COLUMNS = ("center", "left", "right", "steering", "throttle", "brake", "speed")
CAMERAS = {"center": 0, "left": -1, "right": 1}

_STAMP = re.compile(r"(\d{4}_\d{2}_\d{2}_\d{2}_\d{2}_\d{2}_\d{3})")


def read_udacity(log: Path, options: ReaderOptions) -> Drive:
    """Raises DriveError: unreadable, without the columns, or without a usable row."""
    folder = log.parent
    table = read_table(log)
    columns = list(COLUMNS)
    if table and _is_header(table[0]):
        columns = [name.lower() for name in table.pop(0)]
        if missing := [name for name in ("center", "steering") if name not in columns]:
            raise DriveError(f"{log}: column {missing[0]!r} expected, found {', '.join(columns)}")
    rows = Rows(folder, options)
    finder = FileFinder(folder)
    for row in table:
        _take(rows, finder, dict(zip(columns, row, strict=False)), options)
    return rows.drive("udacity", ImageFrames(rows.sources), full_scale_deg=options.full_scale(FULL_SCALE_DEG))


def _is_header(row: list[str]) -> bool:
    """Names of columns, rather than a first row that may be damaged."""
    return not set(COLUMNS).isdisjoint(cell.lower() for cell in row)


def _take(rows: Rows, finder: FileFinder, row: dict[str, str], options: ReaderOptions) -> None:
    label = to_number(row.get("steering", ""))
    if not math.isfinite(label):
        rows.skip("label is not a number")
        return
    if abs(label) > 1.0 + LABEL_TOLERANCE:
        rows.skip("label out of range")
        return
    for camera, side in CAMERAS.items():
        if side and (options.cameras == "centre" or camera not in row):
            continue
        if not row.get(camera):
            rows.skip("row without an image")
            continue
        path = _picture(finder, row[camera])
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


def _picture(finder: FileFinder, recorded: str) -> Path | None:
    """The picture where the log says, or by its bare name where the simulator puts them.

    An absolute path is the recording machine's own: only its last part means anything here.
    """
    as_posix = recorded.replace("\\", "/")
    if not _absolute(recorded) and (path := finder.find(as_posix)) is not None:
        return path
    name = as_posix.rpartition("/")[2]
    return finder.find(name, below="IMG") or finder.find(name)


def _absolute(recorded: str) -> bool:
    return recorded.startswith(("/", "\\")) or bool(PureWindowsPath(recorded).drive)


def _time(name: str) -> float:
    found = _STAMP.search(name)
    if not found:
        return math.nan
    try:
        # The simulator writes milliseconds; the standard library reads microseconds. Read as UTC, which has no
        # hour that comes twice.
        moment = datetime.strptime(found[1] + "000", "%Y_%m_%d_%H_%M_%S_%f")
    except ValueError:
        return math.nan
    return moment.replace(tzinfo=UTC).timestamp()
