"""Latency: fair timing, percentiles that are honest about how few samples they come from, and a rolling window."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Latency", "LatencyHistogram", "RollingLatency", "Way", "interleave", "latency_of"]


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """Something to be timed.

    Attributes:
        run: called with one of `items` after the other.
        calls: that count in each visit.
        warm_up: calls before those, which pay for what other ways evicted from the caches.
        took: given what came of each call that counts, while no clock runs.
    """

    run: Callable[[Any], Any]
    items: Sequence[Any] | NDArray[Any]
    calls: int
    warm_up: int = 10
    took: Callable[[Any], object] | None = None


def interleave(
    ways: Sequence[Way], *, rounds: int, seed: int = 0, tick: Callable[[], object] = lambda: None
) -> list[NDArray[np.float64]]:
    """Time all ways against each other: (rounds, calls) microseconds of each.

    Every round visits each in a new random order, so that a change of the clock or of the load meets all alike.

    Args:
        tick: called after every visit.
    """
    rng, clock_ns = np.random.default_rng(seed), time.perf_counter_ns
    taken_us = [np.zeros((rounds, way.calls)) for way in ways]
    # One counter for all: what a way reads must not be in the cache because another one just read it.
    at = 0
    for turn in range(rounds):
        for index in rng.permutation(len(ways)):
            way, row = ways[index], taken_us[index][turn]
            run, items, took = way.run, way.items, way.took
            for call in range(-way.warm_up, way.calls):
                item = items[at % len(items)]
                at += 1
                start = clock_ns()
                result = run(item)
                us = (clock_ns() - start) / 1000
                if call >= 0:
                    row[call] = us
                    if took is not None:
                        took(result)
            tick()
    return taken_us


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


class LatencyHistogram:
    """A distribution in constant memory, however long the drive: bins of 1 % from 0.1 µs to 1000 s."""

    _RATIO = math.log(1.01)
    _LOWEST_US = 0.1

    def __init__(self) -> None:
        self._last = math.ceil(math.log(1e9 / self._LOWEST_US) / self._RATIO)
        self._counts = [0] * (self._last + 1)
        self._count = 0
        self._min_us, self._max_us = math.inf, 0.0

    def add(self, sample_us: float) -> None:
        """Count one sample in microseconds."""
        # Comparisons in place of min and max, which are calls: this runs four times per frame.
        place = int(math.log(sample_us / self._LOWEST_US) / self._RATIO) if sample_us > self._LOWEST_US else 0
        self._counts[place if place < self._last else self._last] += 1
        self._count += 1
        if sample_us < self._min_us:
            self._min_us = sample_us
        if sample_us > self._max_us:
            self._max_us = sample_us

    def result(self) -> Latency | None:
        """Percentiles to within 1 %, upwards; None without samples."""
        if not self._count:
            return None
        return Latency(
            count=self._count,
            min_us=self._min_us,
            p50_us=self._percentile(0.5),
            p90_us=self._percentile(0.9),
            p99_us=self._percentile(0.99),
            max_us=self._max_us,
        )

    def _percentile(self, share: float) -> float:
        rank, seen = math.ceil(share * self._count), 0
        for place, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                upper = self._LOWEST_US * math.exp((place + 1) * self._RATIO)
                return min(max(upper, self._min_us), self._max_us)
        return self._max_us
