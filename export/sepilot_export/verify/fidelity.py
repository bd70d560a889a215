"""How far a file's answers are from the training model's, and what that costs at the task.

Both are decoded first, as the car does. The task's error is compared frame by frame (paired): the difference of two
errors on the same frame varies far less than either. Neighbouring frames are alike, so the confidence interval comes
from resampling blocks of consecutive frames, not frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.protocol import Evidence, Figure
from sepilot_train.base.stored import Pictures

__all__ = ["Fidelity", "Skill", "measure", "skill", "task_increase"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """One output's deviation from the reference, in its unit, and its price.

    Attributes:
        mean_error, p99_error, max_error: of the distance frame by frame.
        figures: by gate, what it goes by.
    """

    mean_error: float
    p99_error: float
    max_error: float
    figures: Mapping[str, Figure]

    @property
    def mae_increase(self) -> Interval | None:
        """Of the task's error, in label units; None without labels, and where no gate goes by it."""
        found = self.figures.get("mae_increase")
        return found if isinstance(found, Interval) else None


def measure(
    answers: NDArray[np.floating],
    reference: NDArray[np.floating],
    labels: NDArray[np.floating],
    drives: Sequence[str],
    pictures: Pictures,
    output: Output,
) -> Fidelity:
    """Compare (n, *shape) answers of a file with the reference's for the same pictures, n >= 1; labels may be NaN."""
    task = task_of(output)
    error = task.distance(answers, reference)
    found = Evidence(said=answers, expected=reference, labels=labels, drives=drives, pictures=pictures)
    return Fidelity(
        mean_error=float(error.mean()),
        p99_error=float(np.quantile(error, 0.99)),
        max_error=float(error.max()),
        figures={rule.name: rule.figure(found) for rule in task.gates()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """How good answers are against labels, decoded as the car does, in label units.

    Attributes:
        mae: mean of the task's error; `constant_mae`, the same of an answer that costs nothing.
        r2: None where it means nothing.
    """

    mae: float
    r2: float | None
    constant_mae: float


def skill(answers: NDArray[np.floating], labels: NDArray[np.floating], constant: Any, output: Output) -> Skill | None:
    """Of (n, *shape) answers against labels (n, ...), which may be unknown; None without any.

    Args:
        constant: one answer.
    """
    task = task_of(output)
    known = task.known(labels)
    if not known.any():
        return None
    answers, labels = answers[known], labels[known]
    still = np.broadcast_to(np.asarray(constant, np.float64), answers.shape)
    return Skill(
        mae=float(task.error(answers, labels).mean()),
        r2=task.r2(answers, labels),
        constant_mae=float(task.error(still, labels).mean()),
    )


def task_increase(
    answers: NDArray[np.floating],
    reference: NDArray[np.floating],
    labels: NDArray[np.floating],
    drives: Sequence[str],
    output: Output,
) -> Interval | None:
    """How much larger the task's error of (n,) answers is than the reference's, paired; None without labels."""
    task = task_of(output)
    change = task.error(answers, labels) - task.error(reference, labels)
    known = np.isfinite(change)
    if not known.any():
        return None
    return paired_bootstrap_mean(change[known], [d for d, k in zip(drives, known, strict=True) if k])
