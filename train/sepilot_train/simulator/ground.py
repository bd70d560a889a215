"""Painting the ground: road, lines, verge, texture, shadows and stains, from each texel's offset from the centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_train.simulator.track import Track

__all__ = ["STYLES", "Paint", "Style", "draw_paint", "offsets", "paint_ground"]

Picture = NDArray[Any]
"""uint8 BGR. OpenCV's stubs do not tell the type of what comes back."""
Color = tuple[float, float, float]

OFFSET_STEP_M = 0.005
"""The road's cross-section is painted through a table of 256 offsets, so it reaches 0.64 m to either side."""
SHADE_ONE = 128
"""Byte value of an unchanged texel in the shade that multiplies the painted ground."""
COARSE = 4
"""Shadows and broad texture are drawn at this fraction of the resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One kind of road; colours are BGR. `centre_bgr` None: no centre line."""

    road_bgr: Color
    edge_bgr: Color
    centre_bgr: Color | None


STYLES = (
    Style(road_bgr=(75, 72, 70), edge_bgr=(235, 235, 235), centre_bgr=(60, 200, 230)),
    Style(road_bgr=(95, 92, 90), edge_bgr=(90, 210, 235), centre_bgr=(235, 235, 235)),
    Style(road_bgr=(60, 70, 85), edge_bgr=(70, 140, 240), centre_bgr=(60, 200, 230)),
    Style(road_bgr=(120, 118, 115), edge_bgr=(238, 238, 238), centre_bgr=None),
)
VERGES: tuple[Color, ...] = ((60, 120, 70), (120, 140, 160), (70, 90, 120), (90, 80, 60), (80, 140, 130))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    """What is drawn by lot for a world; plain as it is. Lengths in metres, amplitudes as shares of the brightness."""

    style: Style = STYLES[0]
    verge_bgr: Color = VERGES[0]
    line_m: float = 0.04
    edge_inset_m: float = 0.06
    dash_m: float = 0.24
    gap_m: float = 0.26
    double_centre: bool = False
    wear: float = 0.0
    fine: float = 0.05
    coarse: float = 0.05
    shadows: int = 0
    cracks: int = 0


def draw_paint(rng: np.random.Generator, randomize: bool) -> Paint:
    """Draw a paint, or give the plain one."""
    if not randomize:
        return Paint()
    style = STYLES[rng.integers(len(STYLES))]
    road, verge = _scaled(style.road_bgr, rng, 0.75, 1.3), _scaled(VERGES[rng.integers(len(VERGES))], rng, 0.7, 1.25)
    edge = _scaled(style.edge_bgr, rng, 0.8, 1.05)
    return Paint(
        style=Style(road_bgr=road, edge_bgr=edge, centre_bgr=style.centre_bgr),
        verge_bgr=verge,
        line_m=rng.uniform(0.025, 0.05),
        edge_inset_m=rng.uniform(0.04, 0.08),
        dash_m=rng.uniform(0.16, 0.32),
        gap_m=0.0 if rng.random() < 0.15 else rng.uniform(0.16, 0.36),
        double_centre=rng.random() < 0.12,
        wear=rng.uniform(0.0, 0.25),
        fine=rng.uniform(0.03, 0.14),
        coarse=rng.uniform(0.03, 0.16),
        shadows=int(rng.integers(0, 14)),
        cracks=int(rng.integers(0, 24)),
    )


def offsets(
    track: Track, origin_m: NDArray[np.float64], texel_m: float, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Per texel of a map (width, height): signed offset in metres from the centre line (+ = right), nearest sample."""
    width, height = size
    column, row = np.round((track.points_m - origin_m) / texel_m).astype(np.int32).T
    empty = np.full((height, width), 255, np.uint8)
    empty[row, column] = 0
    distance, label = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    sample_of = np.zeros(int(label.max()) + 1, np.int32)
    sample_of[label[row, column]] = np.arange(len(row), dtype=np.int32)
    sample = sample_of[label]
    # The transform counts from texels; near the road the projection on the normal is exact, farther out it may be off.
    normal = track.normals
    at = np.einsum("ij,ij->i", normal, track.points_m - origin_m)
    across = np.take(normal[:, 0].astype(np.float32), sample) * (np.arange(width, dtype=np.float32) * texel_m)
    across += (
        np.take(normal[:, 1].astype(np.float32), sample) * (np.arange(height, dtype=np.float32) * texel_m)[:, None]
    )
    across -= np.take(at.astype(np.float32), sample)
    far = distance > 1.0 / texel_m
    across[far] = np.copysign(10.0, across[far])
    return across, sample


def paint_ground(
    track: Track,
    origin_m: NDArray[np.float64],
    texel_m: float,
    size: tuple[int, int],
    paint: Paint,
    rng: np.random.Generator,
) -> Picture:
    """The ground seen from above, (height, width, 3) uint8 BGR."""
    offset, sample = offsets(track, origin_m, texel_m, size)
    step = cv2.addWeighted(offset, 1 / OFFSET_STEP_M, offset, 0, 128, dtype=cv2.CV_8U)
    section = cv2.merge([step, step, step])
    grain = _grain(rng, size)
    ground = cv2.LUT(section, _cross_section(track, paint, texel_m, edges=True, centre=True))
    if paint.style.centre_bgr is not None and paint.gap_m > 0:
        gap = (np.arange(len(track.points_m)) * track.spacing_m) % (paint.dash_m + paint.gap_m) > paint.dash_m
        bare = cv2.LUT(section, _cross_section(track, paint, texel_m, edges=True, centre=False))
        cv2.copyTo(bare, np.take(gap.astype(np.uint8), sample), ground)
    if paint.wear > 0:
        limit = float(np.quantile(grain[::16, ::16], 1 - paint.wear))
        worn = (grain > limit).astype(np.uint8)
        bare = cv2.LUT(section, _cross_section(track, paint, texel_m, edges=False, centre=False))
        cv2.copyTo(bare, worn, ground)
    _draw_cracks(ground, paint, track, origin_m, texel_m, rng)
    shade = cv2.addWeighted(_shade(rng, size, paint, texel_m), 1.0, grain, paint.fine * 2.5, -128 * paint.fine * 2.5)
    lit: Picture = cv2.multiply(ground, cv2.merge([shade, shade, shade]), scale=1 / SHADE_ONE)
    return lit


def _cross_section(track: Track, paint: Paint, texel_m: float, *, edges: bool, centre: bool) -> Picture:
    """(1, 256, 3) colours over the offset, edges of lines softened over a texel."""
    offset = (np.arange(256) - 128) * OFFSET_STEP_M
    half, line = track.half_width_m, paint.line_m

    def cover(middle_m: float) -> NDArray[np.float64]:
        covered: NDArray[np.float64] = np.clip((line / 2 - np.abs(offset - middle_m)) / texel_m + 0.5, 0, 1)[:, None]
        return covered

    road = np.clip((half - np.abs(offset)) / texel_m + 0.5, 0, 1)[:, None]
    color = np.array(paint.verge_bgr) * (1 - road) + np.array(paint.style.road_bgr) * road
    if edges:
        for side in (-1, 1):
            part = cover(side * (half - paint.edge_inset_m))
            color = color * (1 - part) + np.array(paint.style.edge_bgr) * part
    if centre and paint.style.centre_bgr is not None:
        for middle in (-line, line) if paint.double_centre else (0.0,):
            part = cover(middle)
            color = color * (1 - part) + np.array(paint.style.centre_bgr) * part
    table: Picture = np.clip(np.round(color), 0, 255).astype(np.uint8)[None]
    return table


def _grain(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Fine texture of three scales, repeated over the map; bytes centred at 128."""
    side = 768
    total = np.zeros((side, side), np.float32)
    for cells in (768, 384, 128):
        cell = rng.standard_normal((cells, cells), dtype=np.float32)
        total += cv2.resize(cell, (side, side), interpolation=cv2.INTER_LINEAR)
    tile = np.clip(128 + 26 * total, 0, 255).astype(np.uint8)
    width, height = size
    repeated: Picture = np.tile(tile, (height // side + 1, width // side + 1))[:height, :width].copy()
    return repeated


def _shade(rng: np.random.Generator, size: tuple[int, int], paint: Paint, texel_m: float) -> Picture:
    """Broad texture, shadows and bright patches as bytes; SHADE_ONE leaves the ground as it is."""
    width, height = size[0] // COARSE + 1, size[1] // COARSE + 1
    total = np.zeros((height, width), np.float32)
    for cells in (5, 11, 23, 47):
        cell = rng.standard_normal((cells, cells), dtype=np.float32)
        total += cv2.resize(cell, (width, height), interpolation=cv2.INTER_CUBIC) / 2
    shade = 1 + paint.coarse * total
    per_m = 1 / (texel_m * COARSE)
    for _ in range(paint.shadows):
        spread = np.array([rng.uniform(0.08, 1.6), rng.uniform(0.08, 0.5)]) * per_m
        turn = rng.uniform(0, math.pi)
        cloud = rng.standard_normal((7, 2)) * spread
        turned = cloud @ np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        corners = turned + rng.uniform((0, 0), (width, height))
        spot = np.zeros((height, width), np.uint8)
        hull = cv2.convexHull(corners.astype(np.float32)).astype(np.int32)
        cv2.fillConvexPoly(spot, hull, 1)
        darker = rng.uniform(0.35, 0.75) if rng.random() < 0.85 else rng.uniform(1.1, 1.3)
        shade[spot > 0] *= darker
    soft = cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.6, 2.0))
    small = np.clip(soft * SHADE_ONE, 0, 255).astype(np.uint8)
    full: Picture = cv2.resize(small, (width * COARSE, height * COARSE), interpolation=cv2.INTER_LINEAR)
    return full[: size[1], : size[0]]


def _draw_cracks(
    ground: Picture, paint: Paint, track: Track, origin_m: NDArray[np.float64], texel_m: float, rng: np.random.Generator
) -> None:
    """Dark wandering lines on and beside the road: seams, skid marks, repairs."""
    for _ in range(paint.cracks):
        start = track.points_m[rng.integers(len(track.points_m))] + rng.normal(0, 0.4, 2)
        heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.35, 12))
        way = start + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * rng.uniform(0.02, 0.16), axis=0)
        texels = np.round((way - origin_m) / texel_m).astype(np.int32)
        color = tuple(float(c) for c in np.array(paint.style.road_bgr) * rng.uniform(0.45, 0.85))
        cv2.polylines(ground, [texels], False, color, int(rng.integers(1, 4)), cv2.LINE_AA)


def _scaled(color: Color, rng: np.random.Generator, low: float, high: float) -> Color:
    """A colour made darker or brighter as a whole, and tinted a little."""
    blue, green, red = (float(c) for c in np.array(color) * rng.uniform(low, high) * rng.uniform(0.93, 1.07, 3))
    return blue, green, red
