"""An engine and an output that do no work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.buffers import input_buffers


class ConstantEngine:
    """Gives the same answers for every picture.

    Attributes:
        answers: of each output; to be written into.
    """

    name = "constant"

    def __init__(self, contract: Contract, value: float = 0.0, *, path: Path = Path("constant")) -> None:
        """
        Args:
            value: of every number of every output.
        """
        self.path, self.contract, self.threads = path, contract, 1
        self.input_dtype: np.dtype[Any] = np.dtype(np.uint8 if contract.frame else np.float32)
        self.answers = {output.name: np.full(output.shape, value, np.float32) for output in contract.outputs}
        self._inputs = input_buffers(contract, self.input_dtype)

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        return self._inputs[name]

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        return self.answers


class ListSink:
    """Keeps every step."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.closed = False

    def write(self, step: Step) -> None:
        self.steps.append(step)

    def close(self) -> None:
        self.closed = True
