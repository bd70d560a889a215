"""How sure a figure is, by drawing what it comes from anew (bootstrap). Intervals hold 95 %.

Two answers to the same frames are compared frame by frame (paired): the difference of two errors on the same frame
varies far less than either. Neighbouring frames, and neighbouring visits of a benchmark, are alike, so blocks of them
are drawn, not single ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Interval", "Ratio", "bootstrap_mean", "bootstrap_ratio", "grouped_mean", "paired_bootstrap_mean",
           "ratio_of_medians"]  # fmt: skip

DRAWS = 4000

BLOCK = 25
"""Frames that count as one observation: a good second at 20 frames per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio with its 95 % confidence interval."""

    value: float
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
    low, high = _ends(means)
    return Interval(mean=float(change.mean()), low=low, high=high)


def grouped_mean(values: NDArray[np.float64], groups: Sequence[str], *, samples: int = 2000, seed: int = 0) -> Interval:
    """Mean of (n,) values, n >= 1, of which those of a group are alike: whole groups are drawn.

    Where values of 0 and 1 stand alone, the interval is Wilson's, which is not sure of anything where all are the same.
    """
    _, which = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    mean = float(values.mean())
    if len(counts) == len(values) and np.isin(values, (0.0, 1.0)).all():
        return _wilson(mean, len(values))
    rng, places = np.random.default_rng(seed), len(counts)
    drawn = (rng.integers(0, places, places) for _ in range(samples))
    low, high = _ends(np.array([sums[index].sum() / counts[index].sum() for index in drawn]))
    return Interval(mean=mean, low=low, high=high)


def _wilson(share: float, count: int) -> Interval:
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(mean=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def bootstrap_mean(values: NDArray[np.float64], *, seed: int = 0) -> Interval:
    """Mean of (n,) independent values, n >= 1, such as whole simulated worlds, which differ far more than steps do."""
    low, high = _ends(values[_drawn(len(values), seed)].mean(axis=1))
    return Interval(mean=float(values.mean()), low=low, high=high)


def bootstrap_ratio(values: NDArray[np.float64], reference: NDArray[np.float64], *, seed: int = 0) -> Ratio:
    """Mean of `values` over the mean of `reference`, (n,) each, from the same worlds, which are drawn in pairs."""
    drawn = _drawn(len(values), seed)
    low, high = _ends(values[drawn].mean(axis=1) / reference[drawn].mean(axis=1))
    return Ratio(value=float(values.mean() / reference.mean()), low=low, high=high)


def ratio_of_medians(values: NDArray[np.float64], reference: NDArray[np.float64], *, seed: int = 0) -> Ratio:
    """Median of (n,) `values` over that of (m,) `reference`, each drawn in blocks of neighbours."""
    rng = np.random.default_rng(seed)
    low, high = _ends(_resampled_medians(values, rng) / _resampled_medians(reference, rng))
    return Ratio(value=float(np.median(values) / np.median(reference)), low=low, high=high)


def _resampled_medians(samples: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(DRAWS,) medians of samples drawn with replacement in blocks of neighbours."""
    block = max(1, round(samples.size ** (1 / 3)))
    blocks = math.ceil(samples.size / block)
    starts = rng.integers(0, samples.size, (DRAWS, blocks))
    places = (starts[:, :, np.newaxis] + np.arange(block)) % samples.size
    return np.asarray(np.median(samples[places].reshape(DRAWS, -1)[:, : samples.size], axis=1))


def _drawn(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, count, (DRAWS, count))


def _ends(resampled: NDArray[np.float64]) -> tuple[float, float]:
    """Of the interval that holds 95 % of (draws,) resampled figures."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(low), float(high)
