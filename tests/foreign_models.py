"""Small nets as other people's tools leave them: no contract, names, ranges, layouts and types of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_mobilenet_onnx(path: Path, *, size: tuple[int, int] = (24, 32), channels: int = 3, seed: int = 0) -> Path:
    """A depthwise separable net as PyTorch's exporter writes it: NCHW, one input, a batch of any size, one output."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    constants = {
        "conv.w": rng.normal(0, 0.3, (8, channels, 3, 3)), "conv.b": rng.normal(0, 0.1, 8),
        "dw.w": rng.normal(0, 0.4, (8, 1, 3, 3)), "dw.b": rng.normal(0, 0.1, 8),
        "pw.w": rng.normal(0, 0.4, (12, 8, 1, 1)), "pw.b": rng.normal(0, 0.1, 12),
        "fc.w": rng.normal(0, 0.5, (1, 12)), "fc.b": np.zeros(1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["input", "conv.w", "conv.b"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "dw.w", "dw.b"], ["c"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c", "zero", "six"], ["d"]),
        helper.make_node("Conv", ["d", "pw.w", "pw.b"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"]),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "fc.w", "fc.b"], ["output"], transB=1),
    ]
    tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()]
    tensors += [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in (("zero", 0), ("six", 6))]
    graph = helper.make_graph(
        nodes, "torch_jit",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", channels, *size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", 1])],
        tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def write_several_onnx(path: Path) -> Path:
    """Bytes, whole numbers and real numbers in, two tensors out; nothing of a picture."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["bytes"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["ids"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["a"], ["c"], keepdims=0),
        helper.make_node("Add", ["b", "reals"], ["first"]),
        helper.make_node("Add", ["first", "c"], ["second"]),
    ]
    inputs: list[tuple[str, Any]] = [("bytes", TensorProto.UINT8), ("ids", TensorProto.INT64)]
    inputs.append(("reals", TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes, "mixed",
        [helper.make_tensor_value_info(name, kind, [1, 5]) for name, kind in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5]) for name in ("second", "first")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def keras_mobilenet(*, outputs: tuple[str, ...] = ("Identity",), vector: int = 0, size: tuple[int, int] = (24, 32)) -> Any:
    """A small depthwise separable net of Keras, RGB in [-1, 1]; `vector`: size of a second input."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((*size, 3), name="camera")
    x = layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Flatten()(layers.Conv2D(4, 1, 2, activation="relu")(x))
    extra = [keras.Input((vector,), name="state")] if vector else []
    x = layers.Concatenate()([x, *extra]) if vector else x
    heads = {name: layers.Dense(1, name=f"head_{name}")(x) for name in outputs}
    return keras.Model([image, *extra] if vector else image, heads)


def write_mobilenet_tflite(path: Path, kind: str = "float32", *, outputs: tuple[str, ...] = ("Identity",)) -> Path:
    """`keras_mobilenet` by TensorFlow's converter: float32, int8 (uint8 at its ends) or dynamic."""
    import tensorflow as tf

    net = keras_mobilenet(outputs=outputs)
    net.export(str(path.with_suffix("")), format="tf_saved_model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path.with_suffix("")))
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "int8":
        rng = np.random.default_rng(0)
        shape = (1, *net.input_shape[1:])
        converter.representative_dataset = lambda: ([rng.uniform(-1, 1, shape).astype(np.float32)] for _ in range(20))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    path.write_bytes(converter.convert())
    return path
