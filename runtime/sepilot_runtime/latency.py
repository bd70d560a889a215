"""Latency: percentiles that are honest about how few samples they come from, and a rolling window for the display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Latency", "RollingLatency", "latency_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Distribution of one stage in microseconds. Percentiles are samples that occurred, not interpolations.

    Attributes:
        count: of samples. p99 of fewer than 100 samples is their maximum.
    """

    count: int
    min_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


def latency_of(samples_us: NDArray[np.floating] | Sequence[float]) -> Latency:
    """Summarize samples in microseconds; at least one."""
    samples = np.sort(np.asarray(samples_us, np.float64))
    p50, p90, p99 = np.percentile(samples, [50, 90, 99], method="higher")
    return Latency(
        count=int(samples.size),
        min_us=float(samples[0]),
        p50_us=float(p50),
        p90_us=float(p90),
        p99_us=float(p99),
        max_us=float(samples[-1]),
    )


class RollingLatency:
    """The last `size` samples in memory that is allocated once."""

    def __init__(self, size: int = 128) -> None:
        self._samples = np.zeros(size)
        self._count = 0

    def add(self, sample_us: float) -> None:
        self._samples[self._count % self._samples.size] = sample_us
        self._count += 1

    def median_us(self) -> float:
        """0 before the first sample."""
        filled = self._samples[: min(self._count, self._samples.size)]
        return float(np.median(filled)) if filled.size else 0.0
