"""What every simulator gives: frames, ground truth, and an expert to learn from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["EVALUATION_SEED", "USUAL_THROTTLE", "Simulator", "State", "throttle_for_bend"]

EVALUATION_SEED = 1_000_000
"""World seeds from here on are kept for closed-loop evaluation; drives are recorded in worlds below it only."""


USUAL_THROTTLE = 0.3
"""Drives a car at its simulator's `speed_mps`; another one at a speed in proportion."""


def throttle_for_bend(curvature_per_m: float, *, speed_mps: float, lateral_mps2: float) -> float:
    """The usual throttle, or as much less as keeps the acceleration sideways in a bend below `lateral_mps2`."""
    fastest_mps = math.sqrt(lateral_mps2 / max(abs(curvature_per_m), 1e-9))
    return USUAL_THROTTLE * min(1.0, fastest_mps / speed_mps)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Ground truth of one moment. Everything that has a side is positive to the right.

    Attributes:
        cte_m: cross-track error; + = the car is right of the centre line.
        heading_rad: the car's heading against the centre line's, in (-pi, pi]; + = it points to the right of it.
        curvature_per_m: of the centre line beside the car; + = the road bends to the right.
        progress_m: driven along the centre line since `reset`, backwards counts negative.
        laps: `progress_m` in rounds of the track.
        off_road: the car's reference point has left the road.
        speed_mps: of the car.
    """

    cte_m: float
    heading_rad: float
    curvature_per_m: float
    progress_m: float
    laps: float
    off_road: bool
    speed_mps: float


class Simulator(Protocol):
    """A car with a forward camera in a seeded world.

    Frames are uint8 BGR (height, width, 3) and belong to the caller. Steering is in [-1, 1], + = right, and throttle in
    [0, 1]; both are clipped.

    Attributes:
        name: as given to `open_simulator`.
        rate_hz: steps per second of simulated time.
        full_scale_deg: front-wheel angle at steering 1.
        speed_mps: the car's usual speed, at `USUAL_THROTTLE`.
    """

    name: str
    rate_hz: float
    full_scale_deg: float
    speed_mps: float

    def reset(self, seed: int) -> tuple[NDArray[np.uint8], State]:
        """Enter the world of `seed` at a random place on the centre line. Equal seeds give equal drives."""
        ...

    def step(self, steering: float, throttle: float | None = None) -> tuple[NDArray[np.uint8], State]:
        """Hold both for one period and look again; without a throttle the car keeps its usual speed, whatever comes.

        A car that left the road goes on driving.
        """
        ...

    def expert(self) -> float:
        """Give the steering that brings the car back to, and along, the centre line from where it is."""
        ...

    def expert_throttle(self) -> float:
        """Give the throttle that takes the bends ahead without haste, and straights at the usual speed."""
        ...

    def recentre(self) -> tuple[NDArray[np.uint8], State]:
        """Put the car back on the centre line beside where it is, as a person's hand would. Progress is kept."""
        ...
