"""A closed centre line of straight pieces: where on it a point lies, how far beside it, and which way it leads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CentreLine", "Station"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A point's place: `along_m` from the line's start, in [0, length), and `right_m`, + = right of the line."""

    along_m: float
    right_m: float


class CentreLine:
    """Closed polyline through points (n, 2) in metres, in driving order, x right and y up."""

    def __init__(self, points: NDArray[np.float64]) -> None:
        ahead = np.roll(points, -1, axis=0) - points
        lengths = np.hypot(ahead[:, 0], ahead[:, 1])
        self._points, self._lengths = points, lengths
        self._directions = ahead / lengths[:, None]
        self._starts = np.concatenate([[0.0], np.cumsum(lengths)])
        self.length_m = float(self._starts[-1])
        yaw = np.unwrap(np.arctan2(self._directions[:, 1], self._directions[:, 0]))
        turn = math.remainder(yaw[0] - yaw[-1], math.tau)
        # A piece's direction belongs to its middle; between two middles it is interpolated.
        middles = self._starts[:-1] + lengths / 2
        self._turn_total = float(yaw[-1] + turn - yaw[0])
        self._middles = np.concatenate([[middles[-1] - self.length_m], middles, [middles[0] + self.length_m]])
        self._yaws = np.concatenate([[yaw[-1] - self._turn_total], yaw, [yaw[0] + self._turn_total]])

    def nearest(self, x: float, y: float, *, near_m: float | None = None, within_m: float = 30.0) -> Station:
        """The nearest place on the line; with `near_m` only within `within_m` along it, where tracks come close."""
        offset = np.array([x, y]) - self._points
        along = np.clip((offset * self._directions).sum(axis=1), 0.0, self._lengths)
        away = np.hypot(*(offset - along[:, None] * self._directions).T)
        if near_m is not None:
            gap = np.abs(np.mod(self._starts[:-1] - near_m + self.length_m / 2, self.length_m) - self.length_m / 2)
            away = np.where(gap <= within_m, away, np.inf)
        i = int(np.argmin(away))
        dx, dy = self._directions[i]
        side = dy * offset[i, 0] - dx * offset[i, 1]
        return Station(
            along_m=float(self._starts[i] + along[i]) % self.length_m,
            right_m=math.copysign(float(away[i]), side),
        )

    def at(self, along_m: float) -> tuple[float, float]:
        """The point (x, y) at a distance along the line; any distance, it goes round."""
        along = along_m % self.length_m
        i = min(int(np.searchsorted(self._starts, along, side="right")), len(self._points)) - 1
        x, y = self._points[i] + (along - float(self._starts[i])) * self._directions[i]
        return float(x), float(y)

    def yaw_at(self, along_m: float) -> float:
        """Direction in radians, anticlockwise from x."""
        return float(np.interp(along_m % self.length_m, self._middles, self._yaws))

    def curvature_at(self, along_m: float, span_m: float = 4.0) -> float:
        """1/m, + = the line bends to the right, as mean over `span_m`."""
        turn = self.yaw_at(along_m + span_m / 2) - self.yaw_at(along_m - span_m / 2)
        return -math.remainder(turn, math.tau) / span_m

    def difference_m(self, to_m: float, from_m: float) -> float:
        """The shorter way along the line, signed."""
        return math.remainder(to_m - from_m, self.length_m)
