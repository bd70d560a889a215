"""Layers that a format is known to break, so that nobody learns it from a car."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sepilot_export.formats import Format
from sepilot_runtime.errors import RunError

__all__ = ["require_supported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    breaks: Callable[[Any], str]  # Layer to what is wrong with it, or "".
    formats: Callable[[Format], bool]
    remedy: str
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
        remedy="its values are destroyed by int8; keep it in float32 with --max-drop, use relu, relu6 or swish",
        keepable=True,
    ),
    _Rule(
        breaks=lambda layer: "its root mean square" if type(layer).__name__ == "LayerNormalization" else "",
        formats=lambda f: f.needs_calibration,
        remedy="int8 costs a quarter of its values; keep it in float32 with --max-drop, use batch normalization",
        keepable=True,
    ),
    _Rule(
        breaks=_activation("gelu"),
        formats=lambda f: f.suffix == "onnx",
        remedy="exact gelu has no ONNX operation (Erfc); use relu or swish",
    ),
    _Rule(breaks=_grouped, formats=lambda f: f.suffix == "onnx", remedy="tf2onnx cannot convert grouped convolutions"),
    _Rule(
        breaks=_resizing,
        formats=lambda f: True,
        remedy="TFLite has no such operation and ONNX computes another one; use bilinear without antialias",
    ),
)


def require_supported(model: Any, formats: Sequence[Format], *, repaired: bool = False) -> None:
    """Refuse a model with a layer that one of the formats breaks.

    Args:
        repaired: layers that int8 breaks will be kept in float32.

    Raises:
        RunError: names the layer, the format and the way out.
    """
    for layer in model.layers:
        for rule in _RULES:
            if repaired and rule.keepable:
                continue
            what = rule.breaks(layer)
            broken = [f.name for f in formats if what and rule.formats(f)]
            if broken:
                raise RunError(
                    f"layer {layer.name} ({type(layer).__name__}, {what}): {rule.remedy}, "
                    f"or leave {', '.join(broken)} out of --formats"
                )
