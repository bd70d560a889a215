"""calibration.json: which frames the int8 formats were calibrated on, and how good a choice that was."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_export.quantize.calibration import Choice, Predictions, Selection
from sepilot_export.quantize.calibration_choice import ChoiceError
from sepilot_export.quantize.calibration_stability import Halves
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_train.base.frame_set import FrameSet

__all__ = ["CalibrationFrame", "ChoiceErrors", "Coverage", "Manifest", "manifest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFrame:
    """One frame: why it was taken, and by output its label, a number or in words, and a reading of the training
    model's prediction, in label units."""

    drive: str
    name: str
    reason: str
    labels: Mapping[str, float | str]
    predictions: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """An output's predictions on the chosen and on all training frames: ends, and counts between `edges`."""

    chosen_range: tuple[float, float]
    training_range: tuple[float, float]
    edges: tuple[float, ...]
    chosen: tuple[int, ...]
    training: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceErrors:
    """What of an int8 file's errors with each choice of frames, on what frames."""

    of: str
    on: str
    errors: tuple[ChoiceError, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """calibration.json: every frame with its reason, and enough to see that the set covers the drive.

    Attributes:
        outputs: by name.
        halves: None before anything was quantized.
        choices: None where no frames are left to see it on.
    """

    version: int = 2
    seed: int
    choice: Choice
    count: int
    of_training_frames: int
    sha256_of_pictures: str
    outputs: Mapping[str, Coverage]
    frames: tuple[CalibrationFrame, ...]
    halves: Halves | None = None
    choices: ChoiceErrors | None = None


def manifest(
    training: FrameSet,
    predictions: Predictions,
    outputs: Sequence[Output],
    selection: Selection,
    seed: int,
    choice: Choice = "tails",
) -> Manifest:
    """What is known before anything was quantized."""
    pixels = np.ascontiguousarray(training.pictures[selection.index])

    said = {o.name: task_of(o).reading(predictions[o.name]) / o.scale for o in outputs}
    return Manifest(
        seed=seed,
        choice=choice,
        count=len(selection.index),
        of_training_frames=len(training),
        sha256_of_pictures=hashlib.sha256(pixels.tobytes()).hexdigest(),
        outputs={output.name: _coverage(predictions[output.name], selection, output) for output in outputs},
        frames=tuple(
            CalibrationFrame(
                drive=training.drives[i],
                name=training.names[i],
                reason=reason,
                labels={o.name: _label(training.labels[o.name][i], o) for o in outputs},
                predictions={o.name: round(float(said[o.name][i]), 6) for o in outputs},
            )
            for i, reason in zip(selection.index.tolist(), selection.reasons, strict=True)
        ),
    )


def _label(label: NDArray[np.floating], output: Output) -> float | str:
    """A number as it is; of other kinds, in words."""
    return round(float(label), 6) if np.ndim(label) == 0 else task_of(output).words(label)


def _coverage(predictions: NDArray[np.float32], selection: Selection, output: Output) -> Coverage:
    task = task_of(output)
    span = task.span[0] / output.scale, task.span[1] / output.scale
    edges, readings = np.linspace(*span, 21), task.reading(predictions) / output.scale
    ranges, counts = [], []
    for values in (readings[selection.index], readings):
        ranges.append((float(values.min()), float(values.max())))
        counts.append(tuple(np.histogram(np.clip(values, *span), edges)[0].tolist()))
    return Coverage(
        chosen_range=ranges[0], training_range=ranges[1], edges=tuple(round(float(e), 3) for e in edges),
        chosen=counts[0], training=counts[1],
    )  # fmt: skip
