"""A video with a CSV file of steering beside it, as PiCar and many home-made recorders write them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.errors import DriveError
from sepilot_train.drives.drive import Drive, Rows
from sepilot_train.drives.frames import VideoFrames, video_length
from sepilot_train.drives.options import ReaderOptions
from sepilot_train.drives.pictures import VIDEO_SUFFIXES

__all__ = ["csv_beside", "read_video_csv", "video_beside"]

FULL_SCALE_DEG = 30.0
STEERING = ("steering", "steering_angle", "wheel", "angle", "user/angle", "steer")
TIME = ("ts_micro", "timestamp", "time", "time_s", "ts", "t")
FRAME = ("frame", "frame_id", "index", "frame_index")


def csv_beside(video: Path) -> Path | None:
    """The CSV of a video: the same name, or PiCar's `out-video-5.avi` with `out-key-5.csv`."""
    for stem in (video.stem, video.stem.replace("video", "key")):
        if (path := video.with_name(f"{stem}.csv")).is_file():
            return path
    return None


def video_beside(table: Path) -> Path | None:
    """The video of a CSV file."""
    for stem in (table.stem, table.stem.replace("key", "video")):
        for suffix in VIDEO_SUFFIXES:
            if (path := table.with_name(f"{stem}{suffix}")).is_file():
                return path
    return None


def read_video_csv(video: Path, table: Path, options: ReaderOptions) -> Drive:
    """Rows that name a frame the video lacks, and frames that no row names, are counted.

    Raises:
        DriveError: columns that cannot be told, a unit that cannot be told, or no usable row.
    """
    columns = _columns(table)
    steering_column = _pick(columns, options.csv_steering, STEERING, table, "--csv-steering")
    steering, unit_note = _degrees(columns[steering_column], steering_column, table, options)
    scale = options.full_scale(FULL_SCALE_DEG)
    count, _ = video_length(video)
    numbers = _frame_numbers(columns, len(steering), table, options)
    seconds = _seconds(columns, table, options, len(steering))
    rows = Rows(video)
    seen: set[int] = set()
    for number, angle, time_s in zip(numbers, steering, seconds, strict=True):
        if not 0 <= number < count:
            rows.skip("row names a frame that the video lacks")
        elif number in seen:
            rows.skip("row names a frame for the second time")
        else:
            seen.add(number)
            rows.add(str(number), number, time_s=float(time_s), steering=options.sign * angle / scale)
    if unlabelled := count - len(seen):
        rows.skip("frame without a row", unlabelled)
    return rows.drive(
        "video-csv", VideoFrames(video, rows.sources), full_scale_deg=scale, name=video.stem, notes=(unit_note,)
    )


def _columns(table: Path) -> dict[str, list[str]]:
    try:
        lines = table.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as e:
        raise DriveError(f"{table}: cannot be read: {e.strerror or e}") from e
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    if len(rows) < 2:
        raise DriveError(f"{table}: a header and at least one row expected, found {len(rows)} lines")
    whole = [row for row in rows[1:] if len(row) >= len(rows[0])]
    return {name: [row[i] for row in whole] for i, name in enumerate(rows[0])}


def _pick(columns: dict[str, list[str]], wanted: str, known: tuple[str, ...], table: Path, flag: str) -> str:
    if wanted:
        if wanted not in columns:
            raise DriveError(f"{table}: column {wanted!r} expected, found {', '.join(columns)}")
        return wanted
    by_lower = {name.lower(): name for name in columns}
    for name in known:
        if name in by_lower:
            return by_lower[name]
    raise DriveError(f"{table}: none of the columns {', '.join(columns)} is known; name the right one with {flag}")


def _numbers(cells: list[str]) -> NDArray[np.float64]:
    def number(cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            return float("nan")

    return np.array([number(cell) for cell in cells], np.float64)


def _degrees(cells: list[str], name: str, table: Path, options: ReaderOptions) -> tuple[NDArray[np.float64], str]:
    values = _numbers(cells)
    largest = float(np.nanmax(np.abs(values), initial=0.0)) if np.isfinite(values).any() else 0.0
    unit = options.csv_unit
    if unit == "auto":
        if name.lower() == "wheel" and largest <= math.pi:
            unit = "rad"
        elif "deg" in name.lower() or largest > math.pi:
            unit = "deg"
        elif largest <= 1.0:
            unit = "full-scale"
        else:
            raise DriveError(f"{table}: column {name!r} reaches {largest:g}; say its unit with --csv-unit rad, deg or full-scale")
    factor = {"rad": math.degrees(1.0), "deg": 1.0, "full-scale": options.full_scale(FULL_SCALE_DEG)}[unit]
    return values * factor, f"steering read from column {name!r} in {unit}, + = {options.positive}"


def _frame_numbers(columns: dict[str, list[str]], count: int, table: Path, options: ReaderOptions) -> list[int]:
    """Frame numbers from 0; the column may count from 1, and is not needed where rows and frames go in step."""
    if not options.csv_frame and not any(name.lower() in FRAME for name in columns):
        return list(range(count))
    values = _numbers(columns[_pick(columns, options.csv_frame, FRAME, table, "--csv-frame")])
    base = 1 if np.nanmin(values, initial=np.inf) >= 1 else 0
    return [int(v) - base if np.isfinite(v) else -1 for v in values]


def _seconds(columns: dict[str, list[str]], table: Path, options: ReaderOptions, count: int) -> NDArray[np.float64]:
    if not options.csv_time and not any(name.lower() in TIME for name in columns):
        return np.full(count, np.nan)
    values = _numbers(columns[_pick(columns, options.csv_time, TIME, table, "--csv-time")])
    # By their size, not their name: a `ts_micro` column was seen to hold milliseconds.
    largest = float(np.nanmax(values, initial=0.0))
    divisor = next((d for limit, d in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)) if largest > limit), 1.0)
    return np.asarray(values / divisor, np.float64)
