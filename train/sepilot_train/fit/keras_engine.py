"""A Keras model as an engine like the others: with a `Pilot` around it, it is asked as a file is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.engine.buffers import answer_buffers, input_buffers
from sepilot_train.fit.predict import by_name
from sepilot_train.inspect.keras_graph import outputs_of

__all__ = ["KerasEngine"]


class KerasEngine:
    """A Functional or Sequential Keras 3 model in memory. Its inputs and outputs are told apart by their names."""

    def __init__(
        self,
        model: Any,
        contract: Contract,
        path: Path,
        *,
        name: str = "keras",
        ask: Callable[[Any], Any] | None = None,
    ) -> None:
        """
        Args:
            path: where the model lies, for messages.
            ask: the way to ask it: its answer to an input, or to the inputs by name where there are several; None for
                `predict_on_batch`.

        Raises:
            RunError: it has several outputs or inputs, and their names are not the contract's.
        """
        self.name, self.path, self.contract, self.threads = name, path, contract, 1
        self.input_dtype: np.dtype[Any] = np.dtype(np.float32)
        self._ask = ask or model.predict_on_batch
        inputs, outputs = [i.name for i in contract.inputs], list(contract.tensors)
        named = list(outputs_of(model))
        self._names = dict(zip(named, _known(path, "outputs", named, outputs), strict=True))
        given = _known(path, "inputs", [str(i.name) for i in model.inputs], inputs)
        self._inputs = input_buffers(contract, self.input_dtype)
        self._given: Any = self._inputs[None] if len(given) == 1 else {name: self._inputs[name] for name in given}
        self._answers, self._views = answer_buffers(contract)

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        return self._inputs[name]

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        for name, found in by_name(list(self._names), self._ask(self._given)).items():
            view = self._views[self._names[name]]
            np.copyto(view, np.asarray(found).reshape(view.shape))
        return self._answers


def _known(path: Path, what: str, found: Sequence[str], expected: Sequence[str]) -> Sequence[str]:
    """The contract's names in the model's order; a model that has one of them may call it as it likes."""
    if len(found) == len(expected) == 1:
        return expected
    if sorted(found) != sorted(expected):
        raise RunError(f"{path}: {what} {', '.join(expected)} expected by its contract, found {', '.join(found)}")
    return found
