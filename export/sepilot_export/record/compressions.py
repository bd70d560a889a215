"""compression.json of a compressed run: what was done to each kernel, and the figures before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepilot_runtime.base.bootstrap import Interval
from sepilot_runtime.base.documents import read_document
from sepilot_runtime.base.errors import RunError

__all__ = ["COMPRESSION_NAME", "CompressedOutput", "CompressionRecord", "Evaluation", "LayerNote", "read_compression"]

COMPRESSION_NAME = "compression.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One output of a net, or of a file, on the held-out frames.

    Attributes:
        output: name; "" in what was compressed before there were several.
        r2: None where the labels do not vary.
        mae_increase: against the net that it was made from, paired frame by frame.
        parameters, macs, sparsity: of a net; `sparsity` is the share of zeros in kernels.
    """

    name: str
    output: str = ""
    r2: float | None
    mae: float
    mae_increase: Interval | None
    parameters: int | None = None
    macs: int | None = None
    sparsity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedOutput:
    """One output: the error of the answer that costs nothing, and how far the int8 file is from its float net at most.

    Both in output values; without an int8 file there is no such distance.
    """

    constant_mae: float
    max_deviation: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNote:
    """What was done to one kernel.

    Attributes:
        layer: name in the Keras model.
        kind: "pointwise", "convolution", "depthwise" or "dense".
        action: in words for the table: "50 % zeros", "dense: too small", "96 -> 40 channels".
        weights_before, weights_after: values of the kernel.
        sparsity: share of zeros afterwards.
    """

    layer: str
    kind: str
    action: str
    weights_before: int
    weights_after: int
    sparsity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionRecord:
    """compression.json. What is asked of a run that another sepilot compressed is its parent and its command.

    Attributes:
        parent: the run that it was made from; `teachers`, those that a distillation asked.
        recipes: the compressions with what their sections say.
        constant_mae, max_deviation: of the first output; `outputs`, of each by its name, nothing in older ones.
        figures: before, after, and of the int8 file where there is one, each with a row for every output.
    """

    version: int = 1
    name: str = ""
    summary: str = ""
    parent: str = ""
    parent_model_sha256: str = ""
    teachers: tuple[str, ...] = ()
    command: str = ""
    sections: tuple[str, ...] = ()
    recipes: tuple[Mapping[str, Any], ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    constant_mae: float | None = None
    max_deviation: float | None = None
    outputs: Mapping[str, CompressedOutput] = field(default_factory=dict)
    figures: tuple[Evaluation, ...] = ()
    layers: tuple[LayerNote, ...] = ()
    warnings: tuple[str, ...] = ()


def read_compression(run: Path) -> CompressionRecord | None:
    """What a run says about its compression; None where it was none. Raises RunError."""
    path = run / COMPRESSION_NAME
    return read_document(CompressionRecord, path, RunError) if path.exists() else None
