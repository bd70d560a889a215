"""Which operations of a model file belong to which layer of the Keras model.

Converters fuse, split and rename: a convolution with its bias and ReLU is one TFLite operation and two of ONNX, a mish
is five. A layer is what a person knows by name, and what is kept in float as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sepilot_export.convert.embed import tflite_model

__all__ = ["LayerNames", "Parts", "names_of", "onnx_layers", "tflite_layers"]

Parts = Mapping[str, tuple[str, ...]]
"""Layer to its parts of a file, in the order of computation: output tensors in TFLite, nodes in ONNX."""

LayerNames = Mapping[str, bool]
"""Layers of the deploy graph, each with whether it has weights."""

_FUSED = ("Clip", "Relu")
"""The quantizer treats them as the end of the convolution or dense layer before them."""


def names_of(deployed: Any) -> LayerNames:
    """The layers of a deploy graph."""
    return {layer.name: bool(layer.weights) for layer in deployed.layers}


def tflite_layers(content: bytes, layers: LayerNames, heads: Mapping[str, str]) -> Parts:
    """Output tensors of a float32 TFLite file by layer. `heads`: tensor of an output to the layer that makes it."""
    graph = tflite_model(content).subgraphs[0]
    found: dict[str, tuple[str, ...]] = {}
    for operator in graph.operators:
        names = [graph.tensors[i].name.decode() for i in operator.outputs]
        layer = next((heads[n] for n in names if n in heads), "") or _layer_in(names, layers) or _short(names[0])
        found[layer] = (*found.get(layer, ()), *names)
    return found


def onnx_layers(content: bytes, layers: LayerNames) -> Parts:
    """Nodes of a float32 ONNX file by layer."""
    import onnx

    model = onnx.load_model_from_string(content)
    constants = {t.name for t in model.graph.initializer}
    maker: dict[str, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    for node in model.graph.node:
        before = maker.get(node.input[0], "") if node.input else ""
        if node.op_type in _FUSED and layers.get(before):
            layer = before
        else:
            # A fused node may have lost its own name; its weights still have theirs.
            words = (node.name, *node.output, *(n for n in node.input if n in constants))
            layer = next(filter(None, (_layer_in([w], layers) for w in words)), "") or before or _short(node.name)
        maker.update(dict.fromkeys(node.output, layer))
        found[layer] = (*found.get(layer, ()), node.name)
    return found


def _layer_in(names: Iterable[str], layers: LayerNames) -> str:
    """The layer that a name speaks of, one with weights before one without; "" where it speaks of none."""
    found = [
        word
        for name in names
        for part in re.split(r"[/;:]", name)
        # Called a second time for the export, each layer's scope ends in _1.
        for word in (re.sub(r"_\d+$", "", part), part)
        if word in layers
    ]
    return next((word for word in found if layers[word]), found[0] if found else "")


def _short(name: str) -> str:
    return name.split(";", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1]
