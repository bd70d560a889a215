"""Boxes as people see them: on the frame, or as a small picture of where things are."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.protocol import Box, Color

__all__ = ["color_of", "draw_on", "draw_recorded", "draw_small"]

GROOVE: Color = (96, 90, 84)
MARK: Color = (242, 242, 242)
INK: Color = (24, 20, 16)

COLORS: tuple[Color, ...] = (
    (203, 107, 11), (31, 122, 224), (118, 118, 25), (30, 38, 179), (180, 70, 140), (60, 170, 240), (150, 180, 40),
    (90, 90, 230), (200, 160, 60), (70, 160, 70), (190, 120, 200), (40, 200, 200),
)  # fmt: skip


def color_of(name: str) -> Color:
    """The same for a class in every frame and with every model."""
    return COLORS[zlib.crc32(name.encode()) % len(COLORS)]


def draw_recorded(frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> None:
    """Thin white frames with a dark seam around what was recorded, boxes (n, 4) in fractions of a frame (H, W, 3)."""
    height, width = frame.shape[:2]
    for x, y, wide, high in (boxes * (width, height, width, height)).tolist():
        for ink, line in ((INK, 3), (MARK, 1)):
            cv2.rectangle(frame, (round(x), round(y)), (round(x + wide), round(y + high)), ink, line)


def draw_on(frame: NDArray[np.uint8], value: Sequence[dict[str, Any]]) -> None:
    """Draw an answer, its boxes in pixels as `BoxesTask.in_frame` gives them, into a frame (H, W, 3) BGR.

    Each has the colour of its class and a plate with the class and the confidence, the surest ones on top.
    """
    height, width = frame.shape[:2]
    line = max(1, round(min(height, width) / 240))
    size = max(0.35, min(height, width) / 900)
    for thing in reversed(value):
        x, y, wide, high = thing["box"]
        x0, x1 = (round(min(max(edge, 0), width - 1)) for edge in (x, x + wide))
        y0, y1 = (round(min(max(edge, 0), height - 1)) for edge in (y, y + high))
        color = color_of(thing["class"])
        cv2.rectangle(frame, (x0, y0), (x1, y1), color, line)
        _plate(frame, f"{thing['class']} {thing['confidence']:.0%}", (x0, y0), size, color)


def _plate(frame: NDArray[np.uint8], words: str, at: tuple[int, int], size: float, color: Color) -> None:
    """Words on the upper edge of a box, or inside of it where the frame ends above."""
    (wide, high), below = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    full = high + below + 2
    x = min(at[0], max(frame.shape[1] - wide - 4, 0))
    y = at[1] - full if at[1] >= full else at[1]
    cv2.rectangle(frame, (x, y), (x + wide + 3, y + full), color, cv2.FILLED)
    bright = sum(color) > 380
    ink = INK if bright else MARK
    cv2.putText(frame, words, (x + 2, y + high + 1), cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)


def draw_small(
    canvas: NDArray[np.uint8], said: Sequence[Sequence[float]], there: Sequence[Sequence[float]], box: Box, color: Color
) -> None:
    """The picture squeezed into `box`: what is said filled, what was recorded as outlines."""
    x, y, width, height = box
    cv2.rectangle(canvas, (x, y), (x + width, y + height), GROOVE, 1)
    for boxes, ink, thick in ((said, color, cv2.FILLED), (there, MARK, 1)):
        for left, top, wide, high in boxes:
            ends = np.clip((left, top, left + wide, top + high), 0, 1) * (width, height, width, height)
            x0, y0, x1, y1 = (round(float(end)) for end in ends)
            cv2.rectangle(canvas, (x + x0, y + y0), (x + x1, y + y1), ink, thick)
