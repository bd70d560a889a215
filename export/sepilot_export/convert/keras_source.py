"""Anybody's Keras net, with as many inputs and outputs as it has: how it answers, and as files that a car runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepilot_export.convert import onnx_file, tflite
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.engine.bare import BareModel, Feed, Tensor
from sepilot_train.base.keras_file import load_keras
from sepilot_train.base.quiet import quiet
from sepilot_train.fit.predict import by_name

__all__ = ["FORMATS", "converted", "open_keras"]


def open_keras(path: Path) -> tuple[BareModel, Any]:
    """A .keras or .h5 file with the names that Keras gives its inputs and outputs, and its net.

    Raises:
        ModelFileError: it cannot be read, or is no net of named inputs and outputs of known sizes.
    """
    with quiet(f"loading {path}"):
        net = load_keras(path)
    import keras

    if not getattr(net, "inputs", None):
        raise ModelFileError(f"{path}: a Sequential or Functional net expected, found {type(net).__name__}")
    if isinstance(net, keras.Sequential):
        net = keras.Model(net.inputs, net.outputs, name=net.name)
    inputs = tuple(_tensor(path, t.name, t) for t in net.inputs)
    said = net.output if isinstance(net.output, dict) else dict(zip(net.output_names, net.outputs, strict=True))
    outputs = tuple(_tensor(path, name, t) for name, t in said.items())

    def run(feed: Feed) -> dict[str, Any]:
        found = net([keras.ops.convert_to_tensor(feed[t.name]) for t in inputs], training=False)
        return {name: keras.ops.convert_to_numpy(value) for name, value in by_name(net.output_names, found).items()}

    return BareModel(
        path=path, name=f"Keras {keras.__version__}", threads=1, inputs=inputs, outputs=outputs, run=run
    ), net


def _tensor(path: Path, name: str, tensor: Any) -> Tensor:
    sizes = tensor.shape[1:]
    if None in sizes:
        raise ModelFileError(
            f"{path}: {name}: an input and output of known sizes expected, found {tuple(tensor.shape)}"
        )
    return Tensor(name=name, shape=(1, *sizes), dtype=np.dtype(str(tensor.dtype)))


FORMATS = ("float32.tflite", "float16.tflite", "dynamic.tflite", "float32.onnx", "float16.onnx")
"""Those that need no calibration."""


def converted(net: Any, model: BareModel, work: Path, formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """Files by format.

    Raises:
        RunError: a conversion fails.
    """
    made: dict[str, bytes] = {}
    with quiet("conversion of the Keras net"):
        import tensorflow as tf

        def answers(*values: Any) -> dict[str, Any]:
            return by_name(net.output_names, net(list(values), training=False))

        specs = [tf.TensorSpec(t.shape, tf.as_dtype(t.dtype), name=t.name) for t in model.inputs]
        if any(name.endswith(".tflite") for name in formats):
            tflite.save_net(net, answers, specs, work)
        onnx = onnx_file.from_function(answers, specs) if any(name.endswith(".onnx") for name in formats) else b""
    for name in formats:
        precision: Any = name.split(".")[0]
        with quiet(f"conversion to {name}"):
            if name.endswith(".tflite"):
                made[name] = tflite.convert(work, precision)
            else:
                made[name] = onnx if precision == "float32" else onnx_file.to_float16(onnx)
    return made
