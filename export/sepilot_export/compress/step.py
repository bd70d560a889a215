"""What every step of a compression is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepilot_export.compress.recipe import Finetune
from sepilot_export.record.compressions import LayerNote
from sepilot_runtime.base.errors import RunError
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.outputs.kinds import AnyTarget
from sepilot_train.fit.settings import TrainingSettings

__all__ = ["SQUARED", "StepOutcome", "Work", "WorkFailed", "training_settings"]

SQUARED = TrainingSettings(loss="mse")
"""What gives the loss of numbers that name none of their own."""


class WorkFailed(RunError):
    """A step's own process failed; what it had to say is in `Work.log`."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Work:
    """What a step works with.

    Attributes:
        train, validation: the validation frames are looked at, never
            trained on and never chosen by.
        targets: what the outputs learn, by name.
        folder: an empty folder for what the step needs to write; removed in the end.
        log: where a process of its own writes what it has to say.
        progress: draw bars on stderr.
    """

    train: FrameSet
    validation: FrameSet
    targets: Mapping[str, AnyTarget]
    augmentation: Augmentation
    seed: int
    folder: Path
    log: Path
    progress: bool = False


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StepOutcome:
    """What a step gives back.

    Attributes:
        model: Keras 3 Functional, input and output as the training model's.
        layers: one note per kernel, in the order of computation.
        int8: a TFLite file with int8 input and output where the step quantized, else None.
        warnings: one line each.
    """

    model: Any
    layers: tuple[LayerNote, ...] = ()
    int8: bytes | None = None
    warnings: tuple[str, ...] = ()


def training_settings(finetune: Finetune, seed: int) -> TrainingSettings:
    """`finetune` as `learner.fit` takes it."""
    return TrainingSettings(
        epochs=finetune.epochs,
        min_epoch_frames=finetune.min_epoch_frames,
        batch_size=finetune.batch_size,
        optimizer="adamw",
        learning_rate=finetune.learning_rate,
        weight_decay=finetune.weight_decay,
        schedule="cosine",
        warmup_epochs=finetune.warmup_epochs,
        keep="last",
        seed=seed,
    )
