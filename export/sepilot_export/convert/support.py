"""Layers that a format is known to break, so that nobody learns it from a car."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sepilot_export.convert.failures import Failure
from sepilot_export.convert.formats import Format, format_named

__all__ = ["unsupported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    breaks: Callable[[Any], str]  # Layer to what is wrong with it, or "".
    formats: Callable[[Format], bool]
    why: str
    way_out: str
    keepable: bool = False  # Kept in float32 it does no harm.


def _activation(*names: str) -> Callable[[Any], str]:
    def found(layer: Any) -> str:
        name = getattr(getattr(layer, "activation", None), "__name__", "")
        return f"activation {name}" if name in names else ""

    return found


def _grouped(layer: Any) -> str:
    groups = getattr(layer, "groups", 1) if type(layer).__name__ == "Conv2D" else 1
    return f"{groups} groups" if groups > 1 else ""


def _resizing(layer: Any) -> str:
    if type(layer).__name__ != "Resizing":
        return ""
    if layer.antialias:
        return "antialias"
    return "interpolation area" if layer.interpolation == "area" else ""


_RULES = (
    # Measured on random nets: 95 to 120 % error after TFLite's int8 quantization.
    _Rule(
        breaks=_activation("mish", "softplus", "selu"),
        formats=lambda f: f.needs_calibration and f.suffix == "tflite",
        why="its values are destroyed by int8",
        way_out="keep it in float32 with --max-drop, or train with relu, relu6 or swish",
        keepable=True,
    ),
    _Rule(
        breaks=lambda layer: "its root mean square" if type(layer).__name__ == "LayerNormalization" else "",
        formats=lambda f: f.needs_calibration,
        why="int8 costs a quarter of its values",
        way_out="keep it in float32 with --max-drop, or train with batch normalization",
        keepable=True,
    ),
    _Rule(
        breaks=_activation("gelu"),
        formats=lambda f: f.suffix == "onnx",
        why="exact gelu has no ONNX operation (Erfc)",
        way_out="take a TFLite file, or train with relu or swish",
    ),
    _Rule(
        breaks=_grouped,
        formats=lambda f: f.suffix == "onnx",
        why="tf2onnx cannot convert grouped convolutions",
        way_out="take a TFLite file, or train with plain convolutions",
    ),
    _Rule(
        breaks=_resizing,
        formats=lambda f: True,
        why="TFLite has no such operation and ONNX computes another one",
        way_out="train with bilinear without antialias",
    ),
)


def unsupported(model: Any, formats: Sequence[Format], *, repaired: bool = False) -> list[Failure]:
    """Those of `formats` that break a layer of the model, or are made from one that does, each with the first layer.

    Args:
        repaired: layers that int8 breaks will be kept in float32.
    """
    rules = [rule for rule in _RULES if not (repaired and rule.keepable)]
    found: dict[str, Failure] = {}
    for layer in model.layers:
        for rule in rules:
            what = rule.breaks(layer)
            for form in formats if what else ():
                if rule.formats(form) or (form.made_from and rule.formats(format_named(form.made_from))):
                    reason = f"layer {layer.name} ({type(layer).__name__}, {what}): {rule.why}"
                    found.setdefault(form.name, Failure(format=form.name, reason=reason, way_out=rule.way_out))
    return [found[form.name] for form in formats if form.name in found]
