"""Frames of a run's drives, with labels and predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.files import atomic_file
from sepilot_train.base.stored import Pictures

__all__ = ["FrameSet", "Predictions"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameSet:
    """Frames of several drives in a row: pictures (n, h, w, c) uint8, drive ids, frame names, labels (n,) float32."""

    pictures: Pictures
    drives: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Predictions:
    """The training model's answers on the held-out frames, float32 (n,), beside the labels."""

    drives: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.float32]
    predictions: NDArray[np.float32]

    def save(self, path: Path) -> None:
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file, drives=self.drives, names=self.names, labels=self.labels, predictions=self.predictions
            )
