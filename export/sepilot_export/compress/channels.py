"""Which channels of a net are one and the same, what reads and makes them, and the net without some of them.

Every channel that a kernel makes gets a number. Batch norm, activations, pooling and depthwise convolutions hand the
numbers on; concatenation joins them, flattening repeats them for every place, and adding two tensors makes one channel
of two. Channels with one number live and die together (the dependency graph of Fang et al. 2023, arXiv 2301.12900, on
the level of single channels). The picture's and the outputs' are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_train.inspect.keras_graph import Call, Graph, graph_of

__all__ = ["KERNELS", "MERGES", "MIXING", "Group", "KernelChannels", "Mask", "Wiring", "remove", "wire"]

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

MIXING = ("Conv2D", "Dense", "SeparableConv2D")
"""Layers with a kernel from all channels of the input to new ones."""

KERNELS = (*MIXING, "DepthwiseConv2D")

MERGES = ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")

_PASSES_ON = {
    "Activation", "ActivityRegularization", "AlphaDropout", "AveragePooling2D", "Cropping2D", "Dropout", "ELU",
    "GaussianDropout", "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Identity", "LeakyReLU",
    "MaxPooling2D", "ReLU", "SpatialDropout2D", "UpSampling2D", "ZeroPadding2D",
}  # fmt: skip
_ACROSS_CHANNELS = {"glu", "log_softmax", "softmax", "sparsemax"}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KernelChannels:
    """The channels of a kernel of the net.

    Attributes:
        layer: name; a separable convolution has two kernels.
        kind: "pointwise", "convolution", "depthwise" or "dense".
        reads, makes: numbers of its input's and output's channels; of a depthwise kernel they are the same channels.
        uses: how often one picture uses each of its weights.
        window: weights between two channels, rows times columns.
    """

    layer: str
    kind: str
    reads: Numbers
    makes: Numbers
    uses: int
    window: int

    def weights(self, kept: Mask) -> int:
        """Values of the kernel when only the channels `kept` are left."""
        inputs = 1 if self.kind == "depthwise" else int(kept[self.reads].sum())
        return self.window * inputs * int(kept[self.makes].sum())


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Group:
    """Channels that are made by the same kernels, any of which may be cut."""

    producers: tuple[str, ...]
    channels: Numbers


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Wiring:
    """The channels of a net.

    Attributes:
        count: of numbers.
        reads, makes: by name of each layer with weights, the numbers of its input's and output's last axis.
        kernels: in the order of computation.
        groups: of channels that may be cut, in the same order.
        fixed: names of the layers whose channels have to stay, other than the outputs.
    """

    count: int
    reads: Mapping[str, Numbers]
    makes: Mapping[str, Numbers]
    kernels: tuple[KernelChannels, ...]
    groups: tuple[Group, ...]
    fixed: tuple[str, ...]

    def macs(self, kept: Mask) -> int:
        """Multiply-accumulates for one picture when only the channels `kept` (count,) are left."""
        return sum(kernel.uses * kernel.weights(kept) for kernel in self.kernels)


def wire(model: Any) -> Wiring:
    """The channels of a Functional Keras 3 model.

    Raises:
        RunError: a layer for which it is not known what cutting channels around it means.
    """
    tracer = _Tracer()
    graph = graph_of(model)
    for call in graph.calls:
        tracer.follow(call)
    return tracer.finish(graph)


def remove(model: Any, wiring: Wiring, kept: Mask) -> Any:
    """A new model of the channels `kept` (count,) of `model`: same layer names, input and outputs, sliced weights."""
    import keras

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        for key in ("filters", "units"):
            if key in config and layer.name in wiring.makes:
                config[key] = int(kept[wiring.makes[layer.name]].sum())
        return type(layer).from_config(config)

    smaller = keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        if layer.weights:
            reads, makes = kept[wiring.reads[layer.name]], kept[wiring.makes[layer.name]]
            smaller.get_layer(layer.name).set_weights(_sliced(layer, reads, makes))
    return smaller


def _sliced(layer: Any, reads: Mask, makes: Mask) -> list[NDArray[Any]]:
    weights = layer.get_weights()
    kind = type(layer).__name__
    if kind == "BatchNormalization":
        return [w[makes] for w in weights]
    if kind == "PReLU":
        return [w[..., makes] for w in weights]
    kernels, biases = weights[: 2 if kind == "SeparableConv2D" else 1], weights[1 + (kind == "SeparableConv2D") :]
    if kind in ("DepthwiseConv2D", "SeparableConv2D"):
        kernels[0] = kernels[0][:, :, reads]
        reads = np.repeat(reads, layer.depth_multiplier)
    if kind != "DepthwiseConv2D":
        kernels[-1] = kernels[-1][..., reads, :][..., makes]
    return [*kernels, *(b[makes] for b in biases)]


class _Tracer:
    """Follows the channels through the graph, and remembers which ones turned out to be the same."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._channels: dict[Call, Numbers] = {}
        self._reads: dict[str, Numbers] = {}
        self._makes: dict[str, Numbers] = {}
        self._fixed: dict[str, Numbers] = {}
        self._layers: dict[str, tuple[Any, tuple[int, ...]]] = {}

    def follow(self, call: Call) -> None:
        layer, kind = call.layer, call.kind
        inputs = [self._channels[parent] for parent in call.parents]
        shape = tuple(int(d or 0) for d in call.outputs[0].shape)
        if kind == "InputLayer":
            numbers = self._fixed[layer.name] = self._new(shape[-1])
        elif kind in MIXING:
            numbers = self._new(shape[-1])
        elif kind == "DepthwiseConv2D":
            numbers = np.repeat(inputs[0], layer.depth_multiplier)
        elif kind in _PASSES_ON or kind in ("BatchNormalization", "PReLU"):
            numbers = inputs[0]
        elif kind == "Concatenate":
            numbers = np.concatenate(inputs)
        elif kind == "Flatten":
            numbers = np.tile(inputs[0], shape[-1] // max(len(inputs[0]), 1))
        elif kind in MERGES and len({len(i) for i in inputs}) == 1:
            numbers = inputs[0]
            for other in inputs[1:]:
                self._join(numbers, other)
        else:
            raise _unsupported(layer, "it is not known which channels go where")
        self._require(layer, kind, shape)
        if getattr(getattr(layer, "activation", None), "__name__", "") in _ACROSS_CHANNELS:
            self._fixed[layer.name] = numbers
        self._channels[call] = numbers
        if layer.weights:
            if layer.name in self._layers:
                raise _unsupported(layer, "it is used more than once")
            self._layers[layer.name] = (layer, shape)
            self._reads[layer.name], self._makes[layer.name] = inputs[0], numbers

    def finish(self, graph: Graph) -> Wiring:
        roots = np.array([self._root(i) for i in range(len(self._parents))], np.int64)
        _, numbers = np.unique(roots, return_inverse=True)
        fixed = np.zeros(int(numbers.max()) + 1, bool)
        for tensor in (*self._fixed.values(), *(self._channels[call] for call in graph.outputs)):
            fixed[numbers[tensor]] = True
        reads = {name: numbers[value] for name, value in self._reads.items()}
        makes = {name: numbers[value] for name, value in self._makes.items()}
        of_outputs = {
            name for name, value in self._makes.items() if any(value is self._channels[c] for c in graph.outputs)
        }
        kernels = tuple(
            kernel for name, (layer, shape) in self._layers.items() for kernel in _kernels(layer, shape, reads, makes)
        )
        mixing = [k for k in kernels if k.kind != "depthwise"]
        return Wiring(
            count=len(fixed),
            reads=reads,
            makes=makes,
            kernels=kernels,
            groups=_groups(mixing, fixed),
            fixed=tuple(k.layer for k in mixing if fixed[k.makes].all() and k.layer not in of_outputs),
        )

    def _require(self, layer: Any, kind: str, shape: tuple[int, ...]) -> None:
        if getattr(layer, "data_format", None) == "channels_first":
            raise _unsupported(layer, "its channels come first")
        if getattr(layer, "groups", 1) != 1:
            raise _unsupported(layer, f"it has {layer.groups} groups")
        last = (-1, len(shape) - 1)
        if kind in ("BatchNormalization", "Concatenate") and layer.axis not in last:
            raise _unsupported(layer, f"it works on axis {layer.axis}, not on the channels")
        if kind == "PReLU" and len(shape) - 1 in (layer.shared_axes or ()):
            raise _unsupported(layer, "all channels share its slope")

    def _new(self, count: int) -> Numbers:
        first = len(self._parents)
        self._parents += range(first, first + count)
        return np.arange(first, first + count)

    def _join(self, one: Numbers, other: Numbers) -> None:
        for a, b in zip(one, other, strict=True):
            low, high = sorted((self._root(int(a)), self._root(int(b))))
            self._parents[high] = low

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            number = self._parents[number]
        return number


def _kernels(
    layer: Any, shape: tuple[int, ...], reads: Mapping[str, Numbers], makes: Mapping[str, Numbers]
) -> Iterator[KernelChannels]:
    """The kernels of a layer; none of a batch norm."""
    kind = type(layer).__name__
    source, result = reads[layer.name], makes[layer.name]
    places = math.prod(shape[1:-1])
    if kind in ("DepthwiseConv2D", "SeparableConv2D"):
        spread = np.repeat(source, layer.depth_multiplier)
        yield KernelChannels(
            layer=layer.name, kind="depthwise", reads=source, makes=spread, uses=places,
            window=math.prod(layer.kernel_size),
        )  # fmt: skip
        source = spread
    if kind in MIXING:
        window = math.prod(layer.kernel_size) if kind == "Conv2D" else 1
        name = "dense" if kind == "Dense" else "pointwise" if window == 1 else "convolution"
        yield KernelChannels(layer=layer.name, kind=name, reads=source, makes=result, uses=places, window=window)


def _groups(mixing: list[KernelChannels], fixed: Mask) -> tuple[Group, ...]:
    producers: dict[int, list[str]] = {}
    for kernel in mixing:
        for number in np.unique(kernel.makes):
            producers.setdefault(int(number), []).append(kernel.layer)
    members: dict[tuple[str, ...], list[int]] = {}
    for number, names in producers.items():
        if not fixed[number]:
            members.setdefault(tuple(names), []).append(number)
    return tuple(
        Group(producers=names, channels=np.array(sorted(numbers), np.int64)) for names, numbers in members.items()
    )


def _unsupported(layer: Any, reason: str) -> RunError:
    return RunError(
        f"{layer.name} ({type(layer).__name__}): slim cannot cut channels around it: {reason}; "
        "prune, cluster and quantize leave the channels as they are"
    )
