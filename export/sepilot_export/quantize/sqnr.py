"""How much of each tensor survives int8: the signal-to-quantization-noise ratio, float32 against int8, layer by layer.

    SQNR = 10 log10( sum x^2 / sum (x - x_int8)^2 )   in dB, over all values of a tensor on some pictures

The noise is that of everything up to the tensor, as the picture runs through the whole int8 file; a layer that loses
much stands out by the step from the one before it. 40 dB is one part in a hundred, 20 dB one in ten; in nets whose int8
file loses nothing at the task, tensors have 23 to 40.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import onnx_file, tflite
from sepilot_export.convert.layer_names import Parts
from sepilot_export.convert.ranges import Activations
from sepilot_runtime.contract.contract import Contract

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["FRAMES", "Noise", "draw_noise", "layer_rows", "onnx_noise", "print_noise", "tflite_noise"]

FRAMES = 48
"""More change the ratio by less than a tenth of a decibel."""

HIGHEST_DB = 120.0
"""Of a tensor that is the same in both files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """One tensor. A layer may have several."""

    layer: str
    tensor: str
    sqnr_db: float


def tflite_noise(float32: bytes, int8: bytes, layers: Parts, pictures: NDArray[np.uint8]) -> list[Noise]:
    """Of all tensors that a float32 TFLite file and its int8 file share."""
    tensors = [(layer, name, name) for layer, names in layers.items() for name in names]
    return _noise(tflite.activations_of(float32), tflite.activations_of(int8), tensors, pictures)


def onnx_noise(
    float32: bytes, int8: bytes, layers: Parts, pictures: NDArray[np.uint8], contract: Contract
) -> list[Noise]:
    """Of all tensors that an int8 ONNX file quantizes. `float32`: the file of `onnx_file.prepare` that it came from."""
    import onnx

    outputs = {node.name: list(node.output) for node in onnx.load_model_from_string(float32).graph.node}
    heads = set(contract.tensors)
    tensors = [
        (layer, name, name if name in heads else f"{name}_DequantizeLinear_Output")
        for layer, nodes in layers.items()
        for node in nodes
        for name in outputs[node]
    ]
    before, after = (onnx_file.activations_of(content, contract) for content in (float32, int8))
    return _noise(before, after, tensors, pictures)


def _noise(
    before: Activations, after: Activations, tensors: Sequence[tuple[str, str, str]], pictures: NDArray[np.uint8]
) -> list[Noise]:
    signal, noise = ({name: 0.0 for _, name, _ in tensors} for _ in range(2))
    for picture in pictures:
        expected, found = before(picture), after(picture)
        for _, name, quantized in tensors:
            if name in expected and quantized in found:
                x = expected[name].astype(np.float64)
                signal[name] += float((x**2).sum())
                noise[name] += float(((x - found[quantized]) ** 2).sum())
    return [
        Noise(layer=layer, tensor=name, sqnr_db=round(_decibels(signal[name], noise[name]), 2))
        for layer, name, _ in tensors
        if signal[name] > 0
    ]


def _decibels(signal: float, noise: float) -> float:
    return min(HIGHEST_DB, 10 * float(np.log10(signal / noise))) if noise > 0 else HIGHEST_DB


def layer_rows(found: Mapping[str, Sequence[Noise]]) -> dict[str, dict[str, float]]:
    """Layer to its lowest ratio in dB by format, in the order of computation."""
    rows: dict[str, dict[str, float]] = {}
    for form, noises in found.items():
        for noise in noises:
            row = rows.setdefault(noise.layer, {})
            row[form] = min(row.get(form, HIGHEST_DB), noise.sqnr_db)
    return rows


def print_noise(
    found: Mapping[str, Sequence[Noise]],
    bits: Mapping[str, Mapping[str, float]],
    kept: Mapping[str, Sequence[str]],
    console: Console,
) -> None:
    """The table, a row for each layer.

    Args:
        bits: format to the bits of each layer's kernel.
        kept: format to the layers that its file has in float32.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", no_wrap=True)
    for form in found:
        table.add_column(f"{form} dB", justify="right")
        table.add_column("bits", justify="right")
    for layer, row in layer_rows(found).items():
        cells = [
            cell
            for form in found
            for cell in (
                f"{row[form]:.1f}{'*' if layer in kept.get(form, ()) else ''}" if form in row else "-",
                f"{bits[form][layer]:.1f}" if layer in bits[form] else "",
            )
        ]
        table.add_row(layer, *cells)
    console.print("signal to quantization noise of the plain int8 file, lowest of each layer's tensors")
    console.print(table)
    console.print(
        "bits: of the kernel, mean of its channels; below 8.0, steps were widened until two products fit into 16 bits, "
        "which processors without VNNI add them up in. Depthwise kernels need no such thing."
    )
    if any(kept.values()):
        console.print("* kept in float32")


def draw_noise(found: Mapping[str, Sequence[Noise]], kept: Mapping[str, Sequence[str]], path: Path) -> None:
    """A PNG with a line of layers from the input down to the output, one mark per format."""
    from sepilot_train.base import plots

    rows = layer_rows(found)
    fig = plots.figure(7.2, 1.4 + 0.21 * len(rows))
    ax = plots.axes(fig, "Signal to quantization noise by layer, plain int8", "dB, float32 against int8", "")
    places = np.arange(len(rows))
    styles = (("o", plots.ACCENT), ("D", plots.SECOND))
    for (form, _), (marker, colour) in zip(found.items(), styles, strict=False):
        values = np.array([row.get(form, np.nan) for row in rows.values()])
        shown = np.isfinite(values)
        style: dict[str, Any] = {"marker": marker, "markersize": 5, "linewidth": 1, "color": colour}
        ax.plot(values[shown], places[shown], label=form, fillstyle="full" if marker == "o" else "none", **style)
    in_float = {name for layers in kept.values() for name in layers}
    ax.set_yticks(places, [f"{name} (float32)" if name in in_float else name for name in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(min(0.0, ax.get_xlim()[0]), None)
    ax.legend(frameon=False, fontsize=9, loc="lower left")
    plots.save(fig, path)
