"""How far a file's answers are from the training model's, and what that costs at the task.

Both are cut off at the contract's limits first, as the car does. The task's error is compared frame by frame (paired):
the difference of two errors on the same frame varies far less than either. Neighbouring frames are alike, so the
confidence interval comes from resampling blocks of consecutive frames, not frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean
from sepilot_runtime.contract.contract import Output
from sepilot_train.base.stored import Pictures

__all__ = ["Fidelity", "Interval", "measure", "paired_bootstrap_mean", "saturated_frames", "task_increase"]

DEAD_BAND = 0.02
"""In output values. Closer to 0 than this a change of sign means nothing."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """Deviation from the reference, in the output's unit (degrees), and its price.

    Attributes:
        mean_error, p99_error, max_error: of the absolute deviation.
        sign_flips: frames steered to the other side, both answers outside the dead band.
        saturated: frames where the file has reached the end of what it can say; see `saturated_frames`.
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
    output: Output,
) -> Fidelity:
    """Compare (n,) answers of a file with the reference's for the same pictures, n >= 1; labels may be NaN."""
    said = np.clip(answers.astype(np.float64), output.low, output.high)
    expected = np.clip(reference.astype(np.float64), output.low, output.high)
    error = np.abs(said - expected) * output.scale
    return Fidelity(
        mean_error=float(error.mean()),
        p99_error=float(np.quantile(error, 0.99)),
        max_error=float(error.max()),
        sign_flips=int(((said * expected < 0) & (np.minimum(np.abs(said), np.abs(expected)) > DEAD_BAND)).sum()),
        saturated=saturated_frames(said, expected, pictures, output),
        mae_increase=task_increase(answers, reference, labels, drives, output),
    )


def task_increase(
    answers: NDArray[np.floating],
    reference: NDArray[np.floating],
    labels: NDArray[np.floating],
    drives: Sequence[str],
    output: Output,
) -> Interval | None:
    """How much larger the task's error of (n,) answers is than the reference's, paired; None without labels."""
    known = np.isfinite(labels)
    if not known.any():
        return None
    y = labels[known].astype(np.float64)
    said, expected = (np.clip(v[known].astype(np.float64), output.low, output.high) for v in (answers, reference))
    change = np.abs(said - y) - np.abs(expected - y)
    return paired_bootstrap_mean(change, [d for d, k in zip(drives, known, strict=True) if k])


def saturated_frames(said: Values, expected: Values, pictures: Pictures, output: Output) -> int:
    """Frames at the file's own smallest or largest answer that belong beyond it.

    Either the reference goes on by more than 0.01 (the range of a quantized output is too narrow), or the reference
    itself gives its extreme value to many different pictures (a head with dead units, which can turn no further). The
    contract's limits are no such end: there the car is at full lock.
    """
    count = 0
    for sign, limit in ((-1.0, output.low), (1.0, output.high)):
        end, last = sign * np.max(sign * said), sign * np.max(sign * expected)
        at_end = said == end
        if sign * end < sign * limit - 1e-6:
            count += int((at_end & (sign * (expected - end) > 0.01)).sum())
        if sign * last < sign * limit - 1e-6:
            stuck = np.flatnonzero(np.abs(expected - last) < 1e-7)
            count += len({pictures[i].tobytes() for i in stuck}) - 1
    return count
