"""The range of every activation, from what the float model does on calibration pictures.

A range that holds the single largest value ever seen wastes most of its 256 steps on values that hardly occur; one that
is too narrow cuts off the turns. The range taken here is the one with the smallest squared error of rounding and
cutting together, over all values that were seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["STABLE", "Activations", "Fitted", "Range", "fit_ranges", "output_range"]

Range = tuple[float, float]

Activations = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]
"""One picture (h, w, c) to all activations of the float model by tensor name."""

STABLE = 0.2
"""Two halves of a good calibration set see ranges that differ by less: 0.03 to 0.05 on a real drive with 300 frames."""

BINS = 2048
SHRINKS = np.linspace(1.0, 0.2, 41)
STEPS = 255


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fitted:
    """Ranges by tensor name.

    Attributes:
        ranges: with the smallest squared error; zero is always inside.
        seen: from the smallest to the largest value.
        disagreement: how much `seen` differs between two halves of the pictures, as a fraction of its width.
    """

    ranges: Mapping[str, Range]
    seen: Mapping[str, Range]
    disagreement: Mapping[str, float]

    def stability(self) -> dict[str, float]:
        """How much the two halves differ, for the manifest."""
        found = list(self.disagreement.values())
        return {"median": round(float(np.median(found)), 4), "worst": round(max(found), 4)}

    def warnings(self) -> list[str]:
        """A line when the set is too small or too uneven for its ranges to be trusted."""
        median = self.stability()["median"]
        if median <= STABLE:
            return []
        warning = (
            f"calibration: two halves of the frames disagree about the range of a typical tensor by {median:.0%} "
            f"(up to {STABLE:.0%} is usual); calibrate on more frames with --calibration-frames"
        )
        return [warning]


def fit_ranges(activations: Activations, pictures: NDArray[np.uint8]) -> Fitted:
    """Run pictures (n, h, w, c), n >= 2, through a float model twice: for the limits, then for the distribution."""
    limits: list[dict[str, Range]] = [{}, {}]
    for number, picture in enumerate(pictures):
        half = limits[number % 2]
        for name, values in activations(picture).items():
            low, high = half.get(name, (0.0, 0.0))
            half[name] = min(low, float(values.min())), max(high, float(values.max()))
    seen = {n: (min(a, limits[1][n][0]), max(b, limits[1][n][1])) for n, (a, b) in limits[0].items()}
    counts = {name: np.zeros(BINS, np.int64) for name in seen}
    for picture in pictures:
        for name, values in activations(picture).items():
            low, high = seen[name]
            place = ((values.ravel() - low) * (BINS / max(high - low, 1e-12))).astype(np.int32)
            counts[name] += np.bincount(np.minimum(place, BINS - 1), minlength=BINS)
    return Fitted(
        ranges={name: _best_range(counts[name], seen[name]) for name in seen},
        seen=seen,
        disagreement={n: _disagreement([half[n] for half in limits]) for n, (a, b) in seen.items() if b > a},
    )


def output_range(seen: Range, headroom: float = 0.1) -> Range:
    """The range that a quantized output can say: all that was seen, some headroom, and zero."""
    low, high = seen
    extra = max(headroom * (high - low), 1e-3)
    return min(low - extra, 0.0), max(high + extra, 0.0)


def _best_range(counts: NDArray[np.int64], seen: Range) -> Range:
    low, high = seen
    if high <= low:
        return seen
    values = low + (np.arange(BINS) + 0.5) * ((high - low) / BINS)
    best: tuple[float, Range] = float("inf"), seen
    for shrink in SHRINKS:
        a, b = low * shrink, high * shrink
        step = (b - a) / STEPS
        rounded = np.clip(np.rint((values - a) / step), 0, STEPS) * step + a
        error = float((counts * (rounded - values) ** 2).sum())
        best = min(best, (error, (float(a), float(b))))
    return best[1]


def _disagreement(halves: list[Range]) -> float:
    widths = [high - low for low, high in halves]
    whole = max(high for _, high in halves) - min(low for low, _ in halves)
    return 1.0 - min(widths) / whole


def as_input(picture: NDArray[np.uint8]) -> NDArray[Any]:
    """A picture (h, w, c) as the float models take it, (1, h, w, c)."""
    return picture[None].astype(np.float32) * np.float32(1 / 255)
