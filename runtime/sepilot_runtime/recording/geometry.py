"""Boxes and points as label files say them, made fractions of their pictures; what is wrong with them is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.base.image_size import image_size
from sepilot_runtime.recording.rows import more_than_strays

__all__ = ["NOTHING", "Box", "Tally", "labelled_size", "unknown", "visible"]

Box = tuple[int, float, float, float, float]
"""Place of the class; left, top, right and bottom edge."""

NOTHING = np.array([[-1.0, np.nan, np.nan, np.nan, np.nan]], np.float32)
"""The boxes of a picture that somebody looked at and found empty."""

ROUNDING = 1e-4
"""How far beyond the picture's edge a box or a point may lie for rounding alone, as a share of its side."""

SAME_SHAPE = 0.02
"""How far the ratios of sides of one picture, scaled in between, differ at most by rounding."""


def labelled_size(picture: Path, declared: tuple[float, float] | None) -> tuple[float, float] | str:
    """(height, width) of the picture that the coordinates were taken from, or why nobody can tell.

    A picture may have been scaled since, not turned or cropped.

    Args:
        declared: what the label file says; None or zeros where it says nothing.
    """
    known = declared if declared and min(declared) > 0 else None
    try:
        found = image_size(picture)
    except FrameError as e:
        return known or e.reason  # Whether it can be read after all shows when it is decoded.
    if known and abs(known[0] * found[1] / (known[1] * found[0]) - 1) > SAME_SHAPE:
        return "labels are for a picture of another shape (turned, cropped, or another one)"
    return known or found


class Tally:
    """Goes through the boxes and points of a set, and remembers what had to be left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: Counter[str] = Counter()
        self._boxes = self._points = self._boxes_outside = self._points_outside = 0

    def note(self, reason: str, count: int = 1) -> None:
        """Count something: `notes` says the number and the reason."""
        self._notes += Counter({reason: count})

    def boxes(self, found: Iterable[Box], size: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float32]:
        """(k, 5) float32: place of the class, centre x and y, width and height in fractions of `size` (height, width).

        Where nothing is left, `NOTHING`.
        """
        height, width = size
        taken = []
        for place, left, top, right, bottom in found:
            self._boxes += 1
            if edges := self._edges(left / width, top / height, right / width, bottom / height):
                x0, y0, x1, y1 = edges
                taken.append((place, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))
        return np.array(taken, np.float32) if taken else NOTHING

    def _edges(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float] | None:
        if not np.isfinite((x0, y0, x1, y1)).all():
            self.note("boxes left out, not four numbers")
        elif x1 < x0 or y1 < y0:
            self.note("boxes left out, inside out")
        elif x1 == x0 or y1 == y0:
            self.note("boxes left out, width or height of 0")
        elif x1 <= 0 or y1 <= 0 or x0 >= 1 or y0 >= 1:
            self._boxes_outside += 1
            self.note("boxes left out, outside of their pictures")
        else:
            if min(x0, y0, 1 - x1, 1 - y1) < -ROUNDING:
                self.note("boxes clipped at the edges of their pictures")
            return max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)
        return None

    def points(self, found: NDArray[np.float64], size: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float32]:
        """(P, 2) of x and y, NaN where unknown, as float32 fractions of `size` (height, width); NaN outside of it."""
        points = found / (size[1], size[0])
        known = np.isfinite(points).all(axis=1)
        outside = known & ((points < -ROUNDING) | (points > 1 + ROUNDING)).any(axis=1)
        self._points += int(known.sum())
        self._points_outside += int(outside.sum())
        self._notes += Counter({"points outside of their pictures, taken as unknown": int(outside.sum())})
        points[outside | ~known] = np.nan
        return points.clip(0.0, 1.0).astype(np.float32)

    def notes(self) -> list[str]:
        """A line for each thing that was counted.

        Raises:
            DriveError: so many boxes or points lie outside that they must be of another unit or format.
        """
        for what, outside, total in (
            ("boxes", self._boxes_outside, self._boxes),
            ("points", self._points_outside, self._points),
        ):
            if more_than_strays(outside, total):
                raise DriveError(
                    f"{self._path}: {what} inside of their pictures expected, found {outside:,} of {total:,} outside; "
                    "are they of other pictures, or in another unit?"
                )
        return [f"{reason}: {count:,}" for reason, count in self._notes.items()]


def unknown(count: int) -> NDArray[np.float32]:
    """Points of a picture that shows none."""
    return np.full((count, 2), np.nan, np.float32)


def visible(values: Sequence[float], of: int) -> NDArray[np.float64]:
    """(P, 2) of a list `x, y, visibility` for each point, or `x, y` for `of` 2; NaN where it is not to be seen.

    Without visibility, a point in the corner 0, 0 is none.
    """
    points = np.array(values, np.float64).reshape(-1, of)
    seen = points[:, 2:] > 0 if of == 3 else points.any(axis=1, keepdims=True)
    return np.where(seen, points[:, :2], np.nan)
