"""The training model as an engine, in the three ways that people run one: for `sepilot bench --keras`.

None of them is anything to drive with; they show what the exported files save.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.engine.buffers import input_buffers

__all__ = ["KerasEngine", "keras_engines"]


class KerasEngine:
    """A model in memory behind the interface of an engine. Its inputs and outputs are told apart by their names."""

    def __init__(self, name: str, path: Path, contract: Contract, model: Any, run: Callable[[Any], Any]) -> None:
        """
        Args:
            run: the way to ask it: its answer to an input, or to the inputs by name where it has several.

        Raises:
            RunError: it has several outputs or inputs, and their names are not the contract's.
        """
        self.name, self.path, self.contract, self.threads = name, path, contract, 1
        self.input_dtype: np.dtype[Any] = np.dtype(np.float32)
        self._run = run
        inputs, outputs = [i.name for i in contract.inputs], [o.name for o in contract.outputs]
        self._names = _known(path, "outputs", [str(n) for n in model.output_names], outputs)
        given = _known(path, "inputs", [str(i.name) for i in model.inputs], inputs)
        self._inputs = input_buffers(contract, self.input_dtype)
        self._given: Any = self._inputs[None] if len(given) == 1 else {name: self._inputs[name] for name in given}
        self._answers = {output.name: np.zeros(output.shape, np.float32) for output in contract.outputs}

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        return self._inputs[name]

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        found = self._run(self._given)
        if not isinstance(found, dict):
            found = dict(zip(self._names, found if isinstance(found, list | tuple) else [found], strict=True))
        for name, answer in self._answers.items():
            np.copyto(answer, np.asarray(found[name]).reshape(answer.shape))
        return self._answers


def _known(path: Path, what: str, found: list[str], expected: list[str]) -> list[str]:
    """The contract's names in the model's order; a model that has one of them may call it as it likes."""
    if len(found) == len(expected) == 1:
        return expected
    if sorted(found) != sorted(expected):
        raise RunError(f"{path}: {what} {', '.join(expected)} expected by its contract, found {', '.join(found)}")
    return found


def keras_engines(path: Path, contract: Contract) -> list[KerasEngine]:
    """`model.predict`, `model(x)` and a `tf.function` of the model of a run directory, or of a .keras file.

    Args:
        contract: of the file that they stand beside; the model must take its picture.

    Raises:
        RunError: there is no model, it cannot be read, or it takes another picture.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras
    import tensorflow as tf

    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise RunError(f"{file}: no such file; a run directory of `sepilot train` or a .keras file expected")
    # As the files beside it: one thread. Where TensorFlow has computed something already it is too late to ask.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.disable_interactive_logging()
    try:
        model = keras.models.load_model(file, compile=False)
    except (OSError, ValueError, TypeError) as e:
        raise RunError(f"{file}: cannot be read as a Keras model: {str(e).splitlines()[0]}") from e
    expected = contract.input_shape[1:]
    found = [tuple(i.shape[1:]) for i in model.inputs]
    if contract.frame or expected not in found:
        raise RunError(f"{file}: takes {found[0]}, the file beside it {expected}; they do not compare")
    compiled = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    ways: dict[str, Callable[[Any], Any]] = {
        "keras predict": lambda x: model.predict(x, verbose=0),
        "keras call": lambda x: model(x, training=False),
        "tf.function": lambda x: compiled(tf.nest.map_structure(tf.constant, x)),
    }
    return [KerasEngine(name, file, contract, model, run) for name, run in ways.items()]
