"""calibration.json of an export directory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_export.quantize.calibration import Choice, Selection
from sepilot_export.quantize.calibration_choice import ChoiceError
from sepilot_export.quantize.calibration_stability import Halves
from sepilot_train.base.frame_set import FrameSet, only

__all__ = ["Choices", "Manifest", "manifest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFrame:
    """One frame: why it was taken, its label, and the training model's prediction."""

    drive: str
    name: str
    reason: str
    label: float
    prediction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRange:
    """Lowest and highest prediction of the chosen and of all training frames."""

    chosen: tuple[float, float]
    training: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionHistogram:
    """The chosen and all training frames by prediction; one count less than edges."""

    edges: tuple[float, ...]
    chosen: tuple[int, ...]
    training: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What other choices of frames would have done: the deviation `of` which file, `on` which frames, in words."""

    of: str
    on: str
    errors: tuple[ChoiceError, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """calibration.json: every frame with its reason, and enough to see that the set covers the drive.

    Attributes:
        halves: how much two halves of the frames differ; None before that was looked at.
        choices: the int8 file's error with other choices of frames; None where no frames are left to see it on.
    """

    seed: int
    choice: Choice
    count: int
    of_training_frames: int
    sha256_of_pictures: str
    prediction_range: PredictionRange
    prediction_histogram: PredictionHistogram
    frames: tuple[CalibrationFrame, ...]
    halves: Halves | None = None
    choices: Choices | None = None


def manifest(
    training: FrameSet, predictions: NDArray[np.float32], selection: Selection, seed: int, choice: Choice = "tails"
) -> Manifest:
    """What `calibration.json` says before anything was quantized."""
    edges = np.linspace(-1.0, 1.0, 21)
    chosen, labels = predictions[selection.index], only(training.labels)
    pixels = np.ascontiguousarray(training.pictures[selection.index])

    def counts(values: NDArray[np.float32]) -> tuple[int, ...]:
        return tuple(np.histogram(np.clip(values, -1, 1), edges)[0].tolist())

    return Manifest(
        seed=seed,
        choice=choice,
        count=len(selection.index),
        of_training_frames=len(predictions),
        sha256_of_pictures=hashlib.sha256(pixels.tobytes()).hexdigest(),
        prediction_range=PredictionRange(
            chosen=(float(chosen.min()), float(chosen.max())),
            training=(float(predictions.min()), float(predictions.max())),
        ),
        prediction_histogram=PredictionHistogram(
            edges=tuple(round(float(e), 3) for e in edges), chosen=counts(chosen), training=counts(predictions)
        ),
        frames=tuple(
            CalibrationFrame(
                drive=training.drives[i],
                name=training.names[i],
                reason=reason,
                label=round(float(labels[i]), 6),
                prediction=round(float(predictions[i]), 6),
            )
            for i, reason in zip(selection.index.tolist(), selection.reasons, strict=True)
        ),
    )
