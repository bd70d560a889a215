"""The training model as engines, in the three ways that people run one: for `sepilot bench --keras`.

None of them is anything to drive with; they show what the exported files save.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract
from sepilot_train.fit.keras_engine import KerasEngine

__all__ = ["keras_engines"]


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
    return [KerasEngine(model, contract, file, name=name, ask=ask) for name, ask in ways.items()]
