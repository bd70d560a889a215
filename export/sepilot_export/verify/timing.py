"""Latency of model contents against each other, inference alone.

Every round visits all of them in a new random order, so that a change of the clock or of the load meets all alike. For
whole paths from frame to steering, of files, there is `sepilot bench`.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.latency import Latency, latency_of
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
    samples = [array("d") for _ in pilots]
    rng = np.random.default_rng(seed)
    clock_ns = time.perf_counter_ns
    for _ in range(rounds):
        for index in rng.permutation(len(pilots)):
            infer, taken = pilots[index].infer_picture, samples[index]
            for call in range(-WARM_UP_CALLS, calls):
                picture = pictures[call % len(pictures)]
                start = clock_ns()
                infer(picture)
                if call >= 0:
                    taken.append((clock_ns() - start) / 1000)
    return [latency_of(taken) for taken in samples]
