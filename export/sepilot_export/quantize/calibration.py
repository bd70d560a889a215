"""Which frames the int8 formats are calibrated on, and which ones choices are made on.

The calibration set matters more than any other setting of the quantizer. On a real drive the first 300 frames cost the
int8 file 10 degrees in its worst frame and 300 straight ones 20 degrees, while the mean error of the first hardly
moved; a set with the tails of predictions, labels and brightness stays below 2 degrees. An activation that was never
seen during calibration is cut off later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError, UsageError
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_train.base.frame_set import FrameSet

__all__ = ["CHOICES", "MINIMUM", "Choice", "Predictions", "Selection", "select", "spared"]

Choice = Literal["tails", "random", "first"]
"""With the tails of predictions, labels and brightness; at random; or the first ones of the first drive."""

Predictions = Mapping[str, NDArray[np.float32]]
"""By output (n,)."""

CHOICES: tuple[Choice, ...] = get_args(Choice)

MINIMUM = 16
"""Fewer frames leave no room for tails."""

_BRIGHTNESS = (("darkest", 0.06), ("brightest", 0.06))
"""Shares of the set by reason, for the tails of the pictures; outputs have their own. The rest is drawn at random."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Selection:
    """Frames chosen for calibration.

    Attributes:
        index: (n,) positions in the training frames, in random order, so that any part is like the whole.
        reasons: why each was taken.
    """

    index: NDArray[np.int64]
    reasons: tuple[str, ...]


def select(
    training: FrameSet,
    predictions: Predictions,
    outputs: Sequence[Output],
    *,
    count: int,
    seed: int,
    choice: Choice = "tails",
    held_out: Collection[tuple[str, str]] = (),
) -> Selection:
    """Choose `count` training frames.

    Args:
        predictions: of the training model for each frame of `training`, by output.
        held_out: (drive, name) of the evaluation frames, none of which may be taken.

    Raises:
        UsageError: `count` is below `MINIMUM`.
        RunError: too few frames, or one of them is an evaluation frame.
    """
    total = len(training)
    _require_enough(count, total)
    shared = set(zip(training.drives, training.names, strict=True)) & set(held_out)
    if shared:
        drive, name = sorted(shared)[0]
        raise RunError(f"calibration: frame {name} of drive {drive} is also an evaluation frame; split the drives anew")
    rng = np.random.default_rng([seed, 201])
    if choice == "first":
        order = rng.permutation(min(count, total))
        return Selection(index=order, reasons=("first",) * len(order))
    chosen: dict[int, str] = {}
    mixed = np.argsort(rng.permutation(total))
    for reason, share, wanted in _wishes(training, predictions, outputs, mixed) if choice == "tails" else ():
        fresh = (int(i) for i in wanted if int(i) not in chosen)
        chosen.update(dict.fromkeys(islice(fresh, int(share * count)), reason))
    rest = [int(i) for i in rng.permutation(total) if int(i) not in chosen]
    chosen.update(dict.fromkeys(rest[: max(0, count - len(chosen))], "random"))
    order = rng.permutation(np.fromiter(chosen, np.int64))
    return Selection(index=order, reasons=tuple(chosen[int(i)] for i in order))


def _require_enough(count: int, total: int) -> None:
    if count < MINIMUM:
        raise UsageError(f"--calibration-frames: at least {MINIMUM} expected, found {count}")
    if total < MINIMUM:
        raise RunError(f"calibration: at least {MINIMUM} training frames expected, found {total}")


def spared(total: int, taken: Collection[int], most: int) -> NDArray[np.int64]:
    """At most `most` of `total` training frames, evenly spaced, none of which is among `taken`."""
    free = np.setdiff1d(np.arange(total), np.fromiter(taken, np.int64))
    index = np.linspace(0, len(free) - 1, min(most, len(free))).astype(np.int64)
    return free[index]


def _wishes(
    training: FrameSet, predictions: Predictions, outputs: Sequence[Output], mixed: NDArray[np.int64]
) -> Iterator[tuple[str, float, NDArray[np.int64]]]:
    """What the set shall hold: reason, share, and all frames from the most to the least wanted, ties as in `mixed`."""
    for output in outputs:
        name = output.name
        tails = task_of(output).tails(predictions[name][mixed], training.labels[name][mixed])
        for tail in tails:
            words = f"{tail.reason} of {name}" if len(outputs) > 1 else tail.reason
            yield words, tail.share / len(outputs), mixed[tail.order]
    brightness = np.array([picture.mean() for picture in training.pictures])[mixed]
    for (reason, share), key in zip(_BRIGHTNESS, (brightness, -brightness), strict=True):
        yield reason, share, mixed[np.argsort(key, kind="stable")]
