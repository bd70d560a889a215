"""Takes the systematic part out of an int8 file's rounding error, by its biases.

Rounding a kernel of few weights shifts what it makes of a flat surface, always in the same direction, and the shifts of
a depthwise net add up to the output: bright and blurred frames suffer most. The mean shift of each channel over
calibration pictures is taken back by the channel's bias, layer after layer, each with those before it corrected
(empirical bias correction: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
arXiv 1906.04721).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.embed import tflite_content, tflite_model
from sepilot_export.tflite import activations_of
from sepilot_runtime.errors import RunError

__all__ = ["PICTURES", "correct_biases"]

PICTURES = 64
"""As many are enough: a channel's mean is over all its places in all of them."""

_LARGEST_BIAS = 2**31 - 1


def correct_biases(int8: bytes, float32: bytes, pictures: NDArray[np.uint8]) -> bytes:
    """An int8 TFLite file with other biases.

    Args:
        float32: the file that it was made from, of the same operations, its channels scaled alike.
        pictures: for calibration, (n, h, w, c) uint8; at most `PICTURES` of them are taken, evenly spaced.

    Raises:
        RunError: the two files do not have the same operations in the same order.
    """
    chosen = pictures[np.linspace(0, len(pictures) - 1, min(PICTURES, len(pictures))).astype(int)]
    model = tflite_model(int8)
    (graph, *_) = model.subgraphs
    pairs = _pairs(model, tflite_model(float32))
    wanted = _activations(float32, [name for _, name in pairs], chosen)
    for (operation, _), target in zip(pairs, wanted, strict=True):
        output = graph.tensors[operation.outputs[0]]
        if not _has_int8_bias(graph, operation):
            continue
        (found,) = _activations(tflite_content(model), [output.name.decode()], chosen)
        _add_to_bias(model, operation, _mean_shift(target, found, floor=int(output.quantization.zeroPoint[0]) == -128))
    return tflite_content(model)


def _pairs(int8: Any, float32: Any) -> list[tuple[Any, str]]:
    """The operations with a kernel of the int8 model, each with the name of what its counterpart makes."""
    ours, theirs = _operations(int8), _operations(float32)
    if [kind for kind, _, _ in ours] != [kind for kind, _, _ in theirs]:
        raise RunError(
            f"bias correction: the int8 file's operations expected as in the float32 file, found {len(ours)} with a "
            f"kernel and {len(theirs)}"
        )
    return [(operation, name) for (_, operation, _), (_, _, name) in zip(ours, theirs, strict=True)]


def _operations(model: Any) -> list[tuple[tuple[int, int], Any, str]]:
    """(kind, channels), operation, and the name of its output, in the order of computation."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = (
        schema.BuiltinOperator.CONV_2D,
        schema.BuiltinOperator.DEPTHWISE_CONV_2D,
        schema.BuiltinOperator.FULLY_CONNECTED,
    )
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    (graph, *_) = model.subgraphs
    found = []
    for operation in graph.operators:
        if (kind := codes[operation.opcodeIndex]) in kinds:
            output = graph.tensors[operation.outputs[0]]
            found.append(((kind, int(output.shape[-1])), operation, output.name.decode()))
    return found


def _has_int8_bias(graph: Any, operation: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    if len(operation.inputs) < 3 or operation.inputs[2] < 0:
        return False
    bias, output = graph.tensors[operation.inputs[2]], graph.tensors[operation.outputs[0]]
    return bool(bias.type == schema.TensorType.INT32 and output.type == schema.TensorType.INT8)


def _activations(content: bytes, names: Sequence[str], pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """(places, channels) of each tensor over all pictures."""
    run = activations_of(content, names)
    rows: list[list[NDArray[np.float32]]] = [[] for _ in names]
    for picture in pictures:
        values = run(picture)
        for name, row in zip(names, rows, strict=True):
            # A copy: the interpreter writes the next picture's values into the same memory.
            row.append(np.array(values[name]).reshape(-1, values[name].shape[-1]))
    return [np.concatenate(row) for row in rows]


def _mean_shift(target: NDArray[np.float32], found: NDArray[np.float32], *, floor: bool) -> NDArray[np.float64]:
    """What each channel lacks in the mean. With `floor`, only where a ReLU leaves anything: elsewhere no bias shows."""
    counted = (target > 0) | (found > 0) if floor else np.ones(target.shape, bool)
    lacking = np.where(counted, target.astype(np.float64) - found, 0.0)
    return np.asarray(lacking.sum(axis=0) / np.maximum(counted.sum(axis=0), 1))


def _add_to_bias(model: Any, operation: Any, shift: NDArray[np.float64]) -> None:
    """Add `shift` (channels,) in real units."""
    bias = _own_bias(model, operation)
    values = np.asarray(model.buffers[bias.buffer].data, np.uint8).view(np.int32).astype(np.float64)
    values = np.clip(values + np.rint(shift / np.asarray(bias.quantization.scale)), -_LARGEST_BIAS, _LARGEST_BIAS)
    model.buffers[bias.buffer].data = values.astype(np.int32).view(np.uint8)


def _own_bias(model: Any, operation: Any) -> Any:
    """The operation's bias, in a tensor and a buffer that no other one reads: writers keep equal constants once."""
    graph = model.subgraphs[0]
    place = int(operation.inputs[2])
    bias = graph.tensors[place]
    readers = sum(int((np.asarray(other.inputs) == place).sum()) for other in graph.operators)
    holders = sum(tensor.buffer == bias.buffer for tensor in graph.tensors)
    if readers == 1 and holders == 1:
        return bias
    own, buffer = copy.copy(bias), copy.copy(model.buffers[bias.buffer])
    own.buffer = len(model.buffers)
    model.buffers.append(buffer)
    operation.inputs = np.array([*operation.inputs[:2], len(graph.tensors), *operation.inputs[3:]], np.int32)
    graph.tensors.append(own)
    return own
