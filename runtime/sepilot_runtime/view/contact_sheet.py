"""Sheets of frames: dark paper, a head, tiles in columns with a line or two under each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_runtime.base.files import atomic_file, require_new
from sepilot_runtime.base.opencv import cv2, require_name
from sepilot_runtime.view import drawing
from sepilot_runtime.view.drawing import PAPER, Canvas, Color

__all__ = [
    "MARGIN",
    "TILE_WIDTH",
    "Words",
    "empty_head",
    "fitted",
    "lay_out",
    "require_picture_path",
    "words_at",
    "write_picture",
]

TILE_WIDTH = 380
MARGIN = 20
LINE = 24

Words = tuple[str, Color]
"""A text and its colour."""


def require_picture_path(path: Path) -> None:
    """Refuse a path that cannot become a new picture. Raises UsageError and OutputError."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{path}: a sheet ends in .png or .jpg")
    require_name(path, UsageError)
    require_new(path)


def write_picture(canvas: Canvas, path: Path) -> None:
    """Write (h, w, 3) uint8 BGR, atomically. Raises OutputError."""
    with atomic_file(path) as part:
        if not cv2.imwrite(str(part), canvas):
            raise OutputError(f"{path}: cannot be written")


def fitted(frame: NDArray[np.uint8], width: int = TILE_WIDTH) -> Canvas:
    """A frame (H, W, 3) or (H, W) as a tile (h, `width`, 3)."""
    color = np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), np.uint8) if frame.ndim == 2 else frame
    height = max(1, round(color.shape[0] * width / color.shape[1]))
    method = cv2.INTER_CUBIC if width > color.shape[1] else cv2.INTER_AREA
    return np.asarray(cv2.resize(color, (width, height), interpolation=method), np.uint8)


def lay_out(head: Canvas, tiles: Sequence[tuple[Canvas, Sequence[Sequence[Words]]]], *, columns: int) -> Canvas:
    """Put tiles of one width under a head, each with its lines of words.

    Args:
        head: (h, w, 3), of `empty_head`.
        tiles: pictures and lines; at least one.
    """
    height, width = max(tile.shape[0] for tile, _ in tiles), tiles[0][0].shape[1]
    foot = 10 + LINE * max(len(lines) for _, lines in tiles)
    rows = -(-len(tiles) // columns)
    sheet = np.full((head.shape[0] + rows * (height + foot + MARGIN) + MARGIN // 2, head.shape[1], 3), PAPER, np.uint8)
    sheet[: head.shape[0]] = head
    for place, (tile, lines) in enumerate(tiles):
        x = MARGIN + (place % columns) * (width + MARGIN)
        y = head.shape[0] + (place // columns) * (height + foot + MARGIN)
        sheet[y : y + tile.shape[0], x : x + width] = tile
        for number, line in enumerate(lines, start=1):
            words_at(sheet, line, (x, y + height + number * LINE - 2))
    return sheet


def empty_head(height: int, columns: int, width: int = TILE_WIDTH) -> Canvas:
    """Paper for the head of a sheet of tiles of `width`."""
    return np.full((height, MARGIN + columns * (width + MARGIN), 3), PAPER, np.uint8)


def words_at(canvas: Canvas, words: Sequence[Words], at: tuple[float, float], *, size: float = 17) -> float:
    """Write words of several colours in a line; gives the x behind them."""
    x = at[0]
    for text, color in words:
        drawing.text(canvas, text, (x, at[1]), size=size, color=color)
        x += drawing.text_width(text, size=size) + 0.8 * size
    return x
