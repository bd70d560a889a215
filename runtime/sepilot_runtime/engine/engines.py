"""Engines: a model file ready to run. LiteRT for .tflite, ONNX Runtime for .onnx, OpenVINO for both where asked for.

Opening one holds the file against its own contract: names, shapes, number types and the quantization of the input. What
passes can be driven with `preprocess.write_input` and `Engine.run`, and nobody else needs to know which interpreter
works behind it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.plugins import ENGINES as PLUGINS
from sepilot_runtime.base.plugins import load_plugin, plugin_names
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.engine.buffers import input_buffers
from sepilot_runtime.engine.model_file import ModelFile, ModelKind, read_model_file

__all__ = [
    "ENGINES",
    "OWN",
    "ConstantEngine",
    "Engine",
    "EngineName",
    "engine_named",
    "engine_of",
    "open_engine",
    "runs",
]

EngineName = str
"""One of `ENGINES`, or of an entry point `sepilot.engines`: `opener(ModelFile, threads: int) -> Engine`."""

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


class Engine(Protocol):
    """A model that runs one picture at a time. Not for use by two threads at once.

    Attributes:
        name: of the interpreter, one of `EngineName`.
        path: of the model file.
        contract: that the file carries.
        threads: that the interpreter may use.
        input_dtype: of the input: float32 or int8 for pictures, uint8 for frames.
    """

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def contract(self) -> Contract: ...
    @property
    def threads(self) -> int: ...
    @property
    def input_dtype(self) -> np.dtype[Any]: ...

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        """An input to write into: by default the picture or frame (1, h, w, c), or the vector (1, size) of that name.

        Ask for it anew for every picture and let it go before `run`.
        """

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        """Run the model on what stands in its inputs.

        Returns:
            Each output by its name in the file's signature, dequantized, of the shape that the contract's output has.
            They are the same arrays at every call.
        """


def open_engine(path: Path, *, threads: int = 1, engine: EngineName | None = None) -> Engine:
    """Open a .tflite or .onnx file.

    Args:
        engine: the interpreter; None for the first of `ENGINES` for this kind of file.

    Raises:
        ModelFileError: unreadable, damaged, of another kind, or not what its contract says.
        ContractError: no contract in it, or one that is foreign or was changed.
        MissingExtraError: the interpreter is not installed.
        UsageError: `threads` is not positive, `engine` does not run this kind of file, or the processor lacks what it
            needs.
    """
    return engine_of(read_model_file(path), threads=threads, engine=engine)


def engine_of(file: ModelFile, *, threads: int = 1, engine: EngineName | None = None) -> Engine:
    """Open a model file that was read already. Raises what `open_engine` raises."""
    if threads < 1:
        raise UsageError(f"threads: at least 1 expected, found {threads}")
    name = engine or ENGINES[file.kind][0]
    if not runs(name, file.kind):
        raise UsageError(
            f"{file.path}: {name} does not run .{file.kind} files; one of {', '.join(ENGINES[file.kind])} expected"
        )
    if name in OWN:
        module, attribute, _ = OWN[name]
        opener = getattr(importlib.import_module(f"sepilot_runtime.engine.{module}"), attribute)
    else:
        opener = load_plugin(PLUGINS, engine_named(name))
    return cast(Engine, opener(file, threads))


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


class ConstantEngine:
    """Gives the same answers for every picture. For tests, and as the control that a working model must beat.

    Attributes:
        answers: of each output; to be written into.
    """

    name = "constant"

    def __init__(self, contract: Contract, value: float = 0.0, *, path: Path = Path("constant")) -> None:
        """
        Args:
            value: of every number of every output.
        """
        self.path, self.contract, self.threads = path, contract, 1
        self.input_dtype: np.dtype[Any] = np.dtype(np.uint8 if contract.frame else np.float32)
        self.answers = {output.name: np.full(output.shape, value, np.float32) for output in contract.outputs}
        self._inputs = input_buffers(contract, self.input_dtype)

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        return self._inputs[name]

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        return self.answers
