"""Channel equalization: the same function with weights and activations that int8 resolves better.

An int8 activation has one scale for all its channels, a weight kernel one for each output channel. Where one channel
of a net reaches 17 and its neighbour 0.5, the neighbour keeps 8 of 256 steps. But a channel may be multiplied by `k` in
the layer that makes it, and divided by `k` in the layer that takes it; a ReLU or a pooling in between does not mind.
(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721.)

A depthwise convolution takes any factor for free, as its weights have a scale per channel. In front of a 1x1 or dense
layer the factor is a bargain: what the activation gains, that layer's weights lose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.ranges import as_input
from sepilot_train.inspect.keras_graph import Call, graph_of

__all__ = ["equalize"]

_SOURCES = ("Conv2D", "DepthwiseConv2D", "Dense")
_TRANSPARENT = ("AveragePooling2D", "GlobalAveragePooling2D", "MaxPooling2D", "ReLU", "ZeroPadding2D")

LARGEST_FACTOR = 32.0
"""A channel that hardly ever speaks says nothing about its range either."""

BARGAIN = 0.7
"""How much of the difference between channels a 1x1 or dense layer takes over. On nets trained on a real and on
simulated drives 0.5 to 0.85 lowered the int8 error by 20 to 30 %, 1 by less: there the weights suffer."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Pair:
    """`source` makes channels that only `sink` takes; `seen` is the tensor in between that gets quantized."""

    source: Any
    seen: Any
    sink: Any


def equalize(deployed: Any, pictures: NDArray[np.uint8], *, into_dense: bool = True) -> int:
    """Rescale the channels of a deploy graph in place, by what they reach on pictures (n, h, w, c).

    Args:
        into_dense: also channels that a dense layer takes, whose weights must have a scale for each output then.

    Returns:
        How many tensors were equalized.
    """
    pairs = [pair for pair in _pairs(deployed) if into_dense or type(pair.sink).__name__ != "Dense"]
    if not pairs:
        return 0
    for pair, reach in zip(pairs, _reach(deployed, pairs, pictures), strict=True):
        _rescale(pair, _factors(pair, reach))
    return len(pairs)


def _pairs(deployed: Any) -> Iterator[_Pair]:
    graph = graph_of(deployed)

    def follower(call: Call) -> Call | None:
        found = graph.consumers(call)
        return found[0] if len(found) == 1 and graph.uses(found[0].layer) == 1 else None

    # From the outputs back: a layer's weights say what its input is worth once its own output was rescaled.
    for call in reversed(graph.calls):
        layer = call.layer
        if call.kind not in _SOURCES or graph.uses(layer) > 1 or layer.activation.__name__ not in ("linear", "relu"):
            continue
        seen, after = call, follower(call)
        while after is not None and _is_transparent(after.layer):
            seen = after if after.kind == "ReLU" else seen
            after = follower(after)
        if after is not None and _takes_channels(after.layer):
            yield _Pair(source=layer, seen=seen.outputs[0], sink=after.layer)


def _is_transparent(layer: Any) -> bool:
    if type(layer).__name__ == "ReLU":
        return bool(layer.max_value is None and not layer.negative_slope and not layer.threshold)
    return type(layer).__name__ in _TRANSPARENT


def _takes_channels(layer: Any) -> bool:
    kind = type(layer).__name__
    return (
        kind == "Dense"
        or (kind == "Conv2D" and layer.groups == 1)
        or (kind == "DepthwiseConv2D" and layer.depth_multiplier == 1)
    )


def _reach(deployed: Any, pairs: list[_Pair], pictures: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Largest absolute value of each channel, per pair."""
    import keras
    import tensorflow as tf

    probe = keras.Model(deployed.inputs, [pair.seen for pair in pairs])
    # Compiled once, a picture takes a millisecond instead of thirty.

    def fed(image: Any) -> list[Any]:
        # What goes beside the picture comes after all that is rescaled for int8.
        return [image if len(t.shape) == 4 else tf.zeros((1, *t.shape[1:])) for t in deployed.inputs]

    values_of = tf.function(lambda image: probe(fed(image), training=False))
    reach = [np.zeros(pair.seen.shape[-1]) for pair in pairs]
    for picture in pictures:
        values = values_of(as_input(picture))
        for i, value in enumerate(values):
            channels = np.abs(keras.ops.convert_to_numpy(value)).reshape(-1, len(reach[i]))
            np.maximum(reach[i], channels.max(axis=0), out=reach[i])
    return reach


def _factors(pair: _Pair, reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each channel is multiplied by; 1 in the geometric mean where it costs the sink something."""
    silent = reach <= 0
    reach = np.where(silent, 1.0, reach)
    if type(pair.sink).__name__ == "DepthwiseConv2D":
        factors = reach.max() / reach
    else:
        kernel = np.abs(pair.sink.get_weights()[0])
        weight = kernel.max(axis=tuple(i for i in range(kernel.ndim) if i != kernel.ndim - 2))
        factors = np.maximum(weight, 1e-12) ** (1 - BARGAIN) / reach**BARGAIN
        factors /= np.exp(np.log(factors[~silent]).mean()) if (~silent).any() else 1.0
    return np.where(silent, 1.0, np.clip(factors, 1 / LARGEST_FACTOR, LARGEST_FACTOR))


def _rescale(pair: _Pair, factors: NDArray[np.float64]) -> None:
    kernel, *bias = pair.source.get_weights()
    # Output channels come last, but for a depthwise kernel (rows, columns, channels, 1).
    spread = factors[:, None] if type(pair.source).__name__ == "DepthwiseConv2D" else factors
    pair.source.set_weights([kernel * spread, *(b * factors for b in bias)])
    kernel, *bias = pair.sink.get_weights()
    pair.sink.set_weights([kernel / factors[:, None], *bias])
