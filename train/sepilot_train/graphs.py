"""Nets as lists of `layers.Node`, read from a Keras model, a TFLite file or an ONNX file.

Multiply-accumulates count multiplications with weights: convolutions and dense layers. Batch normalization, activations
and pooling are not counted, as is usual; `inspect` warns where they cost time all the same.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepilot_runtime.caps import MODEL_BYTES
from sepilot_runtime.errors import ModelFileError
from sepilot_runtime.reading import read_regular
from sepilot_runtime.tflitefile import operator_macs
from sepilot_train.layers import PREPROCESSING, Node, Role, Size

__all__ = ["keras_nodes", "keras_warnings", "onnx_nodes", "tflite_nodes"]

_GLOBAL = {
    "AdditiveAttention", "Attention", "Dot", "Einsum", "GRU", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "LSTM",
    "Matmul", "MultiHeadAttention",
}  # fmt: skip
_POOLS = {"MaxPooling2D", "AveragePooling2D"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One use of a Keras layer.

    Attributes:
        name: of the layer, behind those of the models that it lies in; with a number where the layer is used again.
        inputs: names of the calls whose results it takes.
        taken, made: shapes without the batch, of its first input and of its result.
        again: the layer was used before.
    """

    layer: Any
    name: str
    inputs: tuple[str, ...]
    taken: tuple[int, ...]
    made: tuple[int, ...]
    again: bool

    @property
    def kind(self) -> str:
        return type(self.layer).__name__


def keras_nodes(model: Any) -> list[Node]:
    """The layers of a Keras 3 Functional or Sequential model in the order of computation.

    A layer that is applied several times is listed each time; its parameters count once. A model inside the model is
    listed layer by layer.

    Raises:
        ModelFileError: a model of another kind, or one whose sizes are not fixed.
    """
    return [_keras_node(call) for call in _calls(model)]


def _calls(model: Any) -> list[_Call]:
    calls: list[_Call] = []
    _list_calls(model, "", {}, calls)
    return calls


def _list_calls(model: Any, place: str, made: dict[int, str], calls: list[_Call]) -> None:
    """Put the calls inside `model` behind `calls`.

    Args:
        place: goes before the layers' names.
        made: which call made a tensor, by the tensor's id; for a model inside another it has those that are taken.
    """
    import keras

    graph = _graph_of(model)
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            layer = node.operation
            if all(id(t) in made for t in node.outputs):
                continue
            inputs = tuple(made[id(t)] for t in node.input_tensors)
            if isinstance(layer, keras.Model):
                inner = _graph_of(layer)
                inside = {id(t): name for t, name in zip(inner.inputs, inputs, strict=True)}
                _list_calls(layer, f"{place}{layer.name}/", inside, calls)
                made.update({id(t): inside[id(own)] for t, own in zip(node.outputs, inner.outputs, strict=True)})
                continue
            used = sum(call.layer is layer for call in calls)
            name = f"{place}{layer.name}"
            call = _Call(
                layer=layer,
                name=f"{name}#{used + 1}" if used else name,
                inputs=inputs,
                taken=_fixed(name, node.input_tensors[0].shape) if node.input_tensors else (),
                made=_fixed(name, node.outputs[0].shape),
                again=used > 0,
            )
            calls.append(call)
            made.update({id(t): call.name for t in node.outputs})


def _graph_of(model: Any) -> Any:
    """What knows the order of computation: the model itself, or what a Sequential model keeps inside."""
    graph = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise ModelFileError(
            f"{model.name}: a Functional or Sequential Keras model that knows its input's size expected, found "
            f"{type(model).__name__}"
        )
    return graph


def _fixed(name: str, shape: Sequence[int | None]) -> tuple[int, ...]:
    if None in shape[1:]:
        raise ModelFileError(f"{name}: of no fixed size {tuple(shape[1:])}: build the net for pictures of one size")
    return tuple(int(d) for d in shape[1:] if d is not None)


def _keras_node(call: _Call) -> Node:
    layer, kind = call.layer, call.kind
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
    elif kind in _GLOBAL or (kind in ("Flatten", "Reshape") and not _keeps_places(call.taken, call.made)):
        role = "global"
    return Node(
        name=call.name,
        kind=kind,
        role=role,
        inputs=call.inputs,
        output_shape=call.made,
        parameters=int(layer.count_params()) if not call.again and hasattr(layer, "count_params") else 0,
        macs=_keras_macs(call),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
    )


def _keras_macs(call: _Call) -> int:
    layer, kind, shape = call.layer, call.kind, call.made
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
        return call.taken[0] * call.taken[1] * math.prod(int(d) for d in layer.kernel.shape)
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
    calls = _calls(model)
    for call in sorted(calls, key=lambda c: c.name):
        layer = call.layer
        if call.kind == "BatchNormalization":
            reason = _unfoldable(call, calls)
            if reason:
                unfoldable.append(f"{call.name} ({reason})")
        activation = getattr(getattr(layer, "activation", None), "__name__", "")
        if activation in _DESTROYED_BY_INT8:
            found.append(
                f"{call.name}: {activation} does not survive int8 ({_DESTROYED_BY_INT8[activation]} error measured); "
                "use relu, relu6 or swish"
            )
        if activation == "gelu":
            found.append(f"{call.name}: exact gelu does not convert to ONNX; use gelu with approximate=True")
    if unfoldable:
        found.insert(
            0,
            f"batch normalization that cannot be folded: {', '.join(unfoldable)}; it stays as two operations per "
            "value, and int8 conversion must rewrite it. Put it before the activation",
        )
    return found + _starved_warning(model)


def _unfoldable(call: _Call, calls: Sequence[_Call]) -> str:
    (parent,) = (c for c in calls if c.name in call.inputs)
    if parent.kind not in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense", "Conv2DTranspose"):
        return f"it follows {parent.kind} {parent.name}"
    if parent.layer.activation.__name__ != "linear":
        return f"it follows the {parent.layer.activation.__name__} of {parent.name}"
    consumers = sum(parent.name in c.inputs for c in calls)
    return f"{parent.name} feeds {consumers} layers" if consumers > 1 else ""


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
            name=_text(graph.tensors[op.outputs[0]].name),
            kind=kind,
            role=_tflite_role(graph, op, kind),
            inputs=tuple(_text(graph.tensors[i].name) for i in op.inputs if i >= 0),
            output_shape=_tail(graph.tensors[op.outputs[0]]),
            parameters=sum(map(math.prod, held)),
            macs=macs,
            kernel=kernel,
            stride=stride,
            dilation=dilation,
        )
        nodes.append(node)
    return _behind_preprocessing(nodes)


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
    taken = [_tail(graph.tensors[i]) for i in op.inputs if i >= 0]
    made = _tail(graph.tensors[op.outputs[0]])
    if kind == "FULLY_CONNECTED":
        # It flattens a map by itself, unless its weights are for one place.
        return "pointwise" if taken[0][-1:] == taken[1][-1:] else "global"
    if kind in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        return "pointwise" if _keeps_picture(taken[0], made) else "global"
    if kind == "RESHAPE":
        return "pointwise" if _keeps_places(taken[0], made) else "global"
    return "global" if kind == "BATCH_MATMUL" else "pointwise"


def _tflite_window(model: Any, op: Any, kind: str) -> tuple[Size, Size, Size]:
    """Kernel, stride and dilation."""
    options, tensors = op.builtinOptions, model.subgraphs[0].tensors
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        kernel = _pair(tensors[op.inputs[1]].shape[1:3])
        return kernel, (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    if kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        return (options.filterHeight, options.filterWidth), (options.strideH, options.strideW), (1, 1)
    if kind in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"):
        # Around a dilated convolution: the pixels that it takes for neighbours are so far apart, and back again.
        block = struct.iter_unpack("<i", bytes(model.buffers[tensors[op.inputs[1]].buffer].data))
        return (1, 1), _pair([*(size for (size,) in block), 1]), (1, 1)
    return (1, 1), (1, 1), (1, 1)


def _behind_preprocessing(nodes: Sequence[Node]) -> list[Node]:
    """Fields begin at the picture that the preprocessing inside a file makes, and its numbers are no parameters."""
    inside = {n.name for n in nodes if n.name.startswith(PREPROCESSING)}
    frames = {name for n in nodes if n.name in inside for name in n.inputs}

    def placed(node: Node) -> Node:
        if node.name in inside | frames:
            return dataclasses.replace(node, role="preprocessing", parameters=0)
        return dataclasses.replace(node, role="input") if inside.intersection(node.inputs) else node

    return [placed(node) for node in nodes]


def _keeps_places(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether a reshape leaves every place's values together: it adds axes of one, or lines the places up."""
    if [d for d in before if d != 1] == [d for d in after if d != 1]:
        return True
    return before[-1:] == after[-1:] and math.prod(before) == math.prod(after)


def _keeps_picture(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether a reduction leaves rows and columns as they are, and works on channels alone."""
    return len(before) == len(after) == 3 and before[:2] == after[:2]


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
        Node(name=v.name, kind="Input", role="input", inputs=(), output_shape=_without_batch(shapes[v.name]))
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
        dataclasses.replace(n, output_shape=_without_batch(shapes[n.name])) if n.role == "input" else n
        for n in _behind_preprocessing(nodes)
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
        role, kernel = "window", _pair(attributes["kernel_shape"])
    elif op.op_type in ("Gemm", "MatMul") and weights:
        macs = math.prod(max(d, 1) for d in after[:-1]) * math.prod(weights[0])
    elif op.op_type in ("ReduceMean", "ReduceMax", "ReduceSum"):
        role = "pointwise" if _keeps_picture(_channels_last(before), shape) else "global"
    elif op.op_type in ("Flatten", "Reshape"):
        role = "pointwise" if before and _keeps_places(_without_batch(before), _without_batch(after)) else "global"
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
        stride=_pair(attributes.get("strides", [1, 1])),
        dilation=_pair(attributes.get("dilations", [1, 1])),
    )


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[2:], shape[1]) if len(shape) == 4 else _without_batch(shape)


def _tail(tensor: Any) -> tuple[int, ...]:
    return _without_batch(tuple(int(d) for d in tensor.shape))


def _without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the first axis where that is a batch: one picture, or any number (0 in ONNX)."""
    return shape[1:] if shape[:1] in ((0,), (1,)) else shape


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _pair(value: Any) -> Size:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
