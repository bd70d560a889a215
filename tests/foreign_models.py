"""Small nets as other people's tools leave them: no contract, names, ranges, layouts and types of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drive_factory import angles, write_tub
from sepilot_runtime.base.exit_codes import run_verb
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.contract.preprocess import picture_of

SIZE = (24, 32)
CROP_TOP = 0.25
COUNT = 120
"""Of the frames of the drive that these nets know."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def throttles() -> list[float]:
    """Beside `angles(COUNT)`: slower in bends."""
    return [round(0.7 - 0.5 * abs(angle), 4) for angle in angles(COUNT)]


def write_drive(folder: Path) -> Path:
    """A tub of COUNT frames that steers by `angles`, with `throttles`."""
    return write_tub(folder, COUNT, throttle=throttles())


def adopted(file: Path, drives: Path, out: Path, text: str, *words: str) -> int:
    """Run `sepilot adopt` with what `text`, a TOML file's, states; its exit code."""
    from sepilot_export.commands import adopt

    toml = out.with_suffix(".toml")
    toml.write_text(text)
    argv = [str(file), "--drives", str(drives), "--out", str(out), "--contract", str(toml), *words]
    return run_verb(lambda: adopt.main(argv))


def seen(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the nets here were trained on of a camera's frame: cropped, resized, RGB in 0..255 (h, w, 3)."""
    picture = Picture(height=SIZE[0], width=SIZE[1], color="bgr", crop_top=CROP_TOP)
    return picture_of(frame, picture).astype(np.float64)[..., ::-1]


def ridge(features: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (d, outputs) and bias of the last layer, from (n, d) and (n, outputs)."""
    x = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    w = np.linalg.solve(x.T @ x + 1e-3 * np.eye(x.shape[1]), x.T @ labels)
    return w[:-1].astype(np.float32), w[-1].astype(np.float32)


def write_mobilenet_onnx(
    path: Path, frames: Sequence[NDArray[np.uint8]] = (), labels: Sequence[Any] = (), *, outputs: int = 1
) -> Path:
    """A depthwise separable net as PyTorch's exporter writes it: NCHW, ImageNet's mean and std, a batch of any size.

    Args:
        frames, labels: the camera's, and (n,) or (n, outputs) that its last layer is fitted to; random without.
    """
    import onnxruntime as ort

    head = np.random.default_rng(0).normal(0, 0.1, (NODES, outputs)).astype(np.float32), np.zeros(outputs, np.float32)
    if len(frames):
        body = ort.InferenceSession(_mobilenet(head, "features").SerializeToString())
        pictures = [((seen(f) / 255 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32) for f in frames]
        (found,) = body.run(None, {"input": np.stack(pictures)})
        head = ridge(found, np.asarray(labels, np.float64).reshape(len(frames), outputs))
    path.write_bytes(_mobilenet(head, "output").SerializeToString(deterministic=True))
    return path


NODES = 12 * (SIZE[0] // 4) * (SIZE[1] // 4)
"""Of the last layer."""


def _mobilenet(head: tuple[NDArray[np.float32], NDArray[np.float32]], result: str) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    constants = {
        "conv.w": rng.normal(0, 0.3, (8, 3, 3, 3)), "conv.b": rng.normal(0, 0.1, 8),
        "dw.w": rng.normal(0, 0.4, (8, 1, 3, 3)), "dw.b": rng.normal(0, 0.1, 8),
        "pw.w": rng.normal(0, 0.4, (12, 8, 1, 1)), "pw.b": rng.normal(0, 0.1, 12),
        "fc.w": head[0].T, "fc.b": head[1], "zero": 0, "six": 6,
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["input", "conv.w", "conv.b"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "dw.w", "dw.b"], ["c"], group=8, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c", "zero", "six"], ["d"]),
        helper.make_node("Conv", ["d", "pw.w", "pw.b"], ["e"]),
        helper.make_node("Flatten", ["e"], ["features"]),
        helper.make_node("Gemm", ["features", "fc.w", "fc.b"], ["output"], transB=1),
    ]
    graph = helper.make_graph(
        nodes[: 6 if result == "features" else 7],
        "torch_jit",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", 3, *SIZE])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, ["batch_size", None])],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


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


def keras_mobilenet(
    frames: Sequence[NDArray[np.uint8]],
    labels: Mapping[str, Sequence[float]],
    vectors: NDArray[np.float32] | None = None,
) -> Any:
    """A small depthwise separable net of Keras, RGB in [-1, 1], with an output for each of the labels.

    Args:
        vectors: (n, size), a second input beside the picture.
    """
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((*SIZE, 3), name="camera")
    x = layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, 2, padding="same")(x))
    x = layers.Flatten()(layers.Conv2D(12, 1, activation="relu")(x))
    inputs = [image] if vectors is None else [image, keras.Input((vectors.shape[1],), name="state")]
    x = x if vectors is None else layers.Concatenate()([x, inputs[1]])
    fed = [np.stack([seen(f) for f in frames]) / 127.5 - 1, *([] if vectors is None else [vectors])]
    features = np.asarray(keras.Model(inputs, x)(fed))
    heads = {name: layers.Dense(1, name=f"head_{name}") for name in labels}
    net = keras.Model(inputs if len(inputs) > 1 else image, {name: head(x) for name, head in heads.items()})
    for name, head in heads.items():
        head.set_weights(ridge(features, np.asarray(labels[name], np.float64)[:, None]))
    return net


def write_mobilenet_tflite(
    path: Path, frames: Sequence[NDArray[np.uint8]], labels: Mapping[str, Sequence[float]], kind: str = "float32"
) -> Path:
    """`keras_mobilenet` by TensorFlow's converter: float32, or int8 with uint8 at its ends."""
    import tensorflow as tf

    net = keras_mobilenet(frames, labels)
    net.export(str(path.with_suffix("")), format="tf_saved_model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path.with_suffix("")))
    if kind == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # With a black and a white one, so that the input's scale covers the range.
        ends = [np.zeros((*SIZE, 3)), np.full((*SIZE, 3), 255.0)]
        pictures = [(p / 127.5 - 1)[None].astype(np.float32) for p in (*ends, *map(seen, frames))]
        converter.representative_dataset = lambda: ([p] for p in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    path.write_bytes(converter.convert())
    return path


def write_classifier_onnx(path: Path, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[int]) -> Path:
    """`write_mobilenet_onnx` with a logit for each class, fitted to (n,) places of the classes of these pictures."""
    return write_mobilenet_onnx(path, pictures, 8 * np.eye(max(labels) + 1)[list(labels)], outputs=max(labels) + 1)
