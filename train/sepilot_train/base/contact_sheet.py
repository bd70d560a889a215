"""What a drive shows, at a glance, with the recorded steering on every frame, or a set with what its labels say:
`sepilot drives --sheet`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, FrameError, UsageError
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.base.terminal import legible
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.view import contact_sheet, drawing
from sepilot_runtime.view.drawing import INK, MODEL_COLOR, PAPER, QUIET, RECORDED_COLOR, SECOND_COLOR, SOFT, Canvas

__all__ = ["draw_sheet"]

COLUMNS = 8
TILE_WIDTH, HEAD_HEIGHT = 200, 56

HALVES = (-0.5, 0.5)

BOX_COLORS = (MODEL_COLOR, SECOND_COLOR, (120, 220, 120), (220, 120, 220), (230, 230, 90), (110, 110, 240))
"""By the place of the class; they come again after the last."""

TALLEST = 60_000
"""Of a JPEG picture, in pixels; a little below the format's limit."""


def draw_sheet(drives: Sequence[Drive], path: Path) -> None:
    """Write a picture (by `path`'s suffix) with frames spread evenly over each drive, in its order.

    Raises:
        UsageError: the suffix is no picture's, or so many drives do not fit into one picture.
        OutputError: the file exists already, or cannot be written.
    """
    contact_sheet.require_picture_path(path)
    # A few drives in detail, many at a glance.
    rows = 4 if len(drives) <= 6 else 2 if len(drives) <= 24 else 1
    parts: list[Canvas] = []
    for drive in drives:
        parts.append(_draw_drive(drive, rows))
        if sum(len(part) for part in parts) > TALLEST:
            raise UsageError(f"{path}: {len(drives)} drives do not fit into one sheet; name fewer of them")
    contact_sheet.write_picture(np.vstack(parts), path)


def _draw_drive(drive: Drive, rows: int) -> Canvas:
    places = np.linspace(0, len(drive) - 1, min(len(drive), COLUMNS * rows)).round().astype(int).tolist()
    frames = [_frame(drive, index) for index in places]
    readable = [frame for frame in frames if not isinstance(frame, str)]
    aspect = readable[0].shape[0] / readable[0].shape[1] if readable else 0.75
    height = min(2 * TILE_WIDTH, max(TILE_WIDTH // 4, round(TILE_WIDTH * aspect)))
    head = contact_sheet.empty_head(HEAD_HEIGHT, COLUMNS, TILE_WIDTH)
    seconds = "" if drive.label_names else f" {drive.duration_s:.0f} s,"
    title = f"{drive.id}   {len(drive):,} frames,{seconds} {drive.kind}"
    drawing.text(head, title, (contact_sheet.MARGIN, 36), size=24, weight=600)
    tiles = []
    for index, frame in zip(places, frames, strict=True):
        if drive.label_names:
            tiles.append((_labelled_tile(frame, drive, index, height), [[(_said(drive, index), SOFT)]]))
            continue
        steering = float(drive.labels["steering"][index])
        words = [(f"{drive.time_s[index]:.1f} s", QUIET)]
        words += [(f"{steering:+.2f}", SOFT)] if math.isfinite(steering) else []
        tiles.append((_tile(frame, steering, height), [words]))
    return contact_sheet.lay_out(head, tiles, columns=COLUMNS)


def _frame(drive: Drive, index: int) -> NDArray[np.uint8] | str:
    """The frame, or why it cannot be read."""
    try:
        return drive.read(index)
    except FrameError as e:
        return e.reason
    except DriveError:
        return "unreadable"


def _tile(frame: NDArray[np.uint8] | str, steering: float, height: int) -> Canvas:
    tile = np.full((height, TILE_WIDTH, 3), 60, np.uint8)
    if isinstance(frame, str):
        drawing.text(tile, frame, (8, height // 2), size=16)
    else:
        tile = np.asarray(cv2.resize(contact_sheet.fitted(frame, TILE_WIDTH), (TILE_WIDTH, height)), np.uint8)
    if math.isfinite(steering):
        _draw_steering(tile, steering)
    return tile


def _draw_steering(tile: NDArray[np.uint8], steering: float) -> None:
    """A line from the bottom centre that leans as the wheels do, and a bar from the centre."""
    height, width = tile.shape[:2]
    foot = (width // 2, height - 8)
    lean = math.radians(steering * 60)
    tip = (round(foot[0] + 0.42 * height * math.sin(lean)), round(foot[1] - 0.42 * height * math.cos(lean)))
    cv2.line(tile, foot, tip, INK, 5, cv2.LINE_AA)
    cv2.line(tile, foot, tip, RECORDED_COLOR, 3, cv2.LINE_AA)
    end = round(width / 2 * (1 + steering))
    cv2.rectangle(tile, (min(foot[0], end), height - 5), (max(foot[0], end), height - 1), RECORDED_COLOR, -1)


def _said(drive: Drive, index: int) -> str:
    """The labels of a picture in a few words that fit under its tile."""
    words = []
    if names := drive.label_names.get("class"):
        place = drive.labels["class"][index]
        words.append(names[int(place)] if math.isfinite(place) else "no class")
    if names := drive.label_names.get("boxes"):
        places = drive.labels["boxes"][index, :, 0]
        counts = Counter(names[int(place)] for place in places[places >= 0])
        words.append(", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing")
    if names := drive.label_names.get("points"):
        known = int(np.isfinite(drive.labels["points"][index]).all(axis=1).sum())
        words.append(f"{known} of {len(names)} points")
    text = legible(", ".join(words))
    while text and drawing.text_width(text, size=17) > TILE_WIDTH:
        text = text.rstrip("…")[:-1] + "…"
    return text


def _labelled_tile(frame: NDArray[np.uint8] | str, drive: Drive, index: int, height: int) -> Canvas:
    """The whole picture in its own shape, with boxes and points on it."""
    if isinstance(frame, str):
        return _tile(frame, math.nan, height)
    tile = np.full((height, TILE_WIDTH, 3), PAPER, np.uint8)
    scale = min(height / frame.shape[0], TILE_WIDTH / frame.shape[1])
    high, wide = (max(1, round(side * scale)) for side in frame.shape[:2])
    y, x = (height - high) // 2, (TILE_WIDTH - wide) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    tile[y : y + high, x : x + wide] = cv2.resize(frame, (wide, high), interpolation=method)
    if "boxes" in drive.label_names:
        for place, *box in drive.labels["boxes"][index].tolist():
            if place >= 0:
                color = BOX_COLORS[int(place) % len(BOX_COLORS)]
                (x0, y0), (x1, y1) = (
                    (x + (box[0] + h * box[2]) * wide, y + (box[1] + h * box[3]) * high) for h in HALVES
                )
                drawing.polyline(tile, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color, thickness=2, closed=True)
    if "points" in drive.label_names:
        for point in drive.labels["points"][index].tolist():
            if math.isfinite(point[0]):
                at = round(x + point[0] * wide), round(y + point[1] * high)
                cv2.circle(tile, at, 2, INK, cv2.FILLED, cv2.LINE_AA)
                cv2.circle(tile, at, 1, RECORDED_COLOR, cv2.FILLED, cv2.LINE_AA)
    return tile
