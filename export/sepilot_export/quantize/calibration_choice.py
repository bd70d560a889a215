"""Choices of calibration frames against each other, on frames that none of them holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sepilot_export.quantize.calibration import Choice
from sepilot_export.verify.fidelity import Fidelity

__all__ = ["ChoiceError", "choice_error", "choice_warnings"]

CLEARLY = 2 / 3
"""A choice is better by a clear margin when its mean or 99th percentile is below this part of the other's."""

WORST_FRAME = 0.5
"""The same for the largest error, which is a single frame's and differs by chance."""

NO_WORSE = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceError:
    """Deviation from the training model in degrees, of an int8 file calibrated on frames chosen this way."""

    choice: Choice
    mean_deg: float
    p99_deg: float
    max_deg: float

    def is_clearly_better_than(self, other: ChoiceError) -> bool:
        """Worse in nothing, and better by a margin in something."""
        pairs = (
            (self.mean_deg, other.mean_deg, CLEARLY),
            (self.p99_deg, other.p99_deg, CLEARLY),
            (self.max_deg, other.max_deg, WORST_FRAME),
        )
        return all(a <= NO_WORSE * b for a, b, _ in pairs) and any(a < margin * b for a, b, margin in pairs)


def choice_error(choice: Choice, found: Fidelity) -> ChoiceError:
    """The errors of one choice, rounded for the manifest."""
    return ChoiceError(
        choice=choice,
        mean_deg=round(found.mean_error, 5),
        p99_deg=round(found.p99_error, 5),
        max_deg=round(found.max_error, 5),
    )


def choice_warnings(chosen: Choice, errors: Sequence[ChoiceError]) -> list[str]:
    """A line where another choice of frames would have been better by a clear margin."""
    mine = next(e for e in errors if e.choice == chosen)
    better = [e for e in errors if e.is_clearly_better_than(mine)]
    if not better:
        return []
    best = min(better, key=lambda e: e.p99_deg)
    warning = (
        f"calibration: on training frames beside the calibration, {best.choice!r} frames make a better int8 file than "
        f"{chosen!r} ones: mean {best.mean_deg:.3f}° against {mine.mean_deg:.3f}°, 99 % {best.p99_deg:.3f}° against "
        f"{mine.p99_deg:.3f}°, worst {best.max_deg:.3f}° against {mine.max_deg:.3f}°; try --calibration {best.choice}"
    )
    return [warning]
