"""Can the calibration frames be trusted: do two halves of them see the same ranges, and if not, why not?

The frames come in random order, so every second one is as good a set as the rest. Where the two see different ranges,
another draw would give another file. The cause is looked for in the frames themselves: a few that reach far beyond all
others, a drive unlike the others, or just too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepilot_export.convert.ranges import STABLE, PerSampleRanges

__all__ = ["Halves", "stability", "stability_warnings"]


MOST_OUTLIERS = 3
"""More frames than that which reach far are no outliers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """How much the ranges differ that two halves of the frames see: of a typical and of the worst tensor."""

    median: float
    worst: float


def stability(reaches: PerSampleRanges) -> Halves:
    """How much the two halves differ."""
    found = reaches.disagreement()
    return Halves(median=round(float(np.median(found)), 4), worst=round(float(found.max()), 4))


def stability_warnings(reaches: PerSampleRanges, drives: Sequence[str], names: Sequence[str]) -> list[str]:
    """A line with the cause when the ranges cannot be trusted.

    Args:
        drives, names: of each picture.
    """
    if reaches.is_stable():
        return []
    median = stability(reaches).median
    warning = (
        f"calibration: two halves of the frames disagree about the range of a typical tensor by {median:.0%} (up to "
        f"{STABLE:.0%} is usual): {_cause(reaches, drives, names)}"
    )
    return [warning]


def _cause(reaches: PerSampleRanges, drives: Sequence[str], names: Sequence[str]) -> str:
    outliers = _outliers(reaches)
    if outliers:
        named = ", ".join(f"{names[i]} of drive {drives[i]}" for i in outliers)
        rest = reaches.without(np.isin(np.arange(len(reaches)), outliers))
        known = (narrow := rest.widths()) > 0
        times = float(np.median(reaches.widths()[known] / narrow[known]))
        return (
            f"frame {named} alone reach{'es' if len(outliers) == 1 else ''} {times:.1f} times as far as all others; "
            "look at it, and delete it from the drive if it shows no road"
        )
    drive = _odd_drive(reaches, drives)
    if drive:
        share = sum(d == drive for d in drives)
        return (
            f"drive {drive} ({share} of {len(drives)} frames) is unlike the others; record more like it, calibrate on "
            "more frames with --calibration-frames, or leave it out"
        )
    return f"{len(reaches)} frames are too few; calibrate on more with --calibration-frames"


def _outliers(reaches: PerSampleRanges) -> list[int]:
    """The fewest frames without which the halves agree, up to `MOST_OUTLIERS`; empty where so few do not suffice."""
    left_out = np.zeros(len(reaches), bool)
    for _ in range(MOST_OUTLIERS):
        rest = reaches.without(left_out)
        # The frame that holds the most of the outermost values.
        ends = np.concatenate([rest.high.argmax(axis=0)[rest.high.max(axis=0) > 0],
                               rest.low.argmin(axis=0)[rest.low.min(axis=0) < 0]])  # fmt: skip
        left_out[int(np.bincount(ends).argmax())] = True
        if reaches.without(left_out).is_stable():
            return [int(i) for i in np.flatnonzero(left_out)]
    return []


def _odd_drive(reaches: PerSampleRanges, drives: Sequence[str]) -> str:
    """The smallest drive without which the halves agree, "" where there is none."""
    found = sorted(set(drives), key=list(drives).count)
    for drive in found[:-1] if len(found) > 1 else []:
        if reaches.without(np.array([d == drive for d in drives])).is_stable():
            return drive
    return ""
