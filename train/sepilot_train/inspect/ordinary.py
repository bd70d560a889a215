"""What ordinary convolutions would take in the place of separable ones: parameters and MACs.

A separable convolution has an eighth of the MACs, but not an eighth of the time: its depthwise half does nine for each
number that it reads and writes, so that memory and calls decide, not arithmetic, the more so on small maps and with few
channels. In training it may even take longer, as nobody has made its gradients fast. Only a measurement tells
(`fit/side_by_side.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sepilot_train.inspect.keras import keras_nodes
from sepilot_train.inspect.keras_graph import Call, Graph, graph_of, run_through
from sepilot_train.inspect.table import layer_table

__all__ = ["Ordinary", "is_ordinary_convolution", "ordinary_in_place", "rebuilt"]

_BETWEEN = ("Activation", "BatchNormalization", "LeakyReLU", "ReLU")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ordinary:
    """A net, and the same with an ordinary convolution in place of each separable one.

    Attributes:
        separable: how many were replaced.
        net, twin: with the outputs in a list.
        parameters, macs: of the twin.
    """

    separable: int
    net: Any
    twin: Any
    parameters: int
    macs: int


def is_ordinary_convolution(layer: Any) -> bool:
    """Whether a layer mixes neighbouring pixels and channels at once; on a single channel as well."""
    kind = type(layer).__name__
    if "Conv" not in kind or kind.startswith(("Depthwise", "Separable")) or set(layer.kernel_size) == {1}:
        return False
    return getattr(layer, "groups", 1) == 1 or layer.kernel.shape[-2] > 1


def ordinary_in_place(net: Any) -> Ordinary | None:
    """The Keras `net` beside its twin with new weights; None where it has no separable convolution.

    Separable are Keras's own, and a depthwise and a 1x1 convolution next to each other in either order, or with a
    normalization and an activation between them, which then go too.

    Raises:
        ModelFileError: a net that is not Functional or Sequential, or whose sizes are not fixed.
    """
    replaced = _replacements(graph_of(net, inside=True))
    if not replaced:
        return None
    twin = rebuilt(net, replaced)
    table = layer_table(keras_nodes(twin))
    return Ordinary(
        separable=sum(layer is not None for layer in replaced.values()),
        net=rebuilt(net), twin=twin, parameters=table.parameters, macs=table.macs,
    )  # fmt: skip


def _replacements(graph: Graph) -> dict[int, Any]:
    """By a layer's id the ordinary convolution that takes its place, or None where it goes."""
    made: dict[int, Any] = {
        id(call.layer): _ordinary(call.layer, call.layer) for call in graph.calls if call.kind == "SeparableConv2D"
    }
    # Those that touch come first: a pair through a normalization must not take half of one.
    for chain_of in (_touching, _apart):
        for call in graph.calls:
            if call.kind != "DepthwiseConv2D" or id(call.layer) in made:
                continue
            chain = chain_of(graph, call)
            if not chain or any(id(other.layer) in made for other in chain):
                continue
            *others, last = chain
            made |= {id(other.layer): None for other in others}
            made[id(last.layer)] = _ordinary(call.layer, last.layer)
    return made


def _touching(graph: Graph, call: Call) -> list[Call]:
    """The depthwise `call` and the 1x1 convolution right behind or before it, in their order; empty without one."""
    (before,), after = call.parents, _only_consumer(graph, call)
    if after and _is_pointwise(after) and _is_linear(call):
        return [call, after]
    if _is_pointwise(before) and _is_linear(before) and _only_consumer(graph, before) is call:
        return [before, call]
    return []


def _apart(graph: Graph, call: Call) -> list[Call]:
    """The depthwise `call`, what works on single numbers behind it, and then a 1x1 convolution; empty without one."""
    chain = [call]
    while (after := _only_consumer(graph, chain[-1])) and after.kind in _BETWEEN:
        chain.append(after)
    return [*chain, after] if after and _is_pointwise(after) else []


def _only_consumer(graph: Graph, call: Call) -> Call | None:
    consumers = graph.consumers(call)
    return consumers[0] if len(consumers) == 1 and call not in graph.outputs else None


def _is_pointwise(call: Call) -> bool:
    return call.kind == "Conv2D" and set(call.layer.kernel_size) == set(call.layer.strides) == {1}


def _is_linear(call: Call) -> bool:
    return bool(call.layer.activation.__name__ == "linear")


def _ordinary(window: Any, last: Any) -> Any:
    """An ordinary convolution with the window of one layer and the outputs of another, which is the later one."""
    import keras

    # A depthwise kernel is (rows, columns, in, multiplier).
    filters = getattr(last, "filters", None) or math.prod(last.kernel.shape[-2:])
    return keras.layers.Conv2D(
        filters, window.kernel_size, strides=window.strides, padding=window.padding, data_format=window.data_format,
        dilation_rate=window.dilation_rate, use_bias=last.use_bias, activation=last.activation, name=last.name,
    )  # fmt: skip


def rebuilt(net: Any, replaced: Mapping[int, Any] = MappingProxyType({}), *, batch: int | None = None) -> Any:
    """The Keras `net`, with its outputs in a list, sharing its layers but for those that are replaced.

    Args:
        replaced: by a layer's id another one in its place, or None where it goes.
        batch: pictures at a time; None for any number.
    """
    import keras

    def call(layer: Any) -> Callable[..., Any]:
        if isinstance(layer, keras.Model):
            return lambda *inputs, **_: run_through(layer, keras.tree.flatten(inputs), call)
        found = replaced.get(id(layer), layer)
        return found if found is not None else lambda x, **_: x

    inputs = [keras.Input(batch_shape=(batch, *t.shape[1:]), dtype=t.dtype, name=t.name) for t in net.inputs]
    return keras.Model(inputs, keras.tree.flatten(run_through(net, inputs, call)), name=net.name)
