"""Points as people see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.points.output import Points
from sepilot_runtime.contract.outputs.protocol import Box, Color

__all__ = ["draw_columns", "draw_on", "draw_recorded"]

GROOVE: Color = (96, 90, 84)
MARK: Color = (242, 242, 242)
LINE: Color = (180, 200, 90)
POINT: Color = (60, 220, 255)
RIM: Color = (40, 34, 28)


def draw_on(
    frame: NDArray[np.uint8], value: Any, output: Points, *, point: Color = POINT, line: Color = LINE
) -> NDArray[np.uint8]:
    """Draw a decoded answer, its places in pixels of the frame (H, W, 3) BGR, with its skeleton, into the frame."""
    found = {name: (round(8 * x), round(8 * y)) for name, (x, y) in value["points"].items()}
    size = max(frame.shape[:2])
    radius = max(1.5, size / (160 if len(found) > 20 else 90))
    thickness = max(1, round(radius / 2))
    for one, other in output.skeleton:
        if one in found and other in found:
            cv2.line(frame, found[one], found[other], line, thickness, cv2.LINE_AA, shift=3)
    for place in found.values():
        cv2.circle(frame, place, round(8 * (radius + 1)), RIM, cv2.FILLED, cv2.LINE_AA, shift=3)
        cv2.circle(frame, place, round(8 * radius), point, cv2.FILLED, cv2.LINE_AA, shift=3)
    return frame


def draw_recorded(frame: NDArray[np.uint8], places: Sequence[tuple[float, float]]) -> None:
    """Rings in a frame (H, W, 3) at points in fractions of it."""
    height, width = frame.shape[:2]
    radius = max(2.5, max(height, width) / 110)
    for x, y in places:
        cv2.circle(
            frame, (round(8 * x * width), round(8 * y * height)), round(8 * radius), MARK, 1, cv2.LINE_AA, shift=3
        )


def draw_columns(
    canvas: NDArray[np.uint8], columns: Sequence[float], box: Box, color: Color, recorded: Sequence[float]
) -> None:
    """How far right each point is, as strokes in a groove; those that were recorded reach beyond it."""
    x, y, width, height = box
    cv2.line(canvas, (x, y + height // 2), (x + width, y + height // 2), GROOVE, 2, cv2.LINE_AA)
    for places, shade, reach in ((recorded, MARK, 3), (columns, color, 0)):
        for place in places:
            at = x + round(min(max(place, 0.0), 1.0) * width)
            cv2.line(canvas, (at, y - reach), (at, y + height + reach), shade, 2)
