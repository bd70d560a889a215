"""Engines by name, and the kinds of files that each runs. Nothing heavy is imported, so that help texts list them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.plugins import ENGINES as PLUGINS
from sepilot_runtime.base.plugins import plugin_names

__all__ = ["ENGINES", "OWN", "USUAL_ENGINES", "EngineName", "ModelKind", "engine_named", "engines_named", "runs"]

EngineName = str
"""One of `ENGINES`, or of an entry point `sepilot.engines`: `opener(ModelFile, threads: int) -> Engine`."""


class ModelKind(StrEnum):
    """The formats that the car runs; the value is also the suffix of the file, without its dot."""

    TFLITE = "tflite"
    ONNX = "onnx"


OWN: Mapping[EngineName, tuple[str, str, tuple[ModelKind, ...]]] = {
    "litert": ("litert", "LiteRtEngine", (ModelKind.TFLITE,)),
    "onnxruntime": ("onnxruntime", "OnnxRuntimeEngine", (ModelKind.ONNX,)),
    "openvino": ("openvino", "OpenVinoEngine", (ModelKind.TFLITE, ModelKind.ONNX)),
    "openvino-bf16": ("openvino", "open_bf16", (ModelKind.TFLITE, ModelKind.ONNX)),
}
"""Its module in this room, what opens a file in it, `(ModelFile, threads) -> Engine`, and what it runs, by engine."""

ENGINES: Mapping[ModelKind, tuple[EngineName, ...]] = {
    kind: tuple(name for name, (_, _, kinds) in OWN.items() if kind in kinds) for kind in ModelKind
}
"""What runs a kind of file; the first is what runs it unless another is asked for."""

USUAL_ENGINES = ", ".join(f"{names[0]} for .{kind}" for kind, names in ENGINES.items())


def runs(engine: EngineName, kind: ModelKind) -> bool:
    """Whether an engine takes this kind of file; one that another package brings says so when it opens it."""
    return engine in ENGINES[kind] or engine not in OWN


def engine_named(word: str) -> EngineName:
    """The engine called `word`.

    Raises:
        UsageError: there is none.
    """
    if word not in OWN and word not in (others := plugin_names(PLUGINS)):
        raise UsageError(f"--engine: one of {', '.join([*OWN, *others])} expected, found {word!r}")
    return word


def engines_named(words: str) -> list[EngineName]:
    """Several, with commas or spaces between them. Raises UsageError."""
    return [engine_named(word) for word in words.replace(",", " ").split()]
