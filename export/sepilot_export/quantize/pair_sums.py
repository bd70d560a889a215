"""Kernels whose products fit into 16 bits, two at a time, so that an int8 file says the same on every processor.

An x86-64 processor without VNNI (every AMD before Zen 4, most laptops before 2020) multiplies 8-bit numbers with
`vpmaddubsw`, in ONNX Runtime where it has AVX2, in OpenVINO also where it has not: two products of an unsigned
activation and a signed weight are added in 16 bits, and a sum outside [-32768, 32767] is cut off. With an activation of
255, two neighbouring weights of 127 make 64,770; nets that were right to 1 degree were off by 20.

So each channel of a kernel gets the smallest scale with which no two neighbours of one sign exceed 128 together, since
128 * 255 still fits. Most channels lose a fraction of their eighth bit, many nothing. Against the other ways that were
tried this costs no time on any processor (unsigned weights: a fifth to a third), and less accuracy than seven bits for
all (`docs/results.md`, "Processors"). Depthwise kernels are multiplied one by one everywhere and stay as they are.

Which weights are neighbours depends on how an engine lays out a kernel: along the input channels of one place, along
all places with the input channels innermost, or with the places innermost. The bound holds for all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.embed import tflite_content, tflite_model
from sepilot_export.convert.onnx_file import Constants
from sepilot_export.quantize.tflite_biases import kernel_pairs, own_bias

__all__ = [
    "LARGEST_PAIR",
    "all_fit",
    "by_output",
    "fit_onnx",
    "fit_tflite",
    "fitted",
    "kernel_bits",
    "largest_pairs",
    "onnx_kernels",
    "tflite_kernels",
]

LARGEST_PAIR = 32767 // 255
"""What two neighbouring weights may reach together."""

_LARGEST_WEIGHT = 127
_GROWTH = 1.002
"""Of a scale at a time, at least: rounding may leave a sum one too large."""


def largest_pairs(kernel: NDArray[np.integer]) -> NDArray[np.int64]:
    """(outputs,) the largest sum of two neighbours, without its sign, of a rounded kernel (outputs, places, inputs)."""
    wide = np.asarray(kernel, np.int64)
    outputs = len(wide)
    layouts = wide, wide.reshape(outputs, 1, -1), wide.transpose(0, 2, 1).reshape(outputs, 1, -1)
    largest: NDArray[np.int64] = np.max([np.abs(_neighbours(x)).max(axis=(1, 2)) for x in layouts], axis=0)
    return largest


def _neighbours(kernel: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of the first and second, the third and fourth, …; the larger of two of opposite signs: an input may be 0."""
    padded = np.pad(kernel, ((0, 0), (0, 0), (0, kernel.shape[2] % 2)))
    one, other = padded[..., 0::2], padded[..., 1::2]
    larger = np.where(np.abs(one) > np.abs(other), one, other)
    return np.where(one * other > 0, one + other, larger)


def fitted(kernel: NDArray[np.float32], scale: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A kernel rounded so that pairs fit, and its scales.

    Args:
        kernel: (outputs, places, inputs) in real units.
        scale: (outputs,), or (1,) for all of them, that the quantizer chose; those that come out are not smaller.
    """
    found = np.array(scale, np.float32)
    while True:
        rounded = np.rint(kernel / found[:, np.newaxis, np.newaxis])
        rounded = np.clip(rounded, -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.int8)
        largest = largest_pairs(rounded)
        if len(found) == 1:
            largest = largest.max(keepdims=True)
        if (largest <= LARGEST_PAIR).all():
            return rounded, found
        growth = np.maximum(largest / LARGEST_PAIR, _GROWTH).astype(np.float32)
        found = np.where(largest > LARGEST_PAIR, found * growth, found)


def all_fit(kernels: Iterable[tuple[str, NDArray[np.integer]]]) -> bool:
    """Whether pairs fit in all kernels of `tflite_kernels` or `onnx_kernels`."""
    return all((largest_pairs(kernel) <= LARGEST_PAIR).all() for _, kernel in kernels)


def kernel_bits(kernel: NDArray[np.integer]) -> float:
    """Bits that a rounded kernel (outputs, …) makes use of, mean of its channels: 8 where no step was widened."""
    largest = np.abs(np.asarray(kernel, np.int64).reshape(len(kernel), -1)).max(axis=1)
    return float(np.log2(2 * largest[largest > 0] + 2).mean()) if largest.any() else 0.0


def fit_tflite(int8: bytes, float32: bytes) -> bytes:
    """An int8 TFLite file with kernels that fit. `float32`: the file that it was made from.

    Raises:
        RunError: the two files do not have the same operations in the same order.
    """
    model, source = tflite_model(int8), tflite_model(float32)
    graph, origin = model.subgraphs[0], source.subgraphs[0]
    scales: dict[int, NDArray[np.float64]] = {}
    for operator, counterpart in kernel_pairs(model, source, depthwise=False):
        place = int(operator.inputs[1])
        tensor = graph.tensors[place]
        if not _is_int8(tensor):
            continue  # Left in float32.
        if place not in scales:
            real = origin.tensors[counterpart.inputs[1]]
            kernel = np.asarray(source.buffers[real.buffer].data, np.uint8).view(np.float32).reshape(real.shape)
            before = np.asarray(tensor.quantization.scale, np.float32)
            rounded, tensor.quantization.scale = fitted(by_output(kernel), before)
            scales[place] = before / tensor.quantization.scale.astype(np.float64)
            model.buffers[tensor.buffer].data = rounded.reshape(-1).view(np.uint8)
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            _rescale_bias(model, own_bias(model, operator), scales[place])
    return tflite_content(model)


def tflite_kernels(int8: bytes) -> Iterator[tuple[str, NDArray[np.int8]]]:
    """The rounded kernels (outputs, places, inputs) of an int8 TFLite file, depthwise ones left out, by the tensor that
    they make."""
    model = tflite_model(int8)
    tensors = model.subgraphs[0].tensors
    for operator, _ in kernel_pairs(model, model, depthwise=False):
        kernel = tensors[operator.inputs[1]]
        if _is_int8(kernel):
            values = np.asarray(model.buffers[kernel.buffer].data, np.uint8).view(np.int8).reshape(kernel.shape)
            yield tensors[operator.outputs[0]].name.decode(), by_output(values)


def _is_int8(tensor: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    return bool(tensor.type == schema.TensorType.INT8)


def by_output(kernel: NDArray[Any]) -> NDArray[Any]:
    """(outputs, …, inputs) as (outputs, places, inputs)."""
    return kernel.reshape(len(kernel), -1, kernel.shape[-1])


def _rescale_bias(model: Any, bias: Any, factor: NDArray[np.float64]) -> None:
    buffer = model.buffers[bias.buffer]
    buffer.data = np.rint(np.asarray(buffer.data, np.uint8).view(np.int32) * factor).astype(np.int32).view(np.uint8)
    bias.quantization.scale = (np.asarray(bias.quantization.scale) / factor).astype(np.float32)


def fit_onnx(int8: bytes, float32: bytes) -> bytes:
    """An int8 ONNX file of `onnx_file.quantize` with kernels that fit. `float32`: the file that it was made from."""
    import onnx

    model = onnx.load_model_from_string(int8)
    constants = Constants(model)
    real = Constants(onnx.load_model_from_string(float32))
    factors: dict[str, NDArray[np.float64]] = {}
    for node, weights, axis in _onnx_kernels(model):
        rounded, scale, *_ = weights.input
        if rounded not in factors:
            kernel, before = real[rounded.removesuffix("_quantized")], constants[scale]
            moved = np.moveaxis(kernel, axis, 0)
            fit, after = fitted(_places_first(moved), before.reshape(-1))
            factors[rounded] = before.reshape(-1) / after.astype(np.float64)
            constants[rounded] = np.moveaxis(fit.transpose(0, 2, 1).reshape(moved.shape), 0, axis)
            constants[scale] = after.reshape(before.shape)
        if len(node.input) > 2 and (bias := _restored(model, node.input[2])) is not None:
            stored, step, *_ = bias.input
            constants[stored] = np.rint(constants[stored] * factors[rounded]).astype(np.int32)
            constants[step] = (constants[step] / factors[rounded]).astype(np.float32).reshape(constants[step].shape)
    return bytes(model.SerializeToString(deterministic=True))


def onnx_kernels(int8: bytes) -> Iterator[tuple[str, NDArray[np.int8]]]:
    """The rounded kernels (outputs, places, inputs) of an int8 ONNX file, depthwise ones left out, by their node."""
    import onnx

    model = onnx.load_model_from_string(int8)
    constants = Constants(model)
    for node, weights, axis in _onnx_kernels(model):
        yield node.name, _places_first(np.moveaxis(constants[weights.input[0]], axis, 0))


def _onnx_kernels(model: Any) -> Iterator[tuple[Any, Any, int]]:
    """Operations with an int8 kernel that is not depthwise, the node that restores the kernel, its axis of outputs."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        weights = _restored(model, node.input[1]) if node.op_type in ("Conv", "Gemm", "MatMul") else None
        if weights is None or weights.input[0] not in constants:
            continue
        shape = constants[weights.input[0]].dims
        if node.op_type == "Conv":
            if shape[1] > 1 or not any(a.name == "group" and a.i > 1 for a in node.attribute):
                yield node, weights, 0
        else:
            yield node, weights, 0 if any(a.name == "transB" and a.i for a in node.attribute) else len(shape) - 1


def _restored(model: Any, name: str) -> Any:
    """The DequantizeLinear node that makes a tensor, None where another one does, or none."""
    return next((n for n in model.graph.node if n.op_type == "DequantizeLinear" and name in n.output), None)


def _places_first(kernel: NDArray[Any]) -> NDArray[Any]:
    """(outputs, inputs, …) as (outputs, places, inputs)."""
    return kernel.reshape(*kernel.shape[:2], -1).transpose(0, 2, 1)
