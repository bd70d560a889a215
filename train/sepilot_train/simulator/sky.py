"""Painting what stands around the ground: sky, clouds, hills and trees, as one panorama."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2

__all__ = ["PANORAMA_STEP_DEG", "PANORAMA_TOP_DEG", "draw_haze", "paint_panorama"]

Color = tuple[float, float, float]

PANORAMA_STEP_DEG = 0.5
PANORAMA_TOP_DEG = 75.0
PANORAMA_BOTTOM_DEG = -3.0
COLUMNS = round(360 / PANORAMA_STEP_DEG)


def draw_haze(rng: np.random.Generator, randomize: bool) -> tuple[Color, float]:
    """Colour of the air at the horizon, and how much of it a metre of air holds."""
    if not randomize:
        return (225.0, 215.0, 205.0), 0.04
    color = np.array([240, 230, 220]) * rng.uniform(0.6, 1.0) * rng.uniform(0.95, 1.05, 3)
    dense = rng.uniform(0.1, 0.3) if rng.random() < 0.15 else rng.uniform(0.015, 0.07)
    blue, green, red = (float(c) for c in np.clip(color, 0, 255))
    return (blue, green, red), float(dense)


def paint_panorama(rng: np.random.Generator, haze_bgr: Color, verge_bgr: Color, randomize: bool) -> NDArray[np.uint8]:
    """(rows, 2 turns, 3) uint8 BGR: two full turns side by side, so that any view lies within.

    Column 0 looks along the map's -x; columns grow clockwise by PANORAMA_STEP_DEG, rows downwards from
    PANORAMA_TOP_DEG of elevation.
    """
    elevation = np.arange(PANORAMA_TOP_DEG, PANORAMA_BOTTOM_DEG, -PANORAMA_STEP_DEG)
    blue = np.array([235, 190, 140]) * (rng.uniform(0.55, 1.05) if randomize else 0.9)
    zenith = blue + (np.array(haze_bgr) - blue) * (rng.uniform(0, 0.9) if randomize else 0.2)
    height = (np.clip(elevation / 40, 0, 1) ** 0.6)[:, None, None]
    sky: NDArray[np.float64] = np.array(haze_bgr) * (1 - height) + zenith * height * np.ones((1, COLUMNS, 1))
    cover: NDArray[np.float64] = np.clip(_clouds(rng, len(elevation)) - rng.uniform(-0.3, 1.2), 0, 1)[
        ..., None
    ] * np.sqrt(height)
    cloud = 250 * rng.uniform(0.75, 1.0)
    sky += (cloud - sky) * (0.8 * cover)
    for nearness in (0.25, 0.5, 0.8):
        _draw_ridge(sky, elevation, rng, haze_bgr, verge_bgr, nearness)
    turn = np.clip(sky, 0, 255).astype(np.uint8)
    return np.concatenate([turn, turn], axis=1)


def _draw_ridge(
    sky: NDArray[np.float64],
    elevation: NDArray[np.float64],
    rng: np.random.Generator,
    haze_bgr: Color,
    verge_bgr: Color,
    nearness: float,
) -> None:
    """A skyline of hills, or nearer and rougher, of trees; the nearer the less it fades into the haze."""
    azimuth = np.arange(COLUMNS) * 2 * math.pi / COLUMNS
    waves = np.arange(2, 60 if nearness > 0.7 else 14)
    size = rng.normal(0, 1, len(waves)) / waves ** (0.6 if nearness > 0.7 else 1.0)
    line = np.cos(azimuth[:, None] * waves + rng.uniform(0, 2 * math.pi, len(waves))) @ size
    top = rng.uniform(-1.0, 2.5) + rng.uniform(0.5, 2.5) * line
    color = np.array(verge_bgr) * rng.uniform(0.45, 0.9)
    color = color * nearness + np.array(haze_bgr) * (1 - nearness)
    inside = np.clip((top[None] - elevation[:, None]) / PANORAMA_STEP_DEG + 0.5, 0, 1)[..., None]
    sky += (color - sky) * inside * (elevation > -1.0)[:, None, None]


def _clouds(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Smooth noise that closes over a full turn."""
    total = np.zeros((rows, COLUMNS), np.float32)
    for cells in (6, 12, 30, 60):
        cell = rng.standard_normal((max(cells // 2, 3), cells), dtype=np.float32)
        # One more turn on either side, so that interpolation at the seam sees its neighbours.
        wide: NDArray[Any] = cv2.resize(np.tile(cell, (1, 3)), (3 * COLUMNS, rows), interpolation=cv2.INTER_CUBIC)
        total += wide[:, COLUMNS : 2 * COLUMNS] / math.sqrt(cells / 6)
    return total
