"""The training model as an engine, in the three ways that people run one: for `sepilot bench --keras`.

None of them is anything to drive with; they show what the exported files save.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract

__all__ = ["KerasEngine", "keras_engines"]


class KerasEngine:
    """A model in memory behind the interface of an engine."""

    def __init__(self, name: str, path: Path, contract: Contract, run: Callable[[NDArray[np.float32]], Any]) -> None:
        self.name, self.path, self.contract, self.threads = name, path, contract, 1
        self.input_dtype: np.dtype[Any] = np.dtype(np.float32)
        self._run = run
        self._input = np.zeros(contract.input_shape, np.float32)
        self._value = 0.0

    def input_tensor(self) -> NDArray[Any]:
        return self._input

    def invoke(self) -> None:
        self._value = float(np.asarray(self._run(self._input)).reshape(-1)[0])

    def output(self, name: str) -> float:
        return self._value


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
    if contract.frame or model.input_shape[1:] != expected:
        raise RunError(f"{file}: takes {model.input_shape[1:]}, the file beside it {expected}; they do not compare")
    compiled = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    ways: dict[str, Callable[[NDArray[np.float32]], Any]] = {
        "keras predict": lambda x: model.predict(x, verbose=0),
        "keras call": lambda x: model(x, training=False),
        "tf.function": lambda x: compiled(tf.constant(x)),
    }
    return [KerasEngine(name, file, contract, run) for name, run in ways.items()]
