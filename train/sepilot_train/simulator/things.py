"""What stands in a world besides the road: cones, cars, signs and their poles, as faces in space.

A thing's own frame: x where it faces, y to its right, z up, origin on the ground below its middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_train.simulator.ground import Color
from sepilot_train.simulator.signs import SIGNS

__all__ = ["CLASSES", "Face", "Thing", "car", "cone", "pole", "sign"]

Array = NDArray[np.float64]

CLASSES = tuple(sorted(["car", "cone", *SIGNS]))
"""Names of what gets a box."""

FACETS = 12
GLASS: Color = (70, 60, 50)
RUBBER: Color = (28, 28, 30)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Face:
    """A flat polygon with corners (n, 3) in metres, seen from outside only: the origin lies behind it.

    Attributes:
        sign: name of the sign that is painted on it, clockwise from its upper left corner; "" for a plain `bgr`.
    """

    corners_m: Array
    bgr: Color
    sign: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thing:
    """Something that stands at x, y of the map and faces `yaw_rad`; its faces in an order that paints over.

    Attributes:
        name: its class; "" for what gets no box, as a sign's pole.
        radius_m: of the ground that it needs.
        points_m: by name, places that a net may find, (3,) in its own frame.
    """

    name: str
    x_m: float
    y_m: float
    yaw_rad: float
    radius_m: float
    faces: tuple[Face, ...]
    points_m: dict[str, tuple[float, float, float]]


def cone(x_m: float, y_m: float, rng: np.random.Generator) -> Thing:
    """An orange cone with one or two white bands on a square foot."""
    height, yaw = rng.uniform(0.12, 0.26), rng.uniform(0, math.tau)
    orange = _varied((20, 95, 240), rng, 0.12)
    white = _varied((235, 235, 235), rng, 0.08)
    wide, narrow, foot = 0.27 * height, 0.05 * height, 0.36 * height
    bands = [0.1, 0.45, 0.65, 1.0] if rng.random() < 0.5 else [0.1, 0.32, 0.48, 0.64, 0.8, 1.0]
    faces = _box(foot, foot, 0.0, 0.06 * height, _times(orange, 0.8))
    for place, (low, high) in enumerate(zip([0.06, *bands[1:-1]], bands[1:], strict=True)):
        radii = [wide + (narrow - wide) * share for share in (low, high)]
        faces += _ring(radii, [low * height, high * height], white if place % 2 else orange)
    faces.append(Face(corners_m=_circle(narrow, height), bgr=_times(orange, 0.4)))
    return Thing(
        name="cone", x_m=x_m, y_m=y_m, yaw_rad=yaw, radius_m=foot * 1.4, faces=tuple(faces),
        points_m={"tip": (0.0, 0.0, height), "base": (0.0, 0.0, 0.0)},
    )  # fmt: skip


def sign(name: str, x_m: float, y_m: float, yaw_rad: float, rng: np.random.Generator) -> tuple[Thing, Thing]:
    """The face of a sign, and the pole behind it."""
    half, low = rng.uniform(0.075, 0.125), rng.uniform(0.08, 0.24)
    pale = rng.uniform(0.85, 1.1)
    places = {"top-left": (-1, 2), "top-right": (1, 2), "bottom-right": (1, 0), "bottom-left": (-1, 0)}
    # What is right of the sign's own x is left of who looks at it.
    points = {key: (0.012, -side * half, low + up * half) for key, (side, up) in places.items()}
    face = Face(corners_m=np.array(list(points.values())), bgr=(255 * pale,) * 3, sign=name)
    points["middle"] = (0.012, 0.0, low + half)
    shown = Thing(name=name, x_m=x_m, y_m=y_m, yaw_rad=yaw_rad, radius_m=half, faces=(face,), points_m=points)
    return shown, pole(x_m, y_m, yaw_rad, low + 1.8 * half, rng)


def pole(x_m: float, y_m: float, yaw_rad: float, height_m: float, rng: np.random.Generator) -> Thing:
    """What carries a sign."""
    faces = _ring([0.009, 0.009], [0.0, height_m], _varied((150, 150, 150), rng, 0.25))
    return Thing(name="", x_m=x_m, y_m=y_m, yaw_rad=yaw_rad, radius_m=0.01, faces=tuple(faces), points_m={})


def car(x_m: float, y_m: float, yaw_rad: float, rng: np.random.Generator) -> Thing:
    """A car of the scale of ours: a body, a cabin with windows, lights and four wheels."""
    length, width, height = rng.uniform(0.36, 0.48), rng.uniform(0.17, 0.21), rng.uniform(0.13, 0.18)
    paint = _varied(_hue(rng), rng, 0.1)
    front, side, belt, floor = length / 2, width / 2, height * rng.uniform(0.5, 0.6), 0.025
    faces = _box(front, side, floor, belt, paint)
    for end, lamp in ((front, (225, 245, 250)), (-front, (35, 25, 190))):
        for way in (-1, 1):
            faces.append(_upright(end, way * side * 0.7, side * 0.22, belt * 0.6, belt * 0.85, lamp))
        faces.append(_upright(end, 0.0, side * 0.4, belt * 0.35, belt * 0.55, (200, 215, 215)))
    radius = 0.036 * length / 0.42
    for x in (-0.6 * front, 0.62 * front):
        for way in (-1, 1):
            for share, color in ((1.0, RUBBER), (0.5, (150, 150, 150))):
                faces.append(_wheel(x, way * (side + 0.003), radius, share, color))
    back, ahead = -front * rng.uniform(0.7, 0.95), front * rng.uniform(0.35, 0.5)
    lower, upper = (back, ahead, side * 0.96), (back * 0.75, ahead * 0.35, side * 0.78)
    cabin = _cabin(lower, upper, belt, height, paint)
    return Thing(
        name="car", x_m=x_m, y_m=y_m, yaw_rad=yaw_rad, radius_m=front, faces=tuple(faces + cabin),
        points_m={"middle": (0.0, 0.0, height / 2)},
    )  # fmt: skip


def _cabin(
    lower: tuple[float, float, float], upper: tuple[float, float, float], belt: float, roof: float, paint: Color
) -> list[Face]:
    """Painted walls with a window in each; `lower` and `upper` are back, front and half width at belt and roof."""
    rings = [
        np.array([(front, side, z), (back, side, z), (back, -side, z), (front, -side, z)])
        for (back, front, side), z in ((lower, belt), (upper, roof))
    ]
    faces = []
    for i in range(4):
        j = (i + 1) % 4
        wall = np.array([rings[0][i], rings[0][j], rings[1][j], rings[1][i]])
        middle = wall.mean(axis=0)
        faces += [Face(corners_m=wall, bgr=paint), Face(corners_m=middle + 0.8 * (wall - middle), bgr=GLASS)]
    return [*faces, Face(corners_m=rings[1], bgr=paint)]


def _box(x: float, y: float, low: float, high: float, color: Color) -> list[Face]:
    rings = [np.array([(x, y, z), (-x, y, z), (-x, -y, z), (x, -y, z)]) for z in (low, high)]
    return [*_walls(rings, color), Face(corners_m=rings[1], bgr=color)]


def _ring(radii: list[float], heights: list[float], color: Color) -> list[Face]:
    return _walls([_circle(radius, z) for radius, z in zip(radii, heights, strict=True)], color)


def _circle(radius: float, z: float) -> Array:
    angle = np.arange(FACETS) * math.tau / FACETS
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(FACETS, z)], axis=1)


def _walls(rings: list[Array], color: Color) -> list[Face]:
    """Between a ring and the one above it."""
    n = len(rings[0])
    return [
        Face(corners_m=np.array([rings[0][i], rings[0][(i + 1) % n], rings[1][(i + 1) % n], rings[1][i]]), bgr=color)
        for i in range(n)
    ]


def _upright(x: float, y: float, half: float, low: float, high: float, color: Color) -> Face:
    """On the front (x > 0) or the back of a body."""
    out = x + math.copysign(0.002, x)
    corners = [(out, y - half, low), (out, y + half, low), (out, y + half, high), (out, y - half, high)]
    return Face(corners_m=np.array(corners), bgr=color)


def _wheel(x: float, y: float, radius: float, share: float, color: Color) -> Face:
    angle = np.arange(FACETS) * math.tau / FACETS
    rim = [(x + share * radius * math.cos(a), y, radius + share * radius * math.sin(a)) for a in angle]
    return Face(corners_m=np.array(rim), bgr=color)


def _hue(rng: np.random.Generator) -> Color:
    """Of a car: white, grey and black as often as a colour."""
    if rng.random() < 0.5:
        gray = float(rng.uniform(35, 235))
        return gray, gray, gray
    blue, green, red = (float(c) for c in rng.permutation([rng.uniform(20, 60), rng.uniform(30, 150), 210.0]))
    return blue, green, red


def _varied(color: Color, rng: np.random.Generator, most: float) -> Color:
    blue, green, red = (float(c) for c in np.array(color) * rng.uniform(1 - most, 1 + most, 3))
    return blue, green, red


def _times(color: Color, by: float) -> Color:
    return color[0] * by, color[1] * by, color[2] * by
