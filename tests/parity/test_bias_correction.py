"""Bias correction: a shift of any layer is found and taken back, also where layers share one stored bias."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_export.bias_correction import correct_biases
from sepilot_export.embed import tflite_content, tflite_model
from sepilot_export.tflite import activations_of
from sepilot_runtime.errors import RunError

PICTURES = np.random.default_rng(0).integers(0, 256, (24, 20, 28, 1), np.uint8)


def net(stages: int = 2) -> Any:
    import keras

    keras.utils.set_random_seed(1)
    some = {"bias_initializer": keras.initializers.RandomUniform(-0.2, 0.2)}
    image = x = keras.Input((20, 28, 1), batch_size=1, name="image")
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="stem", **some)(x)
    for number in range(stages):
        x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise{number}")(x)
        x = keras.layers.Conv2D(8, 1, activation="relu", name=f"pointwise{number}", **some)(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(image, keras.layers.Dense(1, name="steering", **some)(x))


@cache
def converted(stages: int = 2, *, int8: bool) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(net(stages))
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([p[None] * np.float32(1 / 255)] for p in PICTURES)
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def deviations(int8: bytes) -> NDArray[np.float64]:
    """Answers of the int8 file less those of the float32 file."""
    answers = []
    for content in (int8, converted(int8=False)):
        run, graph = activations_of(content), tflite_model(content).subgraphs[0]
        output = graph.tensors[graph.outputs[0]].name.decode()
        answers.append(np.array([float(np.asarray(run(picture)[output]).ravel()[0]) for picture in PICTURES]))
    return np.asarray(answers[0] - answers[1])


def linear(model: Any) -> list[tuple[Any, Any]]:
    """Bias and output tensor of each operation with a kernel."""
    graph = model.subgraphs[0]
    tensors = graph.tensors
    return [(tensors[o.inputs[2]], tensors[o.outputs[0]]) for o in graph.operators if len(o.inputs) == 3]


def spoilt(place: int) -> bytes:
    """The int8 file with the bias of one operation, and of whoever shares it, off by forty steps of its output."""
    model = tflite_model(converted(int8=True))
    bias, output = linear(model)[place]
    steps = 40 * np.asarray(output.quantization.scale) / np.asarray(bias.quantization.scale)
    values = np.asarray(model.buffers[bias.buffer].data, np.uint8).view(np.int32) + np.rint(steps)
    model.buffers[bias.buffer].data = values.astype(np.int32).view(np.uint8)
    return tflite_content(model)


@pytest.mark.parametrize("place", [0, 1, 2, 5])
def test_a_shifted_bias_is_taken_back(place: int) -> None:
    plain = np.abs(deviations(correct_biases(converted(int8=True), converted(int8=False), PICTURES))).mean()
    before = np.abs(deviations(spoilt(place))).mean()
    after = np.abs(deviations(correct_biases(spoilt(place), converted(int8=False), PICTURES))).mean()
    assert before > 2.5 * plain, "otherwise nothing was planted"
    assert after < 1.5 * plain


def test_the_systematic_part_of_the_error_goes() -> None:
    before = deviations(converted(int8=True))
    after = deviations(correct_biases(converted(int8=True), converted(int8=False), PICTURES))
    assert abs(after.mean()) < 0.7 * abs(before.mean())


def test_a_bias_that_operations_share_becomes_one_for_each() -> None:
    """TensorFlow's converter stores equal constants once, and both depthwise kernels have no bias but zeros."""
    before, after = (
        [bias.buffer for bias, _ in linear(tflite_model(content))]
        for content in (
            converted(int8=True),
            correct_biases(converted(int8=True), converted(int8=False), PICTURES),
        )
    )
    assert len(set(before)) < len(before)
    assert len(set(after)) == len(after) == len(before)


def test_the_float_file_of_another_net_is_refused() -> None:
    with pytest.raises(RunError, match="found 6 with a kernel and 8"):
        correct_biases(converted(int8=True), converted(3, int8=False), PICTURES)
