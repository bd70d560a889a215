"""What int8 does to activations, as `scripts/bench-activations` measured it on nets that were not trained."""

from __future__ import annotations

from collections.abc import Mapping

from sepilot_train.inspect.keras_graph import Call, Graph

__all__ = ["activation_of", "activation_warnings"]

_FLOAT = "stays in float32 inside int8.tflite, which processors for int8 alone cannot run; {}use relu or relu6"
_DESTROYED = "does not survive int8.tflite: {} dB of the answers are left where relu has 18.5; use relu or relu6"

_FACTS: Mapping[str, str] = {
    "elu": _FLOAT.format(""),
    "gelu": "exact gelu does not convert to ONNX; use gelu with approximate=True",
    "hard-swish": "int8.tflite takes 2.8 times as long as with relu, as LiteRT has no fast kernel for it",
    "leaky": _FLOAT.format("nothing is lost; "),
    "mish": _DESTROYED.format("7.7"),
    "selu": _DESTROYED.format("2.0"),
    "softplus": _DESTROYED.format("-1.7"),
    "swish": "int8 changes the answers by a quarter more than with relu (16.6 against 18.5 dB left)",
}
"""What is worth a warning, by name."""

_LAYERS = {"ELU": "elu", "LeakyReLU": "leaky"}
_FUNCTIONS = {"silu": "swish", "hard_silu": "hard-swish", "leaky_relu": "leaky"}


def activation_of(call: Call) -> str:
    """The activation that a layer has or is, by the name that recipes have for it; "" for none or a plain one."""
    layer = call.layer
    if call.kind in _LAYERS:
        return _LAYERS[call.kind]
    if call.kind == "Multiply" and any(_is_hard_gate(parent) for parent in call.parents):
        return "hard-swish"
    name = getattr(getattr(layer, "activation", None), "__name__", "")
    return _FUNCTIONS.get(name, name)


def _is_hard_gate(call: Call) -> bool:
    """relu6(x + 3) / 6, as `models.blocks` puts it together."""
    (before,) = call.parents if len(call.parents) == 1 else (None,)
    return call.kind == "Rescaling" and before is not None and before.kind == "ReLU" and before.layer.max_value == 6


def activation_warnings(graph: Graph) -> list[str]:
    """One line for each activation that int8 or a converter takes badly, with the layers that have it."""
    found: dict[str, list[str]] = {}
    for call in graph.calls:
        if (name := activation_of(call)) in _FACTS:
            found.setdefault(name, []).append(call.name)
    return [f"{name} ({_listed(layers)}): {_FACTS[name]}" for name, layers in sorted(found.items())]


def _listed(layers: list[str]) -> str:
    return ", ".join(layers) if len(layers) < 4 else f"{layers[0]} and {len(layers) - 1} more layers"
