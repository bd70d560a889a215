"""A vector as people see it: not to be read, but the same person's looks the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.protocol import Box, Color

__all__ = ["draw_vector"]


def draw_vector(canvas: NDArray[np.uint8], vector: NDArray[np.float64], box: Box, color: Color) -> None:
    """Its numbers as bars up and down from the middle, the largest as high as the box."""
    x, y, width, height = box
    middle, half = y + height // 2, height / 2 / max(float(np.abs(vector).max()), 1e-9)
    edges = np.linspace(x, x + width, len(vector) + 1).astype(int)
    for left, right, number in zip(edges[:-1], edges[1:], vector, strict=True):
        low, high = sorted((middle, middle - round(number * half)))
        cv2.rectangle(canvas, (int(left), low), (max(int(left), int(right) - 1), high), color, cv2.FILLED)
