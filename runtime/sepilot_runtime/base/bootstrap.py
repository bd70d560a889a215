"""Two answers to the same frames, compared frame by frame (paired).

The difference of two errors on the same frame varies far less than either. Neighbouring frames are alike, so the
confidence interval comes from resampling blocks of consecutive frames, not frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "paired_bootstrap_mean"]

BLOCK = 25
"""Frames that count as one observation: a good second at 20 frames per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap_mean(
    change: NDArray[np.float64], drives: Sequence[str], *, samples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of `change` (n,) with a block bootstrap interval; blocks end where a drive ends."""
    # Few frames make few blocks, and a bootstrap of few blocks is too sure of itself; shorter ones are the lesser evil.
    length = max(1, min(BLOCK, len(change) // 20))
    starts = [0]
    for i in range(1, len(change)):
        if drives[i] != drives[i - 1] or i - starts[-1] >= length:
            starts.append(i)
    sums = np.add.reduceat(change, starts)
    counts = np.diff([*starts, len(change)])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(starts), (samples, len(starts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(mean=float(change.mean()), low=float(low), high=float(high))
