"""A contact sheet: what a drive shows, at a glance, with the recorded steering on every frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.errors import DriveError, FrameError, OutputError
from sepilot_runtime.files import atomic_file
from sepilot_runtime.opencv import cv2
from sepilot_train.drives import Drive

__all__ = ["draw_sheet"]

COLUMNS, ROWS = 8, 4
TILE = (200, 150)
MARGIN, HEAD, FOOT = 8, 34, 22
PAPER, INK, GRAY, ACCENT = (255, 255, 255), (51, 39, 27), (150, 140, 130), (31, 122, 224)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_sheet(drives: Sequence[Drive], path: Path) -> None:
    """Write a picture (by `path`'s suffix) with frames spread evenly over each drive.

    Raises:
        OutputError: the suffix is no picture's, or the file cannot be written.
    """
    sheet = np.vstack([_draw_drive(drive) for drive in drives])
    with atomic_file(path) as part:
        try:
            written = cv2.imwrite(str(part), sheet)
        except cv2.error as e:
            raise OutputError(f"{path}: a name that ends in .png or .jpg expected") from e
        if not written:
            raise OutputError(f"{path}: cannot be written")


def _draw_drive(drive: Drive) -> NDArray[np.uint8]:
    count = min(len(drive), COLUMNS * ROWS)
    rows = math.ceil(count / COLUMNS)
    width = COLUMNS * (TILE[0] + MARGIN) + MARGIN
    height = HEAD + rows * (TILE[1] + FOOT + MARGIN) + MARGIN
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    title = f"{drive.id}   {len(drive):,} frames, {drive.duration_s:.0f} s, {drive.kind}"
    cv2.putText(sheet, title, (MARGIN, 23), FONT, 0.6, INK, 1, cv2.LINE_AA)
    for place, index in enumerate(np.linspace(0, len(drive) - 1, count).round().astype(int)):
        x = MARGIN + (place % COLUMNS) * (TILE[0] + MARGIN)
        y = HEAD + (place // COLUMNS) * (TILE[1] + FOOT + MARGIN)
        _draw_tile(sheet, drive, int(index), x, y)
    return sheet


def _draw_tile(sheet: NDArray[np.uint8], drive: Drive, index: int, x: int, y: int) -> None:
    tile = sheet[y : y + TILE[1], x : x + TILE[0]]
    try:
        frame = drive.read(index)
        tile[:] = cv2.resize(frame, TILE, interpolation=cv2.INTER_AREA if frame.shape[1] > TILE[0] else cv2.INTER_CUBIC)
    except (FrameError, DriveError) as e:
        tile[:] = 225
        reason = e.reason if isinstance(e, FrameError) else "unreadable"
        cv2.putText(tile, reason, (8, TILE[1] // 2), FONT, 0.42, INK, 1, cv2.LINE_AA)
    steering = float(drive.steering[index])
    text = f"{drive.time_s[index]:.1f} s"
    if math.isfinite(steering):
        _draw_steering(tile, steering)
        text += f"   {steering:+.2f}"
    cv2.putText(sheet, text, (x, y + TILE[1] + 16), FONT, 0.42, INK, 1, cv2.LINE_AA)


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
