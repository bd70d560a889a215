"""How far a file's answers are from the training model's, and what that costs at the task.

Both are cut off at the contract's limits first, as the car does. The task's error is compared frame by frame (paired):
the difference of two errors on the same frame varies far less than either. Neighbouring frames are alike, so the
confidence interval comes from resampling blocks of consecutive frames, not frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean
from sepilot_runtime.contract.contract import Scalar
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.protocol import Evidence
from sepilot_train.base.stored import Pictures

__all__ = ["Fidelity", "Interval", "measure", "task_increase"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """Deviation from the reference, in the output's unit (degrees), and its price.

    Attributes:
        mean_error, p99_error, max_error: of the absolute deviation.
        sign_flips: frames steered to the other side, both answers outside the dead band.
        saturated: frames where the file has reached the end of what it can say; see `ScalarTask`.
        mae_increase: of the task's error, in label units; None without labels.
    """

    mean_error: float
    p99_error: float
    max_error: float
    sign_flips: int
    saturated: int
    mae_increase: Interval | None


def measure(
    answers: NDArray[np.floating],
    reference: NDArray[np.floating],
    labels: NDArray[np.floating],
    drives: Sequence[str],
    pictures: Pictures,
    output: Scalar,
) -> Fidelity:
    """Compare (n,) answers of a file with the reference's for the same pictures, n >= 1; labels may be NaN."""
    task = task_of(output)
    error = task.distance(answers, reference)
    found = Evidence(said=answers, expected=reference, labels=labels, drives=drives, pictures=pictures)
    figures: dict[str, Any] = {rule.name: rule.figure(found) for rule in task.gates()}
    return Fidelity(
        mean_error=float(error.mean()),
        p99_error=float(np.quantile(error, 0.99)),
        **{"sign_flips": 0, **figures},
    )


def task_increase(
    answers: NDArray[np.floating],
    reference: NDArray[np.floating],
    labels: NDArray[np.floating],
    drives: Sequence[str],
    output: Scalar,
) -> Interval | None:
    """How much larger the task's error of (n,) answers is than the reference's, paired; None without labels."""
    task = task_of(output)
    known = np.isfinite(labels)
    if not known.any():
        return None
    change = task.error(answers[known], labels[known]) - task.error(reference[known], labels[known])
    return paired_bootstrap_mean(change, [d for d, k in zip(drives, known, strict=True) if k])
