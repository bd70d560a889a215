"""Choices of calibration frames against each other, on frames that none of them holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sepilot_export.quantize.calibration import Choice
from sepilot_export.verify.fidelity import Fidelity
from sepilot_runtime.contract.contract import Output

__all__ = ["ChoiceError", "choice_errors", "choice_warnings"]

CLEARLY = 2 / 3
"""A choice is better by a clear margin when its mean or 99th percentile is below this part of the other's."""

WORST_FRAME = 0.5
"""The same for the largest error, which is a single frame's and differs by chance."""

NO_WORSE = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceError:
    """Deviation of an output from the training model, in `unit`, of an int8 file calibrated on frames chosen this way.

    Attributes:
        output: name.
    """

    choice: Choice
    output: str
    unit: str
    mean: float
    p99: float
    max: float

    def _pairs(self, other: ChoiceError) -> tuple[tuple[float, float, float], ...]:
        """Each error with the other's, and the part of it that makes a clear margin."""
        return (
            (self.mean, other.mean, CLEARLY),
            (self.p99, other.p99, CLEARLY),
            (self.max, other.max, WORST_FRAME),
        )

    def is_no_worse_than(self, other: ChoiceError) -> bool:
        """Worse in nothing."""
        return all(a <= NO_WORSE * b for a, b, _ in self._pairs(other))

    def is_clearly_better_than(self, other: ChoiceError) -> bool:
        """Worse in nothing, and better by a margin in something."""
        return self.is_no_worse_than(other) and any(a < margin * b for a, b, margin in self._pairs(other))


def choice_errors(choice: Choice, found: Mapping[str, Fidelity], outputs: Sequence[Output]) -> list[ChoiceError]:
    """The errors of one choice for each output, rounded for the manifest."""
    return [
        ChoiceError(
            choice=choice,
            output=output.name,
            unit=output.unit,
            mean=round(found[output.name].mean_error, 5),
            p99=round(found[output.name].p99_error, 5),
            max=round(found[output.name].max_error, 5),
        )
        for output in outputs
    ]


def choice_warnings(chosen: Choice, errors: Sequence[ChoiceError]) -> list[str]:
    """A line where another choice of frames would have been better by a clear margin, and worse for no output."""
    mine = {e.output: e for e in errors if e.choice == chosen}
    others = {choice: [e for e in errors if e.choice == choice] for choice in dict.fromkeys(e.choice for e in errors)}
    better = [
        e
        for rows in others.values()
        if all(row.is_no_worse_than(mine[row.output]) for row in rows)
        for e in rows
        if e.is_clearly_better_than(mine[e.output])
    ]
    if not better:
        return []
    best = min(better, key=lambda e: e.p99 / max(mine[e.output].p99, 1e-12))
    was, unit = mine[best.output], "°" if best.unit == "deg" else f" {best.unit}".rstrip()
    of = f" of {best.output}" if len(mine) > 1 else ""
    warning = (
        f"calibration: on training frames beside the calibration, {best.choice!r} frames make a better int8 file than "
        f"{chosen!r} ones: mean{of} {best.mean:.3f}{unit} against {was.mean:.3f}{unit}, 99 % {best.p99:.3f}{unit} "
        f"against {was.p99:.3f}{unit}, worst {best.max:.3f}{unit} against {was.max:.3f}{unit}; "
        f"try --calibration {best.choice}"
    )
    return [warning]
