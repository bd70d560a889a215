"""A contact sheet: what a drive shows, at a glance, with the recorded steering on every frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, FrameError, OutputError, UsageError
from sepilot_runtime.base.files import atomic_file, require_new
from sepilot_runtime.base.opencv import cv2, require_name
from sepilot_runtime.recording.drive import Drive

__all__ = ["draw_sheet", "require_sheet_path"]

COLUMNS = 8
TILE_WIDTH = 200
MARGIN, HEAD, FOOT = 8, 34, 22
PAPER, INK, ACCENT = (255, 255, 255), (51, 39, 27), (31, 122, 224)
FONT = cv2.FONT_HERSHEY_SIMPLEX

TALLEST = 60_000
"""Of a JPEG picture, in pixels; a little below the format's limit."""


def require_sheet_path(path: Path) -> None:
    """Refuse a path that cannot become a new sheet, before any work is done for it.

    Raises:
        UsageError: the suffix is no picture's.
        OutputError: it exists already, or cannot be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{path}: a contact sheet ends in .png or .jpg")
    require_name(path, UsageError)
    require_new(path)


def draw_sheet(drives: Sequence[Drive], path: Path) -> None:
    """Write a picture (by `path`'s suffix) with frames spread evenly over each drive, in order of time.

    Raises:
        UsageError: the suffix is no picture's, or so many drives do not fit into one picture.
        OutputError: the file exists already, or cannot be written.
    """
    require_sheet_path(path)
    # A few drives in detail, many at a glance.
    rows = 4 if len(drives) <= 6 else 2 if len(drives) <= 24 else 1
    width = COLUMNS * (TILE_WIDTH + MARGIN) + MARGIN
    parts: list[NDArray[np.uint8]] = []
    for drive in drives:
        parts.append(_draw_drive(drive, rows, width))
        if sum(len(part) for part in parts) > TALLEST:
            raise UsageError(f"{path}: {len(drives)} drives do not fit into one sheet; name fewer of them")
    with atomic_file(path) as part:
        if not cv2.imwrite(str(part), np.vstack(parts)):
            raise OutputError(f"{path}: cannot be written")


def _draw_drive(drive: Drive, rows: int, width: int) -> NDArray[np.uint8]:
    count = min(len(drive), COLUMNS * rows)
    places = np.linspace(0, len(drive) - 1, count).round().astype(int).tolist()
    frames = [_frame(drive, index) for index in places]
    readable = [frame for frame in frames if not isinstance(frame, str)]
    aspect = readable[0].shape[0] / readable[0].shape[1] if readable else 0.75
    tile_height = min(2 * TILE_WIDTH, max(TILE_WIDTH // 4, round(TILE_WIDTH * aspect)))
    lines = math.ceil(count / COLUMNS)
    sheet = np.full((HEAD + lines * (tile_height + FOOT + MARGIN) + MARGIN, width, 3), PAPER, np.uint8)
    title = f"{drive.id}   {len(drive):,} frames, {drive.duration_s:.0f} s, {drive.kind}"
    # OpenCV's fonts hold ASCII only.
    cv2.putText(sheet, title.encode("ascii", "replace").decode(), (MARGIN, 23), FONT, 0.6, INK, 1, cv2.LINE_AA)
    for place, (index, frame) in enumerate(zip(places, frames, strict=True)):
        x = MARGIN + (place % COLUMNS) * (TILE_WIDTH + MARGIN)
        y = HEAD + (place // COLUMNS) * (tile_height + FOOT + MARGIN)
        tile = sheet[y : y + tile_height, x : x + TILE_WIDTH]
        _draw_tile(tile, frame, float(drive.labels["steering"][index]))
        label = f"   {drive.labels['steering'][index]:+.2f}" if math.isfinite(drive.labels["steering"][index]) else ""
        text = f"{drive.time_s[index]:.1f} s{label}"
        cv2.putText(sheet, text, (x, y + tile_height + 16), FONT, 0.42, INK, 1, cv2.LINE_AA)
    return sheet


def _frame(drive: Drive, index: int) -> NDArray[np.uint8] | str:
    """The frame, or why it cannot be read."""
    try:
        return drive.read(index)
    except FrameError as e:
        return e.reason
    except DriveError:
        return "unreadable"


def _draw_tile(tile: NDArray[np.uint8], frame: NDArray[np.uint8] | str, steering: float) -> None:
    height, width = tile.shape[:2]
    if isinstance(frame, str):
        tile[:] = 225
        cv2.putText(tile, frame, (8, height // 2), FONT, 0.42, INK, 1, cv2.LINE_AA)
    else:
        shrinks = frame.shape[1] > width
        tile[:] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    if math.isfinite(steering):
        _draw_steering(tile, steering)


def _draw_steering(tile: NDArray[np.uint8], steering: float) -> None:
    """A line from the bottom centre that leans as the wheels do, and a bar from the centre."""
    height, width = tile.shape[:2]
    foot = (width // 2, height - 8)
    lean = math.radians(steering * 60)
    tip = (round(foot[0] + 0.42 * height * math.sin(lean)), round(foot[1] - 0.42 * height * math.cos(lean)))
    cv2.line(tile, foot, tip, (20, 20, 20), 5, cv2.LINE_AA)
    cv2.line(tile, foot, tip, ACCENT, 3, cv2.LINE_AA)
    end = round(width / 2 * (1 + steering))
    cv2.rectangle(tile, (min(foot[0], end), height - 5), (max(foot[0], end), height - 1), ACCENT, -1)
