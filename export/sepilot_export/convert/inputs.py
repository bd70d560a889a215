"""What an export starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import Contract
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.run.recipe import Gates

__all__ = ["ExportInputs", "Step"]

Step = Callable[[str], None]
"""Told the name of each step as it begins."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExportInputs:
    """What an export starts from.

    Attributes:
        training, held_out: frames that trained and that judged the model.
        saved: the answers on `held_out` as the training left them, by output.
        constant: by output, the one answer that is right for most training labels.
        min_throttle: frames at or below it were left out as standing still.
        run: the run directory; its int8.tflite, which a quantization-aware training left there, is that format's file.
    """

    model_path: Path
    contract: Contract
    gates: Mapping[str, Gates]
    training: FrameSet
    held_out: FrameSet
    saved: Mapping[str, NDArray[np.float32]]
    constant: Mapping[str, Any]
    min_throttle: float = 0.0
    run: Path | None = None

    @property
    def trained_int8(self) -> Path | None:
        """The int8 file that the training itself made, without its contract; None where there is none."""
        path = self.run / "int8.tflite" if self.run else None
        return path if path and path.exists() else None
