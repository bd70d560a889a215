"""The held-out frames that a processor's kernels are tried on: few, as emulation is slow, and those that show most."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["hardest_frames"]

GAP = 5
"""Frames at 20 Hz are like their neighbours: one of them says it all."""


def hardest_frames(errors: NDArray[np.float64], predictions: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Indices of at most `count` frames, in order.

    Five eighths are the worst frames of each file in turn, a quarter the hardest turns to either side (sums that
    saturate on another processor are rare, and lie there), the rest is spread evenly over all.

    Args:
        errors: (files, n), each file's absolute deviations on this machine.
        predictions: (n,) of the training model.
        count: 0 for all frames.
    """
    total = len(predictions)
    if not 0 < count < total:
        return np.arange(total)
    chosen: list[int] = []
    worst = np.argsort(-errors, axis=1)
    turns = np.stack([np.argsort(predictions), np.argsort(-predictions)])
    _take(_in_turn(worst[:, :1]), count * 5 // 8, chosen, 1)  # Each file's very worst, neighbours or not.
    _take(_in_turn(worst), count * 5 // 8, chosen, GAP)
    _take(_in_turn(turns), count * 7 // 8, chosen, GAP)
    _take(iter(np.linspace(0, total - 1, count).astype(int)), count, chosen, GAP)
    _take(_in_turn(worst), count, chosen, 1)  # Where the drives are too short for the gap.
    return np.sort(np.array(chosen))


def _in_turn(rankings: NDArray[np.intp]) -> Iterator[int]:
    """The first of each row, then the second of each, and so on."""
    return iter(rankings.T.ravel().tolist())


def _take(ranking: Iterator[int], until: int, chosen: list[int], gap: int) -> None:
    """Add the first ones that are no neighbours of each other, until there are `until` in all."""
    added: list[int] = []
    for index in ranking:
        if len(chosen) >= until:
            return
        if index not in chosen and all(abs(index - other) >= gap for other in added):
            chosen.append(int(index))
            added.append(int(index))
