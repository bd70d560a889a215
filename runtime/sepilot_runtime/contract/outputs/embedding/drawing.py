"""A vector as people see it: not to be read, but the same person's looks the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.protocol import Box, Color

__all__ = ["draw_similarity", "draw_vector"]

GROOVE: Color = (96, 90, 84)


def draw_vector(canvas: NDArray[np.uint8], vector: NDArray[np.float64], box: Box, color: Color) -> None:
    """Its numbers as bars up and down from the middle, the largest as high as the box."""
    x, y, width, height = box
    middle, half = y + height // 2, height / 2 / max(float(np.abs(vector).max()), 1e-9)
    edges = np.linspace(x, x + width, len(vector) + 1).astype(int)
    for left, right, number in zip(edges[:-1], edges[1:], vector, strict=True):
        low, high = sorted((middle, middle - round(number * half)))
        cv2.rectangle(canvas, (int(left), low), (max(int(left), int(right) - 1), high), color, cv2.FILLED)


def draw_similarity(canvas: NDArray[np.uint8], similarity: float, threshold: float, box: Box, color: Color) -> None:
    """A bar as long as the cosine is large, with a line across where it is enough."""
    x, y, width, height = box
    middle, at = y + height // 2, x + round(max(0.0, threshold) * width)
    cv2.line(canvas, (x, middle), (x + width, middle), GROOVE, 2, cv2.LINE_AA)
    cv2.rectangle(canvas, (x, y), (x + max(1, round(similarity * width)), y + height), color, cv2.FILLED)
    cv2.line(canvas, (at, y - 3), (at, y + height + 3), GROOVE, 2, cv2.LINE_AA)
