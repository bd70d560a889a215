"""Bias correction: a shift of any layer is found and taken back, also where layers share one stored bias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from parity.bar_nets import contract_for
from sepilot_export.convert import onnx_file
from sepilot_export.convert.embed import tflite_model
from sepilot_export.convert.ranges import fit_ranges
from sepilot_export.quantize.bias_correction import BiasedFile, correct_biases
from sepilot_export.quantize.onnx_biases import OnnxBiases
from sepilot_export.quantize.tflite_biases import TfliteBiases
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Picture

PICTURES = np.random.default_rng(0).integers(0, 256, (24, 20, 28, 1), np.uint8)
CONTRACT = contract_for(Picture(height=20, width=28, color="gray"), "net")


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
    return keras.Model(image, {"steering": keras.layers.Dense(1, name="steering", **some)(x)})


@dataclass(frozen=True)
class Case:
    """A net in one format."""

    float32: bytes
    int8: bytes
    biases: Callable[[bytes, bytes], BiasedFile]

    def corrected(self, content: bytes) -> bytes:
        return correct_biases(self.biases(content, self.float32), PICTURES)

    def shift(self, content: bytes) -> float:
        """Mean over the channels in front of the pooling of how far each is off in the mean, as a part of its reach."""
        file = self.biases(content, self.float32)
        last, channels = file.operations()[-2], 8
        sums = []
        for run, name in ((file.int8([last.int8]), last.int8), (file.float32([last.float32]), last.float32)):
            values = np.concatenate([np.moveaxis(run(p)[name], file.channel_axis, -1) for p in PICTURES])
            sums.append(values.reshape(-1, channels).mean(axis=0, dtype=np.float64))
        return float(np.abs(sums[0] - sums[1]).mean() / np.abs(sums[1]).mean())

    def spoilt(self, place: int) -> bytes:
        """The int8 file with the bias of one operation far off."""
        file = self.biases(self.int8, self.float32)
        operation = file.operations()[place]
        reach = np.abs(file.float32([operation.float32])(PICTURES[0])[operation.float32]).max()
        file.shift_bias(operation, np.full(1, 0.15 * reach))
        return file.content()


@cache
def tflite_case(stages: int = 2) -> Case:
    import tensorflow as tf

    contents = []
    for int8 in (False, True):
        converter = tf.lite.TFLiteConverter.from_keras_model(net(stages))
        if int8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([p[None] * np.float32(1 / 255)] for p in PICTURES)
            converter.inference_input_type = converter.inference_output_type = tf.int8
        contents.append(bytes(converter.convert()))
    return Case(*contents, TfliteBiases)


@cache
def onnx_case() -> Case:
    prepared = onnx_file.prepare(onnx_file.convert_float32(net(), CONTRACT))
    ranges = fit_ranges(onnx_file.activations_of(prepared, CONTRACT), PICTURES).ranges
    int8 = onnx_file.quantize(prepared, CONTRACT, PICTURES[:4], ranges)
    return Case(prepared, int8, lambda content, float32: OnnxBiases(content, float32, CONTRACT))


CASES = pytest.mark.parametrize("case", [tflite_case, onnx_case], ids=["tflite", "onnx"])


@CASES
@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_a_shifted_bias_is_taken_back(case: Callable[[], Case], place: int) -> None:
    before = case().shift(case().spoilt(place))
    after = case().shift(case().corrected(case().spoilt(place)))
    assert before > 2 * case().shift(case().int8), "otherwise nothing was planted"
    assert after < 0.05 * before


@CASES
def test_the_systematic_part_of_the_error_goes(case: Callable[[], Case]) -> None:
    assert case().shift(case().corrected(case().int8)) < 0.5 * case().shift(case().int8)


def test_a_bias_that_operations_share_becomes_one_for_each() -> None:
    """TensorFlow's converter stores equal constants once, and both depthwise kernels have no bias but zeros."""

    def biases(content: bytes) -> list[int]:
        graph = tflite_model(content).subgraphs[0]
        return [graph.tensors[o.inputs[2]].buffer for o in graph.operators if len(o.inputs) == 3]

    case = tflite_case()
    before, after = biases(case.int8), biases(case.corrected(case.int8))
    assert len(set(before)) < len(before)
    assert len(set(after)) == len(after) == len(before)


def test_each_kernel_of_a_prepared_onnx_file_has_a_bias() -> None:
    """Depthwise kernels have none in Keras, and one that is shared could not be corrected for each."""
    import onnx

    nodes = [n for n in onnx.load_model_from_string(onnx_case().float32).graph.node if n.op_type in ("Conv", "Gemm")]
    assert len(nodes) == 6 and len({n.input[2] for n in nodes}) == 6
    assert len(OnnxBiases(onnx_case().int8, onnx_case().float32, CONTRACT).operations()) == 6


def test_the_float_file_of_another_net_is_refused() -> None:
    with pytest.raises(RunError, match="found 6 with a kernel and 8"):
        TfliteBiases(tflite_case().int8, tflite_case(3).float32)
