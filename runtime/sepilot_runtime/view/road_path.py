"""Where a steering angle leads: the arc of a bicycle model, projected onto the picture.

For drawing only. The camera is a guess that fits most cars: a pinhole with 80° of view at a height of one unit, looking
along the ground, and a wheelbase of 2.2 such heights, as on a 1:10 car and on a passenger car alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RoadView", "ribbon"]

WHEELBASE = 2.2
HALF_WIDTH = 0.4
LENGTH = 9.0
FOCAL_LENGTH = 0.6
"""In widths of the picture: 80° from side to side."""

LARGEST_TURN = math.radians(80)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadView:
    """A picture of the road: its size in pixels, and the row of the horizon as a fraction from the top."""

    width: int
    height: int
    horizon: float


def ribbon(steering_deg: float, view: RoadView, *, half_width: float = HALF_WIDTH) -> NDArray[np.float64]:
    """Left and right edge of the strip that the car would cover, nearest first.

    Args:
        steering_deg: of the front wheels, + = right.

    Returns:
        (2, n, 2): edge, point, x and y in pixels. Points may lie outside of the picture.
    """
    curvature = math.tan(math.radians(max(-60.0, min(steering_deg, 60.0)))) / WHEELBASE
    focal_px = FOCAL_LENGTH * view.width
    horizon_px = view.horizon * view.height
    nearest = 0.75 * focal_px / (view.height - horizon_px)
    length = min(LENGTH, LARGEST_TURN / abs(curvature)) if curvature else LENGTH
    # Even steps in the picture rather than on the road.
    along = 1 / np.linspace(1 / nearest, 1 / max(length, 1.5 * nearest), 40)
    heading = curvature * along
    if abs(curvature) < 1e-6:
        x, z = np.zeros_like(along), along
    else:
        x, z = (1 - np.cos(heading)) / curvature, np.sin(heading) / curvature
    edges = []
    for side in (-half_width, half_width):
        edge_x = x + side * np.cos(heading)
        edge_z = np.maximum(z - side * np.sin(heading), 0.3 * nearest)
        edges.append(np.stack([view.width / 2 + focal_px * edge_x / edge_z, horizon_px + focal_px / edge_z], axis=1))
    return np.stack(edges)
