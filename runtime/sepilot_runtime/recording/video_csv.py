"""A video with a CSV file of steering beside it, as PiCar and many home-made recorders write them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.recording.drive import Drive, Rows
from sepilot_runtime.recording.frames import VideoFrames, look_through
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.pictures import VIDEO_SUFFIXES
from sepilot_runtime.recording.tables import read_table, to_number

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
        for suffix in sorted(VIDEO_SUFFIXES):
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
    info = look_through(video)
    numbers, number_note = _frame_numbers(columns, len(steering), info.frames, table, options)
    seconds, time_note = _seconds(columns, table, options, numbers, info.rate_hz)
    rows = Rows(video, options)
    nothing = [""] * len(steering)
    further = zip(*(columns.get(name, nothing) for name in rows.further), strict=True) if rows.further else nothing
    for number, angle, time_s, others in zip(numbers, steering, seconds, further, strict=True):
        if 0 <= number < info.frames:
            label = options.sign * float(angle) / scale
            values = [to_number(cell) for cell in others]
            rows.add(str(number), number, time_s=float(time_s), steering=label, further=values)
        else:
            rows.skip("row names a frame that the video lacks")
    if without_row := info.frames - len(set(numbers) & set(range(info.frames))):
        rows.skip("frame without a row", without_row)
    return rows.drive(
        "video-csv",
        VideoFrames(video, rows.sources),
        full_scale_deg=scale,
        name=video.stem,
        notes=(unit_note, number_note, *time_note),
    )


def _columns(table: Path) -> dict[str, list[str]]:
    rows = read_table(table)
    if len(rows) < 2:
        raise DriveError(f"{table}: a header and at least one row expected, found {len(rows)} lines")
    header = rows[0]
    # A row that breaks off keeps its place: rows and frames may go in step without a column that says so.
    return {name: [row[i] if i < len(row) else "" for row in rows[1:]] for i, name in enumerate(header)}


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
    return np.array([to_number(cell) for cell in cells], np.float64)


def _degrees(cells: list[str], name: str, table: Path, options: ReaderOptions) -> tuple[NDArray[np.float64], str]:
    values = _numbers(cells)
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    unit = options.csv_unit
    if unit == "auto":
        if largest <= math.pi and (name.lower() == "wheel" or "rad" in name.lower()):
            unit = "rad"
        elif "deg" in name.lower() or largest > math.pi:
            unit = "deg"
        elif largest <= 1.0:
            unit = "full-scale"
        else:
            raise DriveError(
                f"{table}: column {name!r} reaches {largest:g}; say its unit with --csv-unit rad, deg or full-scale"
            )
    factor = {"rad": math.degrees(1.0), "deg": 1.0, "full-scale": options.full_scale(FULL_SCALE_DEG)}[unit]
    return values * factor, f"steering read from column {name!r} in {unit}, + = {options.positive}"


def _frame_numbers(
    columns: dict[str, list[str]], count: int, frames: int, table: Path, options: ReaderOptions
) -> tuple[list[int], str]:
    """Frame numbers from 0, -1 where there is none; the column is not needed where rows and frames go in step."""
    if not options.csv_frame and not any(name.lower() in FRAME for name in columns):
        return list(range(count)), "no frame column: row after row is frame after frame"
    values = _numbers(columns[_pick(columns, options.csv_frame, FRAME, table, "--csv-frame")])
    whole = np.abs(values) < 1e15  # Neither NaN nor what no video holds.
    known = values[whole]
    # Counting from 1 shows at either end; a recording from 0 that lacks its first frames ends below the length.
    base = int(bool(known.size) and known.min() >= 1 and (known.min() == 1 or known.max() == frames))
    usable = np.where(whole, values - base, -1)
    return [int(v) for v in usable], f"frames counted from {base}"


def _seconds(
    columns: dict[str, list[str]], table: Path, options: ReaderOptions, numbers: list[int], rate_hz: float
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """By the time column, or else by the video's rate; NaN where there is neither."""
    if not options.csv_time and not any(name.lower() in TIME for name in columns):
        if not rate_hz:
            return np.full(len(numbers), np.nan), ()
        return np.array(numbers) / rate_hz, (f"no time column: {rate_hz:g} Hz by the video",)
    values = _numbers(columns[_pick(columns, options.csv_time, TIME, table, "--csv-time")])
    # By their size, not their name: a `ts_micro` column was seen to hold milliseconds.
    largest = float(values[np.isfinite(values)].max(initial=0.0))
    divisor = next((d for limit, d in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)) if largest > limit), 1.0)
    return np.asarray(values / divisor, np.float64), ()
