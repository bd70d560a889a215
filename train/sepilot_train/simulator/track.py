"""Random closed tracks.

The map has x to the east and y to the south, as in a picture, so that angles grow clockwise and everything with a side
(heading, curvature, cross-track error, steering) is positive to the right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Track", "make_track"]

Array = NDArray[np.float64]

SPACING_M = 0.01
BASE_RADIUS_M = 4.2
MIN_RADIUS_M = 0.85
HALF_WIDTH_M = 0.5
VERGE_M = 0.4
"""At least this much ground lies between two stretches of road."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """A closed centre line, sampled at equal arc length.

    Attributes:
        points_m: (n, 2) x, y.
        heading_rad: (n,) direction of travel.
        curvature_per_m: (n,) + = bends to the right.
        spacing_m: arc length between neighbours.
        half_width_m: from the centre line to the road's edge.
    """

    points_m: Array
    heading_rad: Array
    curvature_per_m: Array
    spacing_m: float
    half_width_m: float = HALF_WIDTH_M

    @property
    def length_m(self) -> float:
        return len(self.points_m) * self.spacing_m

    @property
    def normals(self) -> Array:
        """(n, 2) unit vectors to the right of the direction of travel."""
        return np.stack([-np.sin(self.heading_rad), np.cos(self.heading_rad)], axis=1)

    def nearest(self, x_m: float, y_m: float, around: int, reach_m: float = 0.6) -> int:
        """Index of the sample nearest to a place, searched within `reach_m` of arc length around sample `around`."""
        reach = round(reach_m / self.spacing_m)
        window = np.arange(around - reach, around + reach + 1) % len(self.points_m)
        away = self.points_m[window] - (x_m, y_m)
        return int(window[np.argmin(np.einsum("ij,ij->i", away, away))])

    def offset_m(self, x_m: float, y_m: float, index: int) -> float:
        """Signed distance of a place from the centre line at sample `index`; + = right of it."""
        heading = self.heading_rad[index]
        dx, dy = (x_m, y_m) - self.points_m[index]
        return float(-math.sin(heading) * dx + math.cos(heading) * dy)

    def steps_between(self, start: int, end: int) -> int:
        """Samples from `start` to `end` the short way round; negative when `end` lies behind."""
        n = len(self.points_m)
        return (end - start + n // 2) % n - n // 2


def make_track(rng: np.random.Generator) -> Track:
    """Draw a smooth closed curve around the origin, no tighter than the car can drive, nowhere close to itself."""
    angle = np.linspace(0, 2 * math.pi, 4096, endpoint=False)
    while True:
        order = np.arange(2.0, 8.0)
        size = BASE_RADIUS_M * rng.normal(0, 0.26, len(order)) / order
        phase = rng.uniform(0, 2 * math.pi, len(order))
        clockwise = rng.random() < 0.5
        radius, slope, bend = _fourier(angle, order, size, phase)
        if radius.min() < 1.5 or np.abs(_curvature(radius, slope, bend)).max() > 1 / MIN_RADIUS_M:
            continue
        track = _sampled(angle, order, size, phase, clockwise)
        if _clear_of_itself(track):
            return track


def _fourier(angle: Array, order: Array, size: Array, phase: Array) -> tuple[Array, ...]:
    """Radius over the angle, and its first two derivatives."""
    turn = angle[:, None] * order + phase
    radius = BASE_RADIUS_M + np.cos(turn) @ size
    return radius, -np.sin(turn) @ (size * order), -np.cos(turn) @ (size * order**2)


def _curvature(radius: Array, slope: Array, bend: Array) -> Array:
    curvature: Array = (radius**2 + 2 * slope**2 - radius * bend) / (radius**2 + slope**2) ** 1.5
    return curvature


def _sampled(angle: Array, order: Array, size: Array, phase: Array, clockwise: bool) -> Track:
    radius, slope, _ = _fourier(angle, order, size, phase)
    speed = np.hypot(radius, slope)
    between = (speed + np.roll(speed, -1)) / 2 * (angle[1] - angle[0])
    arc = np.concatenate([[0.0], np.cumsum(between)])
    n = int(arc[-1] / SPACING_M)
    at = np.interp(np.arange(n) * arc[-1] / n, arc, np.append(angle, 2 * math.pi))
    radius, slope, bend = _fourier(at, order, size, phase)
    points = np.stack([radius * np.cos(at), radius * np.sin(at)], axis=1)
    heading = at + np.arctan2(radius, slope)
    curvature = _curvature(radius, slope, bend)
    if not clockwise:
        points, heading, curvature = points[::-1].copy(), heading[::-1] + math.pi, -curvature[::-1]
    wrapped = (heading + math.pi) % (2 * math.pi) - math.pi
    return Track(points_m=points, heading_rad=wrapped, curvature_per_m=curvature, spacing_m=float(arc[-1] / n))


def _clear_of_itself(track: Track) -> bool:
    """Whether stretches that are far apart along the road are apart on the map as well."""
    points = track.points_m[::20]
    away = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    index = np.arange(len(points))
    along = np.abs(index[:, None] - index)
    along = np.minimum(along, len(points) - along) * 20 * track.spacing_m
    width = 2 * HALF_WIDTH_M + VERGE_M
    return bool((away[along > 2 * width] > width).all())
