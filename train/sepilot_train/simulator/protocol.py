"""What every simulator gives: frames, ground truth, and an expert to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["EVALUATION_SEED", "Simulator", "State"]

EVALUATION_SEED = 1_000_000
"""World seeds from here on are kept for closed-loop evaluation; drives are recorded in worlds below it only."""


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
    """

    cte_m: float
    heading_rad: float
    curvature_per_m: float
    progress_m: float
    laps: float
    off_road: bool


class Simulator(Protocol):
    """A car with a forward camera in a seeded world.

    Frames are uint8 BGR (height, width, 3) and belong to the caller. Steering is in [-1, 1], + = right, and is clipped.

    Attributes:
        name: as given to `open_simulator`.
        rate_hz: steps per second of simulated time.
        full_scale_deg: front-wheel angle at steering 1.
        speed_mps: the car's usual speed.
    """

    name: str
    rate_hz: float
    full_scale_deg: float
    speed_mps: float

    def reset(self, seed: int) -> tuple[NDArray[np.uint8], State]:
        """Enter the world of `seed` at a random place on the centre line. Equal seeds give equal drives."""
        ...

    def step(self, steering: float) -> tuple[NDArray[np.uint8], State]:
        """Hold `steering` for one period and look again. A car that left the road goes on driving."""
        ...

    def expert(self) -> float:
        """Give the steering that brings the car back to, and along, the centre line from where it is."""
        ...

    def recentre(self) -> tuple[NDArray[np.uint8], State]:
        """Put the car back on the centre line beside where it is, as a person's hand would. Progress is kept."""
        ...
