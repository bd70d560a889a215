"""Logs of Udacity's simulator: `driving_log.csv` with three cameras, pictures in `IMG/`.

Columns are center, left, right, steering, throttle, brake, speed, with or without a header. Paths are those of the
machine that recorded, POSIX or Windows; only their last part counts.
"""

from __future__ import annotations

import csv
import re
from datetime import datetime
from pathlib import Path, PureWindowsPath

from sepilot_runtime.errors import DriveError
from sepilot_train.drives.drive import Drive, Rows
from sepilot_train.drives.frames import ImageFrames
from sepilot_train.drives.options import ReaderOptions
from sepilot_train.drives.tubs import inside

__all__ = ["LOG_NAME", "read_udacity"]

LOG_NAME = "driving_log.csv"
FULL_SCALE_DEG = 25.0
COLUMNS = ("center", "left", "right", "steering", "throttle", "brake", "speed")
CAMERAS = {"center": 0, "left": -1, "right": 1}

_STAMP = re.compile(r"(\d{4}_\d{2}_\d{2}_\d{2}_\d{2}_\d{2}_\d{3})")


def read_udacity(log: Path, options: ReaderOptions) -> Drive:
    """Raises DriveError: unreadable, without the columns, or without a usable row."""
    folder = log.parent
    try:
        lines = log.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as e:
        raise DriveError(f"{log}: cannot be read: {e.strerror or e}") from e
    table = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    columns = list(COLUMNS)
    if table and not _is_number(table[0][min(3, len(table[0]) - 1)]):
        columns = [name.lower() for name in table.pop(0)]
        if missing := [name for name in ("center", "steering") if name not in columns]:
            raise DriveError(f"{log}: column {missing[0]!r} expected, found {', '.join(columns)}")
    rows = Rows(folder)
    for row in table:
        _take(rows, folder, dict(zip(columns, row, strict=False)), options)
    return rows.drive("udacity", ImageFrames(rows.sources), full_scale_deg=options.full_scale(FULL_SCALE_DEG))


def _take(rows: Rows, folder: Path, row: dict[str, str], options: ReaderOptions) -> None:
    if not _is_number(row.get("steering", "")):
        rows.skip("label is not a number")
        return
    for camera, side in CAMERAS.items():
        if side and options.cameras == "centre":
            continue
        if not row.get(camera):
            rows.skip("row without an image")
            continue
        path = _picture(folder, row[camera])
        if path is None:
            rows.skip("image is missing")
            continue
        # The left camera sees what the car would see further left, from where it has to steer more to the right.
        steering = float(row["steering"]) - side * options.side_camera_correction
        throttle = row.get("throttle", "")
        rows.add(
            path.name,
            path,
            time_s=_time(path.name),
            steering=min(1.0, max(-1.0, steering)) if side else steering,
            throttle=float(throttle) if _is_number(throttle) else float("nan"),
            camera=side,
        )


def _picture(folder: Path, recorded: str) -> Path | None:
    relative = recorded.replace("\\", "/")
    if ".." in relative.split("/"):
        inside(folder, relative)
    # Windows' rules split at both kinds of slash.
    name = PureWindowsPath(recorded).name
    for candidate in (f"IMG/{name}", relative if not _absolute(recorded) else "", name):
        if candidate and (path := inside(folder, candidate)).is_file():
            return path
    return None


def _absolute(recorded: str) -> bool:
    return recorded.startswith(("/", "\\")) or bool(PureWindowsPath(recorded).drive)


def _time(name: str) -> float:
    found = _STAMP.search(name)
    if not found:
        return float("nan")
    # The simulator writes milliseconds; the standard library reads microseconds.
    return datetime.strptime(found[1] + "000", "%Y_%m_%d_%H_%M_%S_%f").timestamp()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
