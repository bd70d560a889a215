"""A world: a track with its painted ground, what stands beside it, and the sky around."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_train.simulator.ground import Color, draw_paint, paint_ground
from sepilot_train.simulator.sky import PANORAMA_STEP_DEG, PANORAMA_TOP_DEG, draw_haze, paint_panorama
from sepilot_train.simulator.track import Track, make_track

__all__ = ["PANORAMA_STEP_DEG", "PANORAMA_TOP_DEG", "Post", "World", "make_world"]

TEXEL_M = 0.008
MARGIN_M = 2.0
LEVELS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """An upright board beside the road."""

    x_m: float
    y_m: float
    width_m: float
    height_m: float
    bgr: Color


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """Everything a camera can see. The map's axes are those of `track.py`.

    Attributes:
        ground: the ground from above, uint8 BGR, finest first, each level half of the one before. Texel (row,
            column) of level k lies at origin_m + (column, row) * texel_m * 2**k.
        panorama: uint8 BGR, see `paint_panorama`.
        verge_bgr: the ground beyond the map.
        haze_bgr, haze_per_m: over distance d everything fades to the haze by 1 - exp(-haze_per_m * d).
        posts, posts_at_m: boards, and their places (n, 2).
    """

    seed: int
    track: Track
    origin_m: NDArray[np.float64]
    texel_m: float
    ground: tuple[NDArray[np.uint8], ...]
    panorama: NDArray[np.uint8]
    verge_bgr: Color
    haze_bgr: Color
    haze_per_m: float
    posts: tuple[Post, ...]
    posts_at_m: NDArray[np.float64]


@lru_cache(maxsize=4)
def make_world(seed: int, randomize: bool = True) -> World:
    """Draw the world of a seed. Its track does not depend on `randomize`; its looks are plain without.

    The last four stay in memory (about 15 MB each): several drivers in turn through one world pay for it once.
    """
    track = make_track(np.random.default_rng([seed, 1]))
    rng = np.random.default_rng([seed, 2])
    origin = track.points_m.min(axis=0) - MARGIN_M
    extent = track.points_m.max(axis=0) + MARGIN_M - origin
    size = (int(extent[0] / TEXEL_M), int(extent[1] / TEXEL_M))
    paint = draw_paint(rng, randomize)
    levels: list[NDArray[Any]] = [paint_ground(track, origin, TEXEL_M, size, paint, rng)]
    for _ in range(LEVELS - 1):
        levels.append(cv2.pyrDown(levels[-1]))
    haze, per_m = draw_haze(rng, randomize)
    posts = _draw_posts(track, rng, int(rng.integers(10, 40)) if randomize else 0)
    return World(
        seed=seed,
        track=track,
        origin_m=origin,
        texel_m=TEXEL_M,
        ground=tuple(levels),
        panorama=paint_panorama(rng, haze, paint.verge_bgr, randomize),
        verge_bgr=paint.verge_bgr,
        haze_bgr=haze,
        haze_per_m=per_m,
        posts=posts,
        posts_at_m=np.array([(post.x_m, post.y_m) for post in posts]).reshape(-1, 2),
    )


def _draw_posts(track: Track, rng: np.random.Generator, count: int) -> tuple[Post, ...]:
    """Boards along the road, none on any stretch of it."""
    posts: list[Post] = []
    normals = track.normals
    for _ in range(count):
        beside = int(rng.integers(len(track.points_m)))
        away = rng.choice([-1, 1]) * rng.uniform(track.half_width_m + 0.2, track.half_width_m + 1.4)
        x, y = track.points_m[beside] + away * normals[beside]
        width, height = rng.uniform(0.04, 0.3), rng.uniform(0.1, 0.6)
        gray, vividness = rng.uniform(30, 220), rng.uniform(0.1, 0.6)
        blue, green, red = (float(c) for c in gray + (rng.uniform(20, 230, 3) - gray) * vividness)
        if np.hypot(*(track.points_m[::10] - (x, y)).T).min() > track.half_width_m + width / 2 + 0.05:
            posts.append(Post(x_m=float(x), y_m=float(y), width_m=width, height_m=height, bgr=(blue, green, red)))
    return tuple(posts)
