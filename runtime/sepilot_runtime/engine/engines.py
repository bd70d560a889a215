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
from sepilot_runtime.base.plugins import load_plugin
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.engine.model_file import ModelFile, read_model_file
from sepilot_runtime.engine.names import ENGINES, OWN, EngineName, engine_named, runs

__all__ = ["Engine", "engine_of", "open_engine"]


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
