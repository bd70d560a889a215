"""validation.json of a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sepilot_runtime.base.documents import read_document
from sepilot_runtime.base.errors import RunError
from sepilot_train.fit.outputs.kinds import AnyMetrics
from sepilot_train.run.leak import Leak
from sepilot_train.run.split import SplitKind

__all__ = ["VALIDATION_NAME", "Validation", "read_validation"]

VALIDATION_NAME = "validation.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How good the training model is on the held-out frames, and how it came about. Errors in label units.

    Attributes:
        metrics: of the first output; `outputs`, of each by its name, nothing in what an older sepilot wrote.
        seconds: of the process that ended the training: a resumed one counts from where it went on.
        skipped: by drive, frames that were left out, by reason.
    """

    split: SplitKind
    train_frames: int
    validation_frames: int
    train_drives: tuple[str, ...]
    validation_drives: tuple[str, ...]
    full_scale_deg: float
    metrics: AnyMetrics
    outputs: Mapping[str, AnyMetrics] = field(default_factory=dict)
    leak: Leak
    epochs: int
    kept_epoch: int
    stopped_early: bool
    seconds: float
    skipped: Mapping[str, Mapping[str, int]]

    def of(self, output: str) -> AnyMetrics:
        """The figures of one output."""
        return self.outputs.get(output, self.metrics)


def read_validation(run: Path) -> Validation:
    """What a run directory says. Raises RunError."""
    return read_document(Validation, run / VALIDATION_NAME, RunError)
