"""Faces of road signs, as seen from the front."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2

__all__ = ["SIGNS", "sign_face"]

Picture = NDArray[Any]
"""uint8, BGR with a fourth channel: 255 where the sign is, 0 beside it."""

SIDE = 128
WHITE, BLACK = (240, 240, 240, 255), (25, 25, 25, 255)
RED, BLUE, YELLOW = (35, 30, 195, 255), (170, 85, 25, 255), (40, 190, 245, 255)
MIDDLE = (SIDE // 2, SIDE // 2)


def _fill(face: Picture, corners: Any, color: tuple[int, int, int, int]) -> None:
    cv2.fillPoly(face, [np.round(np.asarray(corners) * (SIDE - 1)).astype(np.int32)], color)


def _regular(sides: int, radius: float, turn: float) -> NDArray[np.float64]:
    angle = (np.arange(sides) + turn) * 2 * np.pi / sides
    return 0.5 + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _words(face: Picture, text: str, scale: float, color: tuple[int, int, int, int], thick: int) -> None:
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    at = (MIDDLE[0] - width // 2, MIDDLE[1] + height // 2)
    cv2.putText(face, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, color, thick)


def _stop(face: Picture) -> None:
    octagon = 0.5 / np.cos(np.pi / 8)
    _fill(face, _regular(8, octagon, 0.5), WHITE)
    _fill(face, _regular(8, octagon * 0.92, 0.5), RED)
    _words(face, "STOP", 1.25, WHITE, 5)


def _yield(face: Picture) -> None:
    _fill(face, [(0, 0.05), (1, 0.05), (0.5, 0.95)], RED)
    _fill(face, [(0.2, 0.17), (0.8, 0.17), (0.5, 0.71)], WHITE)


def _speed(face: Picture, number: str) -> None:
    cv2.circle(face, MIDDLE, SIDE // 2 - 1, RED, -1)
    cv2.circle(face, MIDDLE, round(SIDE * 0.38), WHITE, -1)
    _words(face, number, 1.75, BLACK, 8)


def _turn(face: Picture, right: bool) -> None:
    cv2.circle(face, MIDDLE, SIDE // 2 - 1, WHITE, -1)
    cv2.circle(face, MIDDLE, round(SIDE * 0.47), BLUE, -1)
    arrow = np.array(
        [(0.28, 0.8), (0.28, 0.42), (0.55, 0.42), (0.55, 0.25), (0.85, 0.5), (0.55, 0.75), (0.55, 0.58), (0.42, 0.58),
         (0.42, 0.8)]
    )  # fmt: skip
    _fill(face, arrow if right else arrow * (-1, 1) + (1, 0), WHITE)


def _no_entry(face: Picture) -> None:
    cv2.circle(face, MIDDLE, SIDE // 2 - 1, RED, -1)
    _fill(face, [(0.17, 0.4), (0.83, 0.4), (0.83, 0.6), (0.17, 0.6)], WHITE)


def _priority(face: Picture) -> None:
    _fill(face, _regular(4, 0.5, 0), WHITE)
    _fill(face, _regular(4, 0.4, 0), YELLOW)


SIGNS = {
    "no-entry": _no_entry,
    "priority": _priority,
    "speed-30": lambda face: _speed(face, "30"),
    "speed-50": lambda face: _speed(face, "50"),
    "stop": _stop,
    "turn-left": lambda face: _turn(face, right=False),
    "turn-right": lambda face: _turn(face, right=True),
    "yield": _yield,
}
"""Class name to what paints it on an empty face."""


@lru_cache(maxsize=64)
def sign_face(name: str, side: int) -> Picture:
    """(side, side, 4): the sign fills the square from edge to edge in one direction at least. Shared: do not write."""
    if side < SIDE:
        return np.asarray(cv2.resize(sign_face(name, SIDE), (side, side), interpolation=cv2.INTER_AREA))
    face = np.zeros((SIDE, SIDE, 4), np.uint8)
    SIGNS[name](face)
    return face
