"""Nets as lists of `layers.Node`, read from a Keras model, a TFLite file or an ONNX file.

Multiply-accumulates count multiplications with weights: convolutions and dense layers. Batch normalization, activations
and pooling are not counted, as is usual; `inspect` warns where they cost time all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sepilot_runtime.base.errors import ModelFileError
from sepilot_train.inspect.activations import activation_warnings
from sepilot_train.inspect.keras_graph import Call, graph_of
from sepilot_train.inspect.shapes import keeps_places, pair_of
from sepilot_train.inspect.table import Node, Role

__all__ = ["keras_nodes", "keras_warnings"]

_GLOBAL = {
    "AdditiveAttention", "Attention", "Dot", "Einsum", "GRU", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "LSTM",
    "Matmul", "MultiHeadAttention",
}  # fmt: skip
_POOLS = {"MaxPooling2D", "AveragePooling2D"}
_FOLDED_INTO = ("Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D", "SeparableConv2D")


def keras_nodes(model: Any) -> list[Node]:
    """The layers of a Keras 3 Functional or Sequential model in the order of computation.

    A layer that is applied several times is listed each time; its parameters count once. A model inside the model is
    listed layer by layer.

    Raises:
        ModelFileError: a model of another kind, or one whose sizes are not fixed.
    """
    return [_keras_node(call) for call in graph_of(model, inside=True).calls]


def _fixed(name: str, shape: Sequence[int | None]) -> tuple[int, ...]:
    if None in shape[1:]:
        raise ModelFileError(f"{name}: of no fixed size {tuple(shape[1:])}: build the net for pictures of one size")
    return tuple(int(d) for d in shape[1:] if d is not None)


def _keras_node(call: Call) -> Node:
    layer, kind, made = call.layer, call.kind, _fixed(call.name, call.outputs[0].shape)
    taken = _fixed(call.name, call.inputs[0].shape) if call.inputs else ()
    role: Role = "pointwise"
    kernel, stride, dilation = (1, 1), (1, 1), (1, 1)
    if kind == "InputLayer":
        role = "input"
    elif kind in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", *_POOLS):
        role = "window"
        kernel = pair_of(layer.pool_size if kind in _POOLS else layer.kernel_size)
        stride = pair_of(layer.strides)
        dilation = (1, 1) if kind in _POOLS else pair_of(layer.dilation_rate)
    elif kind in ("UpSampling2D", "Conv2DTranspose"):
        role, stride = "upsample", pair_of(layer.size if kind == "UpSampling2D" else layer.strides)
    elif kind in _GLOBAL or (kind in ("Flatten", "Reshape") and not keeps_places(taken, made)):
        role = "global"
    return Node(
        name=call.name,
        kind=kind,
        role=role,
        inputs=tuple(parent.name for parent in call.parents),
        output_shape=made,
        parameters=int(layer.count_params()) if not call.again and hasattr(layer, "count_params") else 0,
        macs=_keras_macs(layer, taken, made),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
    )


def _keras_macs(layer: Any, taken: tuple[int, ...], shape: tuple[int, ...]) -> int:
    kind = type(layer).__name__
    if kind in ("Conv2D", "DepthwiseConv2D"):
        # The kernel is (rows, columns, in / groups, out), a depthwise one (rows, columns, in, multiplier): in both
        # cases each of its weights is used once per output place.
        return shape[0] * shape[1] * _size(layer.kernel)
    if kind == "SeparableConv2D":
        weights = _size(layer.depthwise_kernel) + _size(layer.pointwise_kernel)
        return shape[0] * shape[1] * weights
    if kind == "Conv2DTranspose":
        return taken[0] * taken[1] * _size(layer.kernel)
    if kind == "Dense":
        return math.prod(shape[:-1]) * _size(layer.kernel)
    return 0


def _size(kernel: Any) -> int:
    return math.prod(int(d) for d in kernel.shape)


def keras_warnings(model: Any) -> list[str]:
    """What will cost latency or accuracy once the net is deployed, one line each."""
    unfoldable: list[str] = []
    graph = graph_of(model, inside=True)
    found = activation_warnings(graph)
    for call in sorted(graph.calls, key=lambda c: c.name):
        if call.kind == "BatchNormalization" and (reason := graph.reason_apart(call, _FOLDED_INTO)):
            unfoldable.append(f"{call.name} ({reason})")
    if unfoldable:
        found.insert(
            0,
            f"batch normalization that cannot be folded: {', '.join(unfoldable)}; it stays as two operations per "
            "value, and int8 conversion must rewrite it. Put it before the activation",
        )
    return found + _starved_warning(model)


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
