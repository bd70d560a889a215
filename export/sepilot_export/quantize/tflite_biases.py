"""The biases of an int8 TFLite file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.embed import tflite_content, tflite_model
from sepilot_export.convert.ranges import Activations
from sepilot_export.convert.tflite import activations_of
from sepilot_export.quantize.bias_correction import Operation, with_shift
from sepilot_runtime.base.errors import RunError

__all__ = ["TfliteBiases", "kernel_pairs", "own_bias"]


class TfliteBiases:
    """A `BiasedFile`.

    Raises:
        RunError: the two files do not have the same operations in the same order.
    """

    channel_axis = -1

    def __init__(self, int8: bytes, float32: bytes) -> None:
        """`float32`: the file that it was made from, of the same operations, its channels scaled alike."""
        self._float32, self._model = float32, tflite_model(int8)
        graph = self._model.subgraphs[0]
        self._operators: dict[Operation, Any] = {}
        origin = tflite_model(float32)
        for operator, counterpart in kernel_pairs(self._model, origin):
            if _has_int32_bias(graph, operator):
                output = graph.tensors[operator.outputs[0]]
                expected = origin.subgraphs[0].tensors[counterpart.outputs[0]].name.decode()
                floor = int(output.quantization.zeroPoint[0]) == -128
                self._operators[Operation(float32=expected, int8=output.name.decode(), floor=floor)] = operator

    def operations(self) -> Sequence[Operation]:
        return list(self._operators)

    def float32(self, tensors: Sequence[str]) -> Activations:
        return activations_of(self._float32, tensors)

    def int8(self, tensors: Sequence[str]) -> Activations:
        return activations_of(self.content(), tensors)

    def shift_bias(self, operation: Operation, shift: NDArray[np.float64]) -> None:
        bias = own_bias(self._model, self._operators[operation])
        buffer = self._model.buffers[bias.buffer]
        values = np.asarray(buffer.data, np.uint8).view(np.int32)
        buffer.data = with_shift(values, shift, bias.quantization.scale).view(np.uint8)

    def content(self) -> bytes:
        return tflite_content(self._model)


def kernel_pairs(int8: Any, float32: Any, *, depthwise: bool = True) -> list[tuple[Any, Any]]:
    """The operations with a kernel of an int8 model, each with its counterpart of the float32 model.

    Args:
        int8, float32: of `embed.tflite_model`.
        depthwise: also those whose kernel is depthwise.

    Raises:
        RunError: the two do not have the same operations in the same order.
    """
    from ai_edge_litert import schema_py_generated as schema

    ours, theirs = _with_kernel(int8), _with_kernel(float32)
    if [kind for kind, *_ in ours] != [kind for kind, *_ in theirs]:
        raise RunError(
            f"the int8 file's operations expected as in the float32 file, found {len(ours)} with a kernel and "
            f"{len(theirs)}"
        )
    # Heads are all alike, and another conversion may have them in another order.
    heads = {name: operator for _, name, operator in theirs if name}
    return [
        (operator, heads.get(name, counterpart))
        for ((kind, _), name, operator), (*_, counterpart) in zip(ours, theirs, strict=True)
        if depthwise or kind != schema.BuiltinOperator.DEPTHWISE_CONV_2D
    ]


def _with_kernel(model: Any) -> list[tuple[tuple[int, int], str, Any]]:
    """(kind, channels), the output that it makes ("" for none) and operation, in the order of computation."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = (
        schema.BuiltinOperator.CONV_2D,
        schema.BuiltinOperator.DEPTHWISE_CONV_2D,
        schema.BuiltinOperator.FULLY_CONNECTED,
    )
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    (graph, *_) = model.subgraphs
    outputs = {e.tensorIndex: e.name.decode() for signature in model.signatureDefs or () for e in signature.outputs}
    return [
        ((kind, int(graph.tensors[made].shape[-1])), outputs.get(made, ""), operator)
        for operator in graph.operators
        if (kind := codes[operator.opcodeIndex]) in kinds
        for made in (int(operator.outputs[0]),)
    ]


def _has_int32_bias(graph: Any, operator: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return False
    bias, output = graph.tensors[operator.inputs[2]], graph.tensors[operator.outputs[0]]
    return bool(bias.type == schema.TensorType.INT32 and output.type == schema.TensorType.INT8)


def own_bias(model: Any, operator: Any) -> Any:
    """The operation's bias, in a tensor and a buffer that no other one reads: writers keep equal constants once."""
    graph = model.subgraphs[0]
    place = int(operator.inputs[2])
    bias = graph.tensors[place]
    readers = sum(int((np.asarray(other.inputs) == place).sum()) for other in graph.operators)
    holders = sum(tensor.buffer == bias.buffer for tensor in graph.tensors)
    if readers == 1 and holders == 1:
        return bias
    own, buffer = copy.copy(bias), copy.copy(model.buffers[bias.buffer])
    own.buffer = len(model.buffers)
    model.buffers.append(buffer)
    operator.inputs = np.array([*operator.inputs[:2], len(graph.tensors), *operator.inputs[3:]], np.int32)
    graph.tensors.append(own)
    return own
