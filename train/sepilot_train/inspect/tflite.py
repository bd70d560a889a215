"""The nodes of a TFLite file."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

from sepilot_runtime.base.caps import MODEL_BYTES
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.engine.tflite_reader import operator_macs
from sepilot_train.inspect.shapes import behind_preprocessing, keeps_picture, keeps_places, layer_tail, pair_of, text_of
from sepilot_train.inspect.table import Node, Role, Size

__all__ = ["tflite_nodes"]


def tflite_nodes(path: Path) -> list[Node]:
    """The operators of a TFLite file, read without running it.

    Raises:
        ModelFileError: not a TFLite file, or not a whole one.
    """
    try:
        data = read_regular(path, MODEL_BYTES)
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read: {e.strerror or e}") from e
    if data[4:8] != b"TFL3":
        raise ModelFileError(f"{path}: a TFLite file expected, its identifier is {data[4:8]!r}")
    try:
        return _tflite_nodes(data)
    except (struct.error, LookupError, TypeError, ValueError, AttributeError) as e:
        # The generated schema follows every offset without a look at the length of the file.
        raise ModelFileError(f"{path}: damaged: it is not a whole TFLite file; copy or export it again") from e


def _tflite_nodes(data: bytes) -> list[Node]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    graph = model.subgraphs[0]
    kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    inputs = [graph.tensors[i] for i in graph.inputs]
    nodes = [
        Node(name=text_of(t.name), kind="INPUT", role="input", inputs=(), output_shape=layer_tail(t)) for t in inputs
    ]
    constants = {
        i: tuple(int(d) for d in tensor.shape)
        for i, tensor in enumerate(graph.tensors)
        if model.buffers[tensor.buffer].data is not None
    }
    for op, macs in zip(graph.operators, operator_macs(data), strict=True):
        code = model.operatorCodes[op.opcodeIndex]
        kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind in ("DEQUANTIZE", "DENSIFY") and op.inputs[0] in constants:
            # Weights that lie as float16, or without their zeros, and are unpacked when the file is loaded.
            constants[op.outputs[0]] = constants[op.inputs[0]]
            continue
        held = [constants[i] for i in op.inputs if i in constants and not _is_index(graph.tensors[i])]
        kernel, stride, dilation = _tflite_window(model, op, kind)
        node = Node(
            name=text_of(graph.tensors[op.outputs[0]].name),
            kind=kind,
            role=_tflite_role(graph, op, kind),
            inputs=tuple(text_of(graph.tensors[i].name) for i in op.inputs if i >= 0),
            output_shape=layer_tail(graph.tensors[op.outputs[0]]),
            parameters=sum(map(math.prod, held)),
            macs=macs,
            kernel=kernel,
            stride=stride,
            dilation=dilation,
        )
        nodes.append(node)
    return behind_preprocessing(nodes)


def _is_index(tensor: Any) -> bool:
    """Whole numbers without a scale are axes, sizes and places, not weights; the biases of int8 layers have a scale."""
    from ai_edge_litert import schema_py_generated as schema

    whole = (schema.TensorType.INT32, schema.TensorType.INT64, schema.TensorType.BOOL)
    scaled = tensor.quantization is not None and tensor.quantization.scale is not None
    return tensor.type in whole and not scaled


def _tflite_role(graph: Any, op: Any, kind: str) -> Role:
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D", "SPACE_TO_BATCH_ND"):
        return "window"
    if kind == "BATCH_TO_SPACE_ND":
        return "upsample"
    taken = [layer_tail(graph.tensors[i]) for i in op.inputs if i >= 0]
    made = layer_tail(graph.tensors[op.outputs[0]])
    if kind == "FULLY_CONNECTED":
        # It flattens a map by itself, unless its weights are for one place.
        return "pointwise" if taken[0][-1:] == taken[1][-1:] else "global"
    if kind in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        return "pointwise" if keeps_picture(taken[0], made) else "global"
    if kind == "RESHAPE":
        return "pointwise" if keeps_places(taken[0], made) else "global"
    return "global" if kind == "BATCH_MATMUL" else "pointwise"


def _tflite_window(model: Any, op: Any, kind: str) -> tuple[Size, Size, Size]:
    """Kernel, stride and dilation."""
    options, tensors = op.builtinOptions, model.subgraphs[0].tensors
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        kernel = pair_of(tensors[op.inputs[1]].shape[1:3])
        return kernel, (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    if kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        return (options.filterHeight, options.filterWidth), (options.strideH, options.strideW), (1, 1)
    if kind in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"):
        # Around a dilated convolution: the pixels that it takes for neighbours are so far apart, and back again.
        block = struct.iter_unpack("<i", bytes(model.buffers[tensors[op.inputs[1]].buffer].data))
        return (1, 1), pair_of([*(size for (size,) in block), 1]), (1, 1)
    return (1, 1), (1, 1), (1, 1)
