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

__all__ = ["STABLE", "Activations", "Fitted", "PerSampleRanges", "Range", "fit_ranges", "output_range"]

Range = tuple[float, float]

Activations = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]
"""One picture (h, w, c) to all activations of the float model by tensor name."""

BINS = 2048
SHRINKS = np.linspace(1.0, 0.2, 41)
STEPS = 255


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fitted:
    """Ranges by tensor name.

    Attributes:
        ranges: with the smallest squared error; zero is always inside.
        seen: from the smallest to the largest value.
        reaches: how far each tensor goes on each picture.
    """

    ranges: Mapping[str, Range]
    seen: Mapping[str, Range]
    reaches: PerSampleRanges


def fit_ranges(activations: Activations, pictures: NDArray[np.uint8]) -> Fitted:
    """Run pictures (n, h, w, c), n >= 2, through a float model twice: for the limits, then for the distribution."""
    rows = [{n: (v.min(), v.max()) for n, v in activations(picture).items()} for picture in pictures]
    names = tuple(rows[0])
    reaches = PerSampleRanges(
        tensors=names,
        low=np.array([[min(float(row[n][0]), 0.0) for n in names] for row in rows]),
        high=np.array([[max(float(row[n][1]), 0.0) for n in names] for row in rows]),
    )
    ends = zip(names, reaches.low.min(axis=0).tolist(), reaches.high.max(axis=0).tolist(), strict=True)
    seen = {name: (low, high) for name, low, high in ends}
    counts = {name: np.zeros(BINS, np.int64) for name in seen}
    for picture in pictures:
        for name, values in activations(picture).items():
            low, high = seen[name]
            place = ((values.ravel() - low) * (BINS / max(high - low, 1e-12))).astype(np.int32)
            counts[name] += np.bincount(np.minimum(place, BINS - 1), minlength=BINS)
    return Fitted(ranges={name: _best_range(counts[name], seen[name]) for name in seen}, seen=seen, reaches=reaches)


def output_range(seen: Range, asked: Range = (0.0, 0.0), headroom: float = 0.1) -> Range:
    """The range that a quantized output can say: all that was seen with some headroom, all that was asked, and zero.

    Args:
        asked: of the labels. A net that stays behind them on the calibration frames may follow them on others.
    """
    low, high = seen
    extra = max(headroom * (high - low), 1e-3)
    return min(low - extra, asked[0], 0.0), max(high + extra, asked[1], 0.0)


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


def as_input(picture: NDArray[np.uint8]) -> NDArray[Any]:
    """A picture (h, w, c) as the float models take it, (1, h, w, c)."""
    return picture[None].astype(np.float32) * np.float32(1 / 255)


STABLE = 0.2
"""Two halves of a good calibration set see ranges that differ by less: 0.03 to 0.05 on a real drive with 300 frames."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PerSampleRanges:
    """How far each tensor goes on each picture.

    Attributes:
        low, high: (n pictures, tensors), at most and at least 0.
    """

    tensors: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.low)

    def without(self, left_out: NDArray[np.bool_]) -> PerSampleRanges:
        """The reaches of the other pictures, each still in its half: a reach of zero widens nothing."""
        kept = ~left_out[:, np.newaxis]
        return PerSampleRanges(tensors=self.tensors, low=self.low * kept, high=self.high * kept)

    def widths(self) -> NDArray[np.float64]:
        """(tensors,) from the lowest to the highest value over all pictures."""
        width: NDArray[np.float64] = self.high.max(axis=0) - self.low.min(axis=0)
        return width

    def disagreement(self) -> NDArray[np.float64]:
        """How much the two halves' ranges differ, as a fraction of the width, for tensors that have one."""
        halves = [PerSampleRanges(tensors=self.tensors, low=self.low[i::2], high=self.high[i::2]) for i in (0, 1)]
        whole = self.widths()
        known = whole > 0
        found: NDArray[np.float64] = 1.0 - np.minimum(*(half.widths() for half in halves))[known] / whole[known]
        return found

    def is_stable(self) -> bool:
        """Do the halves agree about a typical tensor? Also where nothing ever varies."""
        found = self.disagreement()
        return not found.size or float(np.median(found)) <= STABLE
