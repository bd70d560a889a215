"""Latency of model contents against each other, inference alone; of whole paths of files: `sepilot bench`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.latency import Latency, Way, interleave, latency_of
from sepilot_runtime.engine.pilot import Pilot

__all__ = ["time_pilots"]

WARM_UP_CALLS = 5


def time_pilots(
    pilots: Sequence[Pilot], pictures: NDArray[np.uint8], *, rounds: int = 20, calls: int = 40, seed: int = 0
) -> list[Latency]:
    """Run pictures (n, h, w, c) through all pilots, interleaved.

    Args:
        rounds: visits to each.
        calls: that count per visit.
    """
    ways = [Way(run=pilot.infer_picture, items=pictures, calls=calls, warm_up=WARM_UP_CALLS) for pilot in pilots]
    return [latency_of(taken_us.ravel()) for taken_us in interleave(ways, rounds=rounds, seed=seed)]
