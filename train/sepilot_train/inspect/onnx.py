"""The nodes of an ONNX file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from sepilot_runtime.base.errors import ModelFileError
from sepilot_train.inspect.shapes import behind_preprocessing, keeps_picture, keeps_places, pair_of, without_batch
from sepilot_train.inspect.table import Node, Role

__all__ = ["onnx_nodes"]


def onnx_nodes(path: Path) -> list[Node]:
    """The operators of an ONNX file, shapes inferred; constants, quantize and dequantize operators are left out.

    Raises:
        ModelFileError: not an ONNX file, an empty one, or one whose operators make no sense.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    except DecodeError as e:
        raise ModelFileError(f"{path}: an ONNX file expected, found something else") from e
    if not graph.node:
        # To protobuf an empty file is a whole message, of which every field is left out.
        raise ModelFileError(f"{path}: an ONNX file with operators expected, found none")
    try:
        return _onnx_nodes(graph)
    except (LookupError, TypeError, ValueError) as e:
        raise ModelFileError(f"{path}: damaged, or not a net for pictures: {e}") from e


def _onnx_nodes(graph: Any) -> list[Node]:
    constants = {t.name: tuple(t.dims) for t in graph.initializer}
    shapes = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in (*graph.value_info, *graph.input, *graph.output)
    }
    alias: dict[str, str] = {}
    # The input stays channels-last; tf2onnx transposes or reshapes it in the graph.
    nodes = [
        Node(name=v.name, kind="Input", role="input", inputs=(), output_shape=without_batch(shapes[v.name]))
        for v in graph.input
        if v.name not in constants
    ]
    for op in graph.node:
        if op.op_type in ("QuantizeLinear", "DequantizeLinear", "Constant", "Cast", "Identity"):
            source = alias.get(op.input[0], op.input[0]) if op.input else ""
            alias.update(dict.fromkeys(op.output, source))
            if source in constants:
                constants.update(dict.fromkeys(op.output, constants[source]))
            continue
        nodes.append(_onnx_node(op, constants, shapes, alias))
    return [
        dataclasses.replace(n, output_shape=without_batch(shapes[n.name])) if n.role == "input" else n
        for n in behind_preprocessing(nodes)
    ]


def _onnx_node(
    op: Any, constants: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]], alias: dict[str, str]
) -> Node:
    attributes = {a.name: list(a.ints) or a.i for a in op.attribute}
    shape = _channels_last(shapes.get(op.output[0], ()))
    weights = [constants[name] for name in op.input if name in constants]
    role: Role = "pointwise"
    kernel, macs = (1, 1), 0
    before, after = shapes.get(alias.get(op.input[0], op.input[0]), ()), shapes.get(op.output[0], ())
    if op.op_type == "Conv":
        role, kernel = "window", (weights[0][2], weights[0][3])
        macs = shape[0] * shape[1] * math.prod(weights[0])
    elif op.op_type in ("MaxPool", "AveragePool"):
        role, kernel = "window", pair_of(attributes["kernel_shape"])
    elif op.op_type in ("Gemm", "MatMul") and weights:
        macs = math.prod(max(d, 1) for d in after[:-1]) * math.prod(weights[0])
    elif op.op_type in ("ReduceMean", "ReduceMax", "ReduceSum"):
        role = "pointwise" if keeps_picture(_channels_last(before), shape) else "global"
    elif op.op_type in ("Flatten", "Reshape"):
        role = "pointwise" if before and keeps_places(without_batch(before), without_batch(after)) else "global"
    elif op.op_type in ("GlobalAveragePool", "GlobalMaxPool", "MatMul"):
        role = "global"
    weighted = op.op_type in ("Conv", "Gemm", "MatMul", "Add", "Mul", "PRelu", "BatchNormalization")
    return Node(
        name=op.output[0],
        kind=op.op_type,
        role=role,
        inputs=tuple(alias.get(name, name) for name in op.input),
        output_shape=shape,
        parameters=sum(math.prod(w) for w in weights) if weighted else 0,
        macs=macs,
        kernel=kernel,
        stride=pair_of(attributes.get("strides", [1, 1])),
        dilation=pair_of(attributes.get("dilations", [1, 1])),
    )


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[2:], shape[1]) if len(shape) == 4 else without_batch(shape)
