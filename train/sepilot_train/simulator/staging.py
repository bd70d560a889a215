"""Putting things into the worlds, picture after picture, each time anew."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_train.simulator.builtin import BuiltinSimulator
from sepilot_train.simulator.camera import Mount
from sepilot_train.simulator.painter import Pose, Seen, Sun, paint, projected
from sepilot_train.simulator.signs import SIGNS
from sepilot_train.simulator.things import Thing, car, cone, sign
from sepilot_train.simulator.track import Track

__all__ = ["OBJECT_MOUNT", "Staged", "stage"]

OBJECT_MOUNT = Mount(width_px=320, height_px=240)
TARGET_AHEAD_M = 1.2
EMPTY = 0.06
"""Share of the pictures with nothing in them."""
MOST = 6
NEAREST_M, FARTHEST_M = 0.45, 3.0
LEAST_VISIBLE = 0.3
SMALLEST_PX = 7.0
KINDS = ("cone",) * 3 + ("car",) * 3 + tuple(SIGNS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Staged:
    """A picture with what is in it.

    Attributes:
        picture: (240, 320, 3) uint8 BGR.
        seen: what has a box, farthest first.
        dropped: of what was in view besides, how many by the reason why it has none.
        target: x, y in pixels of the place on the centre line 1.2 m ahead; None outside of the picture.
    """

    picture: NDArray[np.uint8]
    seen: tuple[Seen, ...]
    dropped: Counter[str]
    target: tuple[float, float] | None


def stage(seed: int, count: int, mount: Mount = OBJECT_MOUNT) -> Iterator[Staged]:
    """`count` pictures in the world of `seed`, each from another place and with other things.

    Equal seeds give equal pictures.
    """
    simulator = BuiltinSimulator(mount=mount)
    simulator.reset(seed)
    world, camera = simulator.world, simulator.camera
    rng = np.random.default_rng([seed, 5])
    up, round_about = rng.uniform(0.6, 1.3), rng.uniform(0, math.tau)
    sun = Sun(
        toward=(math.cos(up) * math.cos(round_about), math.cos(up) * math.sin(round_about), math.sin(up)),
        ambient=rng.uniform(0.5, 0.75),
    )
    track = world.track
    for _ in range(count):
        at = int(rng.integers(len(track.points_m)))
        pose = _pose(track, at, rng)
        things = _things(track, at, rng)
        frame = camera.scene(*pose)
        found = paint(frame, camera, world, things, pose, sun)
        kept, dropped = [], Counter[str]()
        for seen in found:
            left, top, right, bottom = seen.box
            if seen.visible < LEAST_VISIBLE:
                dropped["hidden"] += 1
            elif min(right - left, bottom - top) < SMALLEST_PX:
                dropped["small"] += 1
            else:
                kept.append(seen)
        picture = camera.develop(frame, rng.uniform(0.85, 1.15))
        yield Staged(
            picture=picture, seen=tuple(kept), dropped=dropped, target=_target(simulator, at, pose)
        )  # fmt: skip


def _pose(track: Track, at: int, rng: np.random.Generator) -> Pose:
    """Of a car that follows the road more or less."""
    x, y = track.points_m[at] + np.clip(rng.normal(0, 0.14), -0.35, 0.35) * track.normals[at]
    return float(x), float(y), float(track.heading_rad[at] + np.clip(rng.normal(0, 0.14), -0.4, 0.4))


def _things(track: Track, at: int, rng: np.random.Generator) -> list[Thing]:
    """None on another's ground: signs beside the road, to its right more often, cars on it, cones anywhere."""
    if rng.random() < EMPTY:
        return []
    things: list[Thing] = []
    for _ in range(int(rng.integers(1, MOST + 1))):
        kind = KINDS[rng.integers(len(KINDS))]
        ahead = NEAREST_M + (FARTHEST_M - NEAREST_M) * rng.random() ** 1.5
        index = (at + round(ahead / track.spacing_m)) % len(track.points_m)
        half, heading = track.half_width_m, float(track.heading_rad[index])
        side = 1 if rng.random() < 0.65 else -1
        if kind == "car":
            aside, turn = rng.uniform(-0.4, 0.4), math.pi * (rng.random() < 0.4) + rng.normal(0, 0.25)
        elif kind == "cone":
            aside, turn = rng.choice([-1, 1]) * rng.uniform(0.1, half + 0.4), 0.0
        else:
            aside, turn = side * (half + rng.uniform(0.12, 0.5)), math.pi + rng.normal(0, 0.3)
        x, y = (float(v) for v in track.points_m[index] + aside * track.normals[index])
        if kind == "car":
            made: tuple[Thing, ...] = (car(x, y, heading + turn, rng),)
        elif kind == "cone":
            made = (cone(x, y, rng),)
        else:
            made = sign(kind, x, y, heading + turn, rng)
            if np.hypot(*(track.points_m[::10] - (x, y)).T).min() < half + 0.05:
                continue
        if all(math.hypot(x - o.x_m, y - o.y_m) > made[0].radius_m + o.radius_m + 0.03 for o in things):
            things += made
    return things


def _target(simulator: BuiltinSimulator, at: int, pose: Pose) -> tuple[float, float] | None:
    track, mount = simulator.world.track, simulator.camera.mount
    ahead = track.points_m[(at + round(TARGET_AHEAD_M / track.spacing_m)) % len(track.points_m)]
    pixels, before = projected(simulator.camera, np.array([[*ahead, 0.0]]), pose)
    x, y = (float(v) + 0.5 for v in pixels[0])
    return (x, y) if before and 0 <= x < mount.width_px and 0 <= y < mount.height_px else None
