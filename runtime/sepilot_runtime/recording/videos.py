"""Videos: with a CSV file of steering beside it, as PiCar and many home-made recorders write them, or plain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.recording import tables
from sepilot_runtime.recording.drive import NOMINAL_RATE_HZ, Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.frames import VIDEO_SUFFIXES, VideoFrames, VideoInfo, video_info
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import Folder
from sepilot_runtime.recording.rows import Rows, more_than_strays
from sepilot_runtime.recording.tables import Table, open_table
from sepilot_runtime.recording.time_stamps import nearest

__all__ = ["VIDEOS", "csv_beside"]

FULL_SCALE_DEG = 30.0
UNLABELLED_FULL_SCALE_DEG = 25.0
FRAME = ("frame", "frame_id", "index", "frame_index")

SAME_LENGTH_S, SAME_LENGTH = 0.5, 0.05
"""How far the times of rows and of frames may differ in length, in seconds or as a share, to be one clock's."""


def csv_beside(video: str, names: frozenset[str]) -> str | None:
    """The CSV of a video: the same name, or PiCar's `out-video-5.avi` with `out-key-5.csv`."""
    stem = video.rpartition(".")[0]
    return next((name for s in (stem, stem.replace("video", "key")) if (name := f"{s}.csv") in names), None)


def _find(folder: Folder) -> Iterator[Part]:
    for video in folder.with_suffix(VIDEO_SUFFIXES):
        table = csv_beside(video, folder.files)
        yield Part(path=folder.path / video, files=frozenset({video, table} if table else {video}))


def _read(video: Path, options: ReaderOptions) -> list[Drive]:
    table = csv_beside(video.name, Folder.at(video.parent).files)
    return [_read_with(video, video.parent / table, options) if table else _read_plain(video, options)]


def _read_plain(path: Path, options: ReaderOptions) -> Drive:
    """A video without labels: to drive over, not to train on."""
    info = video_info(path)
    rows = Rows(path, options)
    rate_hz = info.rate_hz or NOMINAL_RATE_HZ
    for number in range(info.frames):
        rows.add(str(number), number, time_s=number / rate_hz)
    full_scale_deg = options.full_scale(UNLABELLED_FULL_SCALE_DEG)
    return rows.drive("video", lambda kept: VideoFrames(path, kept, info.size), full_scale_deg=full_scale_deg)


def _read_with(video: Path, beside: Path, options: ReaderOptions) -> Drive:
    """Rows that name a frame the video lacks, and frames that no row names, are counted.

    Raises:
        DriveError: columns or a unit that cannot be told, rows and frames that do not go together, no usable row.
    """
    table = open_table(beside)
    scale = options.full_scale(FULL_SCALE_DEG)
    rows = Rows(video, options)
    labels, unit_note = table.labels(options, scale, rows.further)
    info = video_info(video)
    numbers, which, number_note = _pairs(table, info, options)
    seconds, time_notes = _seconds(table, options, numbers, which, info.rate_hz)
    for number, row, time_s in zip(numbers, which, seconds, strict=True):
        if 0 <= number < info.frames:
            steering, throttle, *further = labels[row]
            name = str(number)
            rows.add(name, number, time_s=float(time_s), steering=steering, throttle=throttle, further=further)
        else:
            rows.skip("row names a frame that the video lacks")
    if without_row := info.frames - len(set(numbers) & set(range(info.frames))):
        rows.skip("frame without a row", without_row)
    return rows.drive(
        "video-csv",
        lambda kept: VideoFrames(video, kept, info.size),
        full_scale_deg=scale,
        name=video.stem,
        notes=(unit_note, number_note, *time_notes),
    )


def _pairs(table: Table, info: VideoInfo, options: ReaderOptions) -> tuple[list[int], list[int], str]:
    """Frame numbers from 0 (-1 where there is none), the row that goes with each, and how that was found.

    Raises:
        DriveError: a column that was asked for is not there; or nothing says which row goes with which frame.
    """
    rows = list(range(len(table)))
    if options.csv_frame or table.named(FRAME):
        numbers, note = _frame_numbers(table.numbers(table.pick(options.csv_frame, FRAME, "--csv-frame")), info.frames)
        return numbers, rows, note
    if not more_than_strays(abs(len(rows) - info.frames), max(len(rows), info.frames)):
        return rows, rows, "no frame column: row after row is frame after frame"
    seconds = table.seconds(options)
    if seconds is not None and info.rate_hz and np.isfinite(seconds).any():
        known = np.flatnonzero(np.isfinite(seconds))
        known = known[np.argsort(seconds[known], kind="stable")]
        times = seconds[known] - seconds[known[0]]
        length = info.frames / info.rate_hz
        if abs(times[-1] - length) <= max(SAME_LENGTH_S, SAME_LENGTH * length):
            which = known[nearest(times, np.arange(info.frames) / info.rate_hz)]
            note = f"no frame column: {len(rows):,} rows put to {info.frames:,} frames by time, from the first of each"
            return list(range(info.frames)), which.tolist(), note
    raise DriveError(
        f"{table.path}: a row for each of {info.frames:,} frames expected, or times as long as the video, found "
        f"{len(rows):,} rows; name the column of frame numbers with --csv-frame, or that of the times with --csv-time"
    )


def _frame_numbers(values: NDArray[np.float64], frames: int) -> tuple[list[int], str]:
    """A column of frame numbers counted from 0, -1 for what is none."""
    whole = np.abs(values) < 1e15  # Neither NaN nor what no video holds.
    known = values[whole]
    # Counting from 1 shows at either end; a recording from 0 that lacks its first frames ends below the length.
    base = int(bool(known.size) and known.min() >= 1 and (known.min() == 1 or known.max() == frames))
    usable = np.where(whole, values - base, -1)
    return [int(v) for v in usable], f"frames counted from {base}"


def _seconds(
    table: Table, options: ReaderOptions, numbers: list[int], which: list[int], rate_hz: float
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Of each frame: by the time column, or else by the video's rate; NaN where there is neither."""
    seconds = table.seconds(options)
    if seconds is not None and which == list(range(len(table))):
        return seconds, ()
    if not rate_hz:
        return np.full(len(numbers), np.nan), ()
    return np.array(numbers) / rate_hz, (f"no time column: {rate_hz:g} Hz by the video",) if seconds is None else ()


VIDEOS = Format(
    what="a video (with a .csv)",
    kinds={"video-csv": tables.OPTIONS | {"csv_frame"}, "video": frozenset({"full_scale_deg"})},
    find=_find,
    read=_read,
)
