"""Two benchmarks side by side: faster, slower, or no difference that their noise lets one see.

The median of each visit to a file is one sample: within a visit the machine is much the same, from one to the next it
is not. The interval of the ratio comes from resampling both runs' visits in blocks, as neighbours are alike, and is
widened by how far each run drifted between its two halves: the time between the runs brings at least as much.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Ratio, ratio_of_medians
from sepilot_runtime.base.documents import read_document
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.bench.record import Benchmark, BenchRow

__all__ = [
    "Key",
    "RegressionOutcome",
    "RegressionTest",
    "compare",
    "ratio_interval",
    "read_benchmark",
    "require_comparable",
]

FEWEST_ROUNDS = 5
SAME_SETTINGS = ("frame_width", "frame_height", "frames")


Key = tuple[str, str, int]
"""File, engine and threads of a row."""


class RegressionOutcome(StrEnum):
    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no visible difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionTest:
    """One file in both runs.

    Attributes:
        ratio: new median over old median; `low` and `high` hold 95 % of what the noise allows.
        failed: slower, and by more than was tolerated.
    """

    file: str
    engine: str
    threads: int
    old_us: float
    new_us: float
    ratio: float
    low: float
    high: float
    outcome: RegressionOutcome
    failed: bool


def read_benchmark(path: Path) -> Benchmark:
    """What `sepilot bench --json` wrote.

    Raises:
        UsageError: it is no such document, or one of a sepilot that did not keep the single rounds.
    """
    document = read_document(Benchmark, path, UsageError)
    if not all(row.us_p50_by_round for row in document.rows):
        raise UsageError(f"{path}: rows without us_p50_by_round, of an older sepilot; measure again")
    return document


def compare(old: Benchmark, new: Benchmark, *, tolerance: float = 0.05) -> tuple[list[RegressionTest], list[str]]:
    """Every file, engine and number of threads that both have, and remarks on what does not compare.

    Args:
        tolerance: by how much something may be slower: 0.05 is 5 %.

    Raises:
        UsageError: see `require_comparable`.
    """
    require_comparable(old, new.settings, [(_key(row), len(row.us_p50_by_round)) for row in new.rows])
    before, after = ({_key(row): row for row in document.rows} for document in (old, new))
    found = [_compared(before[key], row, tolerance) for key, row in after.items() if key in before]
    remarks = [f"only in the old run: {' '.join(map(str, key))}" for key in before if key not in after]
    remarks += [f"only in the new run: {' '.join(map(str, key))}" for key in after if key not in before]
    return found, _machines(old, new) + remarks


def require_comparable(old: Benchmark, settings: Mapping[str, Any], rows: Sequence[tuple[Key, int]]) -> None:
    """Make sure that a benchmark compares with an old one, which can be told before it is made.

    Args:
        settings, rows: of the new one, each row with its number of rounds.

    Raises:
        UsageError: other frames were measured, there are too few rounds, the files cannot be told apart, or they have
            nothing in common.
    """
    for name in SAME_SETTINGS:
        if old.settings.get(name) != settings.get(name):
            raise UsageError(
                f"--against: {name}: {old.settings.get(name)} there, {settings.get(name)} here; "
                "only runs on the same frames compare"
            )
    there = [(_key(row), len(row.us_p50_by_round)) for row in old.rows]
    _require_told_apart([key for key, _ in there], [key for key, _ in rows])
    rounds = dict(there)
    common = {key: min(count, rounds[key]) for key, count in rows if key in rounds}
    if not common:
        raise UsageError("--against: no file with the same engine and threads in both")
    for (file, _, _), count in common.items():
        if count < FEWEST_ROUNDS:
            raise UsageError(f"--against: {file}: at least {FEWEST_ROUNDS} rounds in both runs expected, found {count}")


def _require_told_apart(there: Sequence[Key], here: Sequence[Key]) -> None:
    """Files of one name have a part of their path before it, and compare where both runs call them the same."""
    for keys, where in ((there, "there"), (here, "here")):
        if double := [key for key, times in Counter(keys).items() if times > 1]:
            raise UsageError(f"--against: {' '.join(map(str, double[0]))}: one row expected, found several {where}")
    named = [_by_last_part(keys) for keys in (there, here)]
    for last in named[0].keys() & named[1].keys():
        old, new = (names[last] for names in named)
        if old != new and max(len(old), len(new)) > 1:
            raise UsageError(
                f"--against: {last}: {', '.join(sorted(old))} there, {', '.join(sorted(new))} here; several files of "
                "one name compare only where both runs have the same ones"
            )


def _by_last_part(keys: Sequence[Key]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file, _, _ in keys:
        found.setdefault(file.rpartition("/")[2], set()).add(file)
    return found


def ratio_interval(old_us: Sequence[float], new_us: Sequence[float], seed: int = 0) -> Ratio:
    """The ratio of the medians, new over old, its interval widened by how far each run drifted."""
    old, new = np.asarray(old_us, np.float64), np.asarray(new_us, np.float64)
    found, drift = ratio_of_medians(new, old, seed=seed), math.exp(max(_drift(old), _drift(new)))
    return Ratio(value=found.value, low=found.low / drift, high=found.high * drift)


def _compared(old: BenchRow, new: BenchRow, tolerance: float) -> RegressionTest:
    rounds = (old.us_p50_by_round, new.us_p50_by_round)
    ratio = ratio_interval(*rounds)
    outcome = (
        RegressionOutcome.SLOWER
        if ratio.low > 1
        else RegressionOutcome.FASTER
        if ratio.high < 1
        else RegressionOutcome.SAME
    )
    return RegressionTest(
        file=new.file,
        engine=new.engine,
        threads=new.threads,
        old_us=float(np.median(rounds[0])),
        new_us=float(np.median(rounds[1])),
        ratio=ratio.value,
        low=ratio.low,
        high=ratio.high,
        outcome=outcome,
        failed=outcome is RegressionOutcome.SLOWER and ratio.value > 1 + tolerance,
    )


def _drift(samples: NDArray[np.float64]) -> float:
    half = samples.size // 2
    return abs(math.log(float(np.median(samples[:half]) / np.median(samples[half:]))))


def _key(row: BenchRow) -> Key:
    return row.file, row.engine, row.threads


def _machines(old: Benchmark, new: Benchmark) -> list[str]:
    """What else is not the same."""
    remarks = [
        f"{name}: {there} there, {here} here"
        for name in ("board", "cpu", "cores", "governor", "versions", "python")
        if (there := getattr(old.conditions, name)) != (here := getattr(new.conditions, name))
    ]
    if old.gemm_gmacs and new.gemm_gmacs:
        remarks.append(f"the machine itself: {old.gemm_gmacs:.1f} GMAC/s there, {new.gemm_gmacs:.1f} here")
    return remarks
