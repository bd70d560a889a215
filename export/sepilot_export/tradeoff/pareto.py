"""The Pareto front and the three files worth a name.

Two files are compared frame by frame on the same frames: the difference of their errors is known far better than either
error. `above_deg` is such a difference from the lowest error, with its 95 % interval.

    most accurate   the fastest file that keeps 99 % of what the lowest error gains over the constant answer: the lowest
                    one itself, or one that nobody could tell from it on the road
    balanced        the fastest file that keeps 95 % of that gain
    smallest        the smallest file after gzip that keeps 90 % of it

A file keeps a share where the upper end of its interval does. Only files that pass their gates, could be timed, and are
surely better than the constant answer are picked. Times, and sizes, within 3 % of each other are equal, as the next
measurement or seed may swap them; then the size on the car, or the time, decides, and then the error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sepilot_export.tradeoff.candidate import Entry
from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean

__all__ = [
    "RULES",
    "Pick",
    "above_best",
    "best_of",
    "choose",
    "cost_gzip",
    "cost_raw",
    "cost_us",
    "eligible",
    "grouped",
    "pareto",
]

ACCURATE_SHARE, BALANCED_SHARE, SMALLEST_SHARE = 0.01, 0.05, 0.10
"""Of the best file's gain over the constant answer, what may be lost."""

EQUAL = 1.03
"""Ratio up to which two times, or two sizes, are the same."""


Letter = Literal["A", "B", "S"]

RULES: Mapping[Letter, tuple[str, str]] = {
    "A": ("Most accurate", "the fastest that keeps 99 % of what the lowest error gains over a constant answer"),
    "B": ("Balanced", "the fastest that keeps 95 % of that gain"),
    "S": ("Smallest", "the smallest after gzip that keeps 90 % of that gain"),
}
"""Title and rule of each pick, in words."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pick:
    """A file worth a name.

    Attributes:
        above_deg: its error less the lowest one.
        kept: of the lowest error's gain over the constant answer, 1 is all.
    """

    letter: Letter
    entry: Entry
    above_deg: Interval
    kept: float

    @property
    def title(self) -> str:
        return RULES[self.letter][0]

    @property
    def rule(self) -> str:
        return RULES[self.letter][1]


def cost_us(entry: Entry) -> float:
    """Median time from frame to angle; the entry must have been timed."""
    assert entry.timing is not None
    return entry.timing.median_us


def cost_gzip(entry: Entry) -> float:
    """Bytes after gzip."""
    return float(entry.gzip_bytes)


def cost_raw(entry: Entry) -> float:
    """Bytes as they are."""
    return float(entry.bytes)


def pareto(entries: Sequence[Entry], cost: Callable[[Entry], float]) -> list[Entry]:
    """Of the files that pass and were timed, those that no other beats in error and cost; by rising cost."""
    front: list[Entry] = []
    able = [e for e in entries if e.passed and e.mae_deg is not None and e.timing is not None]
    for entry in sorted(able, key=lambda e: (cost(e), _error(e))):
        if not front or _error(entry) < _error(front[-1]):
            front.append(entry)
    return front


def eligible(entries: Sequence[Entry], drives: Sequence[str]) -> list[Entry]:
    """Files that may be picked. `drives`: of each common frame."""
    able = [e for e in entries if e.passed and e.mae_deg is not None and e.timing is not None]
    return [e for e in able if paired_bootstrap_mean(e.errors_deg - e.constant_errors_deg, drives).high < 0]


def best_of(entries: Sequence[Entry]) -> Entry:
    """The lowest error; at least one entry with an error expected."""
    return min(entries, key=_error)


def above_best(entry: Entry, best: Entry, drives: Sequence[str]) -> Interval:
    """The error of `entry` less that of `best`, paired; in degrees."""
    return paired_bootstrap_mean(entry.errors_deg - best.errors_deg, drives)


def choose(able: Sequence[Entry], drives: Sequence[str]) -> list[Pick]:
    """Most accurate, balanced and smallest of the eligible files; empty where there is none.

    Args:
        drives: of each common frame.
    """
    if not able:
        return []
    best = best_of(able)
    gain = best.constant_mae_deg - _error(best)
    above = {id(e): above_best(e, best, drives) for e in able}

    def within(share: float) -> list[Entry]:
        return [e for e in able if e is best or above[id(e)].high <= share * gain]

    chosen: tuple[tuple[Letter, Entry], ...] = (
        ("A", _least(within(ACCURATE_SHARE), cost_us, cost_raw)),
        ("B", _least(within(BALANCED_SHARE), cost_us, cost_raw)),
        ("S", _least(within(SMALLEST_SHARE), cost_gzip, cost_us)),
    )
    return [
        Pick(letter=letter, entry=entry, above_deg=above[id(entry)], kept=1 - above[id(entry)].mean / gain)
        for letter, entry in chosen
    ]


def grouped(picks: Sequence[Pick]) -> list[tuple[Pick, ...]]:
    """The picks by file, in order: one file may be two of them."""
    return [
        tuple(other for other in picks if other.entry is pick.entry)
        for i, pick in enumerate(picks)
        if all(earlier.entry is not pick.entry for earlier in picks[:i])
    ]


def _least(entries: Sequence[Entry], *costs: Callable[[Entry], float]) -> Entry:
    """The entry with the lowest first cost; where that is equal, the second decides, and then the error."""
    left = list(entries)
    for cost in costs:
        limit = EQUAL * min(map(cost, left))
        left = [e for e in left if cost(e) <= limit]
    return best_of(left)


def _error(entry: Entry) -> float:
    assert entry.mae_deg is not None
    return entry.mae_deg.mean
