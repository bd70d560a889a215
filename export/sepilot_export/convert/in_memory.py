"""A model file's content opened in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.engine.engines import engine_of
from sepilot_runtime.engine.model_file import ModelFile
from sepilot_runtime.engine.names import ModelKind
from sepilot_runtime.engine.pilot import Pilot

__all__ = ["Suffix", "pilot_of"]

Suffix = Literal["tflite", "onnx"]


def pilot_of(content: bytes, suffix: Suffix, contract: Contract) -> Pilot:
    """A file in memory that carries no contract yet, ready to run."""
    file = ModelFile(path=Path(f"trial.{suffix}"), kind=ModelKind(suffix), content=content, contract=contract)
    return Pilot(engine_of(file))
