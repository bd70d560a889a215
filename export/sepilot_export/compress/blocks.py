"""Whole blocks that a net can do without: what lies between two tensors of one size is taken out.

Cutting channels alone does not make a small net much faster: a vector unit takes as long for 8 channels as for 16, and
every operator has its price. `swift` with all widths halved (34 % of the MACs) takes 0.78 of its time (LiteRT float32
on AVX-512), without its six blocks (46 % of the MACs) 0.57.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sepilot_export.compress.channels import KERNELS, MERGES
from sepilot_train.inspect.keras_graph import graph_of

__all__ = ["Block", "bypass", "find_blocks"]


Block = tuple[str, ...]
"""Names of layers with one way in and one way out, of the same size, in the order of computation."""


def find_blocks(model: Any) -> tuple[Block, ...]:
    """The smallest blocks of a Functional model, none inside another, in the order of computation.

    A block begins and ends behind an activation or where branches meet, and has a kernel. A residual branch goes
    together with its addition.
    """
    calls = graph_of(model).calls
    place = {call: i for i, call in enumerate(calls)}
    parents = [[place[parent] for parent in call.parents] for call in calls]
    children = [[j for j, above in enumerate(parents) if i in above] for i in range(len(calls))]
    ends = [i for i, call in enumerate(calls) if _is_boundary(call.layer)]
    found = [
        inside
        for first in ends
        for last in ends
        if first < last
        and calls[first].outputs[0].shape == calls[last].outputs[0].shape
        and (inside := _between(first, last, parents, children))
        and any(calls[i].kind in KERNELS for i in inside)
    ]
    taken: set[int] = set()
    blocks = []
    for inside in sorted(found, key=len):
        if not taken.intersection(inside):
            taken.update(inside)
            blocks.append(inside)
    return tuple(tuple(calls[i].layer.name for i in inside) for inside in sorted(blocks))


def bypass(model: Any, blocks: Sequence[Block]) -> Any:
    """A new model without `blocks`: what went into each goes to what followed it; the other weights are kept."""
    import keras

    gone = {name for block in blocks for name in block}

    def clone(layer: Any) -> Any:
        return keras.layers.Identity() if layer.name in gone else type(layer).from_config(layer.get_config())

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        # Keras passes `mask` on to layers that take none. An identity is not called, so it leaves no operation behind.
        kwargs.pop("mask", None)
        if not isinstance(layer, keras.layers.Identity):
            return layer(*args, **kwargs)
        # A merge within a block is given the block's input from every side.
        return args[0][0] if isinstance(args[0], list | tuple) else args[0]

    smaller = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in smaller.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return smaller


def _is_boundary(layer: Any) -> bool:
    kind = type(layer).__name__
    if kind in ("Activation", "ELU", "LeakyReLU", "MaxPooling2D", "PReLU", "ReLU") or kind in MERGES:
        return True
    return kind in KERNELS and bool(layer.activation.__name__ != "linear")


def _between(
    first: int, last: int, parents: Sequence[Sequence[int]], children: Sequence[Sequence[int]]
) -> tuple[int, ...]:
    """The nodes behind `first` up to `last`, if nothing else goes in or out; else none."""
    if set(children[first]).intersection(children[last]):
        return ()  # a branch: what it is added to would be added to itself
    inside = [i for i in range(first + 1, last + 1) if _reaches(first, i, parents)]
    inside = [i for i in inside if _reaches(i, last, parents)]
    fed = all(p == first or p in inside for i in inside for p in parents[i])
    closed = all(c in inside for i in inside if i != last for c in children[i])
    return tuple(inside) if fed and closed and children[last] else ()


def _reaches(above: int, below: int, parents: Sequence[Sequence[int]]) -> bool:
    return above == below or any(p >= above and _reaches(above, p, parents) for p in parents[below])
