"""Nets as lists of `layers.Node`, read from a Keras model, a TFLite file or an ONNX file.

Multiply-accumulates count multiplications with weights: convolutions and dense layers. Batch normalization, activations
and pooling are not counted, as is usual; `inspect` warns where they cost time all the same.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepilot_runtime.errors import ModelFileError
from sepilot_train.layers import Node, Role, Size

__all__ = ["keras_nodes", "keras_warnings", "onnx_nodes", "tflite_nodes"]

_POINTWISE = {
    "Activation", "Add", "Average", "BatchNormalization", "Concatenate", "Dropout", "ELU", "LayerNormalization",
    "LeakyReLU", "Maximum", "Minimum", "Multiply", "PReLU", "ReLU", "Rescaling", "SpatialDropout2D", "Subtract",
    "ZeroPadding2D", "Cropping2D", "GaussianNoise", "UnitNormalization",
}  # fmt: skip
_GLOBAL = {"Dense", "Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Reshape", "Softmax"}
_POOLS = {"MaxPooling2D", "AveragePooling2D"}


def keras_nodes(model: Any) -> list[Node]:
    """The layers of a Keras 3 Functional model in the order of computation.

    A layer that is applied several times is listed each time; its parameters count once.
    """
    nodes: list[Node] = []
    names: dict[int, str] = {}
    counted: set[str] = set()
    by_depth = model._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            layer = node.operation
            again = layer.name in counted
            name = (
                f"{layer.name}#{sum(n.split('#')[0] == layer.name for n in names.values()) + 1}"
                if again
                else layer.name
            )
            names[id(node)] = name
            inputs = tuple(names[id(parent)] for parent in node.parent_nodes)
            nodes.append(_keras_node(layer, node, name, inputs, count_parameters=not again))
            counted.add(layer.name)
    return nodes


def _keras_node(layer: Any, node: Any, name: str, inputs: tuple[str, ...], *, count_parameters: bool) -> Node:
    kind = type(layer).__name__
    shape = tuple(int(d) for d in node.outputs[0].shape[1:])
    role: Role = "pointwise"
    kernel, stride, dilation = (1, 1), (1, 1), (1, 1)
    if kind == "InputLayer":
        role = "input"
    elif kind in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", *_POOLS):
        role = "window"
        kernel = _pair(layer.pool_size if kind in _POOLS else layer.kernel_size)
        stride = _pair(layer.strides)
        dilation = (1, 1) if kind in _POOLS else _pair(layer.dilation_rate)
    elif kind in ("UpSampling2D", "Conv2DTranspose"):
        role, stride = "upsample", _pair(layer.size if kind == "UpSampling2D" else layer.strides)
    elif kind in _GLOBAL:
        role = "global"
    return Node(
        name=name,
        kind=kind,
        role=role,
        inputs=inputs,
        output_shape=shape,
        parameters=int(layer.count_params()) if count_parameters and hasattr(layer, "count_params") else 0,
        macs=_keras_macs(layer, kind, node, shape),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
    )


def _keras_macs(layer: Any, kind: str, node: Any, shape: tuple[int, ...]) -> int:
    if kind in ("Conv2D", "DepthwiseConv2D"):
        # The kernel is (rows, columns, in / groups, out), a depthwise one (rows, columns, in, multiplier): in both
        # cases each of its weights is used once per output place.
        return shape[0] * shape[1] * math.prod(int(d) for d in layer.kernel.shape)
    if kind == "SeparableConv2D":
        weights = math.prod(int(d) for d in layer.depthwise_kernel.shape) + math.prod(
            int(d) for d in layer.pointwise_kernel.shape
        )
        return shape[0] * shape[1] * weights
    if kind == "Conv2DTranspose":
        source = node.input_tensors[0].shape
        return int(source[1]) * int(source[2]) * math.prod(int(d) for d in layer.kernel.shape)
    if kind == "Dense":
        places = math.prod(shape[:-1])
        return places * math.prod(int(d) for d in layer.kernel.shape)
    return 0


_DESTROYED_BY_INT8 = {"mish": "95 %", "softplus": "99 %", "selu": "120 %"}
"""Activation to relative error after TFLite's int8 post-training quantization, as measured on random nets."""


def keras_warnings(model: Any) -> list[str]:
    """What will cost latency or accuracy once the net is deployed, one line each."""
    found: list[str] = []
    unfoldable: list[str] = []
    nodes = [n for depth in model._nodes_by_depth.values() for n in depth]
    for node in sorted(nodes, key=lambda n: str(n.operation.name)):
        layer, kind = node.operation, type(node.operation).__name__
        if kind == "BatchNormalization":
            reason = _unfoldable(node, nodes)
            if reason:
                unfoldable.append(f"{layer.name} ({reason})")
        activation = getattr(getattr(layer, "activation", None), "__name__", "")
        if activation in _DESTROYED_BY_INT8:
            found.append(
                f"{layer.name}: {activation} does not survive int8 ({_DESTROYED_BY_INT8[activation]} error measured); "
                "use relu, relu6 or swish"
            )
        if activation == "gelu":
            found.append(f"{layer.name}: exact gelu does not convert to ONNX; use gelu with approximate=True")
    if unfoldable:
        found.insert(
            0,
            f"batch normalization that cannot be folded: {', '.join(unfoldable)}; it stays as two operations per "
            "value, and int8 conversion must rewrite it. Put it before the activation",
        )
    return found + _starved_warning(model)


def _unfoldable(node: Any, nodes: list[Any]) -> str:
    (parent,) = node.parent_nodes
    layer, kind = parent.operation, type(parent.operation).__name__
    if kind not in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense", "Conv2DTranspose"):
        return f"it follows {kind} {layer.name}"
    if layer.activation.__name__ != "linear":
        return f"it follows the {layer.activation.__name__} of {layer.name}"
    consumers = sum(parent in n.parent_nodes for n in nodes)
    return f"{layer.name} feeds {consumers} layers" if consumers > 1 else ""


def _starved_warning(model: Any) -> list[str]:
    """Full-resolution layers with few channels leave most vector lanes idle: the first block decides the latency."""
    nodes = keras_nodes(model)
    total = sum(n.macs for n in nodes)
    picture = next(n.output_shape for n in nodes if n.role == "input")
    full = [
        n
        for n in nodes
        if n.kind in ("DepthwiseConv2D", "SeparableConv2D")
        and n.output_shape[:2] == picture[:2]
        and n.output_shape[-1] < 16
    ]
    share = sum(n.macs for n in full) / total if total else 0.0
    if share < 0.1:
        return []
    warning = (
        f"{', '.join(n.name for n in full)}: {share:.0%} of all MACs are depthwise-separable at full resolution with "
        "fewer than 16 channels, where vector units run mostly empty; a 3x3 stride-2 convolution as the first layer is "
        "several times faster"
    )
    return [warning]


def tflite_nodes(path: Path) -> list[Node]:
    """The operators of a TFLite file, read without running it.

    Raises:
        ModelFileError: not a TFLite file, or not a whole one.
    """
    data = path.read_bytes()
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
    nodes = [
        Node(
            name=_text(graph.tensors[i].name),
            kind="INPUT",
            role="input",
            inputs=(),
            output_shape=_tail(graph.tensors[i]),
        )
        for i in graph.inputs
    ]
    constants = {
        i: tuple(int(d) for d in tensor.shape)
        for i, tensor in enumerate(graph.tensors)
        if model.buffers[tensor.buffer].data is not None
    }
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind in ("DEQUANTIZE", "DENSIFY") and op.inputs[0] in constants:
            # Weights that lie as float16, or without their zeros, and are unpacked when the file is loaded.
            constants[op.outputs[0]] = constants[op.inputs[0]]
            continue
        nodes.append(_tflite_node(graph, constants, op, kind))
    return nodes


def _tflite_node(graph: Any, constants: Mapping[int, tuple[int, ...]], op: Any, kind: str) -> Node:
    output = graph.tensors[op.outputs[0]]
    shape = _tail(output)
    held = [constants[i] for i in op.inputs if i in constants]
    weights = held[0] if held else ()
    role: Role = "pointwise"
    kernel, stride, dilation, macs = (1, 1), (1, 1), (1, 1), 0
    options = op.builtinOptions
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        role, kernel = "window", (weights[1], weights[2])
        stride, dilation = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
        macs = shape[0] * shape[1] * math.prod(weights)
    elif kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        role, kernel, stride = "window", (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
    elif kind == "FULLY_CONNECTED":
        role, macs = "global", math.prod(weights)
    elif kind in ("MEAN", "RESHAPE", "SUM", "REDUCE_MAX"):
        role = "global"
    return Node(
        name=_text(output.name),
        kind=kind,
        role=role,
        inputs=tuple(_text(graph.tensors[i].name) for i in op.inputs if i >= 0),
        output_shape=shape,
        parameters=0 if kind in ("MEAN", "RESHAPE", "PAD") else sum(map(math.prod, held)),
        macs=macs,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
    )


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
    nodes = [
        Node(name=v.name, kind="Input", role="input", inputs=(), output_shape=_channels_last(shapes[v.name]))
        for v in graph.input
        if v.name not in constants
    ]
    if len(nodes) == 1 and len(shapes[nodes[0].name]) == 4:
        # The input stays channels-last; tf2onnx transposes or reshapes it in the graph.
        nodes = [_replace_shape(nodes[0], shapes[nodes[0].name][1:])]
    for op in graph.node:
        if op.op_type in ("QuantizeLinear", "DequantizeLinear", "Constant", "Cast", "Identity"):
            source = alias.get(op.input[0], op.input[0]) if op.input else ""
            alias.update(dict.fromkeys(op.output, source))
            if source in constants:
                constants.update(dict.fromkeys(op.output, constants[source]))
            continue
        nodes.append(_onnx_node(op, constants, shapes, alias))
    return nodes


def _onnx_node(
    op: Any, constants: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]], alias: dict[str, str]
) -> Node:
    attributes = {a.name: list(a.ints) or a.i for a in op.attribute}
    shape = _channels_last(shapes.get(op.output[0], ()))
    weights = [constants[name] for name in op.input if name in constants]
    role: Role = "pointwise"
    kernel, macs = (1, 1), 0
    if op.op_type == "Conv":
        role, kernel = "window", (weights[0][2], weights[0][3])
        macs = shape[0] * shape[1] * math.prod(weights[0])
    elif op.op_type in ("MaxPool", "AveragePool"):
        role, kernel = "window", _pair(attributes["kernel_shape"])
    elif op.op_type in ("Gemm", "MatMul"):
        role, macs = "global", math.prod(weights[0])
    elif op.op_type in ("GlobalAveragePool", "ReduceMean", "Flatten", "Squeeze"):
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
        stride=_pair(attributes.get("strides", [1, 1])),
        dilation=_pair(attributes.get("dilations", [1, 1])),
    )


def _replace_shape(node: Node, shape: tuple[int, ...]) -> Node:
    return Node(name=node.name, kind=node.kind, role=node.role, inputs=node.inputs, output_shape=shape)


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[2:], shape[1]) if len(shape) == 4 else shape[1:]


def _tail(tensor: Any) -> tuple[int, ...]:
    return tuple(int(d) for d in tensor.shape[1:])


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _pair(value: Any) -> Size:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
