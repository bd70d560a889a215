"""The kernels of a Keras model: what pruning, clustering and quantization work on, and the notes about each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.compress.recipe import Cluster, Prune
from sepilot_export.record.compressions import LayerNote
from sepilot_runtime.base.errors import RunError

__all__ = ["Kernel", "dense_reason", "joined", "kernels_of", "note", "own_values_reason", "require_names"]


PRUNED = 0.05
"""A kernel with more than this share of zeros was pruned; training alone makes hardly any."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Kernel:
    """One kernel.

    Attributes:
        layer: name in the Keras model. A SeparableConv2D has two kernels.
        bridged: name of the layer that holds it in tf_keras, where that layer is two.
        kind: "pointwise" (1x1), "convolution", "depthwise" or "dense".
        values: input channels stand last but one.
    """

    layer: str
    bridged: str
    kind: str
    values: NDArray[np.float32]

    @property
    def sparsity(self) -> float:
        return float((self.values == 0).mean())

    @property
    def is_pruned(self) -> bool:
        return self.sparsity > PRUNED

    @property
    def is_clustered(self) -> bool:
        """Whether the weights that are left share their values."""
        left = self.values[self.values != 0]
        return self.kind != "depthwise" and 1 < len(np.unique(left)) <= min(256, left.size // 4)


def kernels_of(model: Any) -> list[Kernel]:
    """All kernels of a Keras 3 model, in the order of computation."""
    found = []
    for layer in model.layers:
        kind, name = type(layer).__name__, layer.name
        weights = layer.get_weights()
        if kind == "SeparableConv2D":
            found.append(Kernel(layer=name, bridged=f"{name}_depthwise", kind="depthwise", values=weights[0]))
            found.append(Kernel(layer=name, bridged=f"{name}_pointwise", kind="pointwise", values=weights[1]))
        elif kind in ("Conv2D", "Conv2DTranspose", "DepthwiseConv2D", "Dense"):
            found.append(Kernel(layer=name, bridged=name, kind=_kind(kind, weights[0]), values=weights[0]))
    return found


def _kind(layer_kind: str, values: NDArray[np.float32]) -> str:
    if layer_kind != "Conv2D":
        return {"Dense": "dense", "DepthwiseConv2D": "depthwise"}.get(layer_kind, "convolution")
    return "pointwise" if values.shape[:2] == (1, 1) else "convolution"


def dense_reason(kernel: Kernel, settings: Prune) -> str:
    """Why a kernel is not pruned; "" where it is."""
    if kernel.layer in settings.skip:
        return "in skip"
    if kernel.kind not in settings.kinds:
        return "not in kinds"
    if kernel.values.size < settings.min_weights:
        return f"{kernel.values.size} weights, min_weights is {settings.min_weights}"
    if settings.pattern == "2:4" and (kernel.kind == "depthwise" or kernel.values.shape[-2] % 4):
        channels = 1 if kernel.kind == "depthwise" else kernel.values.shape[-2]
        return f"{channels} input channel{'s' if channels > 1 else ''}"
    return ""


def own_values_reason(kernel: Kernel, settings: Cluster) -> str:
    """Why a kernel is not clustered; "" where it is."""
    if kernel.layer in settings.skip:
        return "in skip"
    if kernel.kind == "depthwise":
        return "depthwise"
    if kernel.values.size <= settings.clusters:
        return f"{kernel.values.size} weights"
    return ""


def note(kernel: Kernel, action: str) -> LayerNote:
    """What was done to a kernel of the finished model; nothing here changes its size."""
    size = int(kernel.values.size)
    return LayerNote(
        layer=kernel.layer, kind=kernel.kind, action=action, weights_before=size, weights_after=size,
        sparsity=round(kernel.sparsity, 4),
    )  # fmt: skip


def joined(notes: Iterable[LayerNote]) -> tuple[LayerNote, ...]:
    """One note per kernel from those of several steps: all actions, the first size before, the last one after."""
    found: dict[tuple[str, str], LayerNote] = {}
    for entry in notes:
        key = entry.layer, entry.kind
        if key in found:
            first = found[key]
            actions = f"{first.action}; {entry.action}"
            entry = dataclasses.replace(entry, action=actions, weights_before=first.weights_before)
        found[key] = entry
    return tuple(found.values())


def require_names(model: Any, names: Iterable[str], key: str) -> None:
    """Raise RunError unless each name is that of a layer with a kernel."""
    known = list(dict.fromkeys(kernel.layer for kernel in kernels_of(model)))
    for name in names:
        if name not in known:
            raise RunError(f"{key}: no layer {name!r} with a kernel; there are {', '.join(known)}")
