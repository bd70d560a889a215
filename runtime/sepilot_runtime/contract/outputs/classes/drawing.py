"""How sure an answer is, as people see it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.protocol import Box, Color

__all__ = ["draw_probability"]

GROOVE: Color = (96, 90, 84)
WRONG: Color = (60, 60, 220)


def draw_probability(canvas: NDArray[np.uint8], probability: float, box: Box, color: Color, *, wrong: bool) -> None:
    """A bar as long as the class is probable; framed in red where another one was recorded."""
    x, y, width, height = box
    middle = y + height // 2
    cv2.line(canvas, (x, middle), (x + width, middle), GROOVE, 2, cv2.LINE_AA)
    cv2.rectangle(canvas, (x, y), (x + max(1, round(probability * width)), y + height), color, cv2.FILLED)
    if wrong:
        cv2.rectangle(canvas, (x - 2, y - 2), (x + width + 2, y + height + 2), WRONG, 2)
