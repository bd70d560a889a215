"""LiteRT (TensorFlow Lite) as an engine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ModelFileError, SepilotError
from sepilot_runtime.contract.quantization import Affine
from sepilot_runtime.engine.buffers import answer_buffers, reader
from sepilot_runtime.engine.model_file import ModelFile
from sepilot_runtime.engine.validation import (
    first_line,
    require_input,
    require_names,
    require_output,
    require_stored,
    require_vector,
)

__all__ = ["LiteRtEngine", "affine_of", "interpreter_of", "signature_tensors"]


class LiteRtEngine:
    """LiteRT (TensorFlow Lite) with its default XNNPACK kernels."""

    name = "litert"

    def __init__(self, file: ModelFile, threads: int) -> None:
        self.path, self.contract, self.threads = file.path, file.contract, threads
        try:
            self._interpreter = interpreter_of(file.content, threads)
            inputs, outputs = signature_tensors(self._interpreter)
        except (ValueError, RuntimeError) as e:
            raise ModelFileError(f"{file.path}: LiteRT cannot open it: {first_line(e)}") from e
        picture = require_names(file, inputs, outputs)
        self.input_dtype: np.dtype[Any] = np.dtype(picture["dtype"])
        require_input(file, _shape(picture), self.input_dtype, affine_of(picture))
        for vector in self.contract.vectors:
            require_vector(file, vector, _shape(inputs[vector.name]), np.dtype(inputs[vector.name]["dtype"]))
        # A tensor's memory may move, so LiteRT refuses to run while a view of it is alive. These functions give a fresh
        # view (0.4 us) and may be kept.
        self._inputs = {name: self._interpreter.tensor(tensor["index"]) for name, tensor in inputs.items()}
        self._input: Callable[[], NDArray[Any]] = self._inputs[self.contract.input_name]
        self._answers, views = answer_buffers(self.contract)
        self._readers = tuple(self._reader(file, name, view, outputs[name]) for name, view in views.items())

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        return self._input() if name is None else self._inputs[name]()

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        try:
            self._interpreter.invoke()
        except RuntimeError as e:
            raise ModelFileError(f"{self.path}: LiteRT cannot run it: {first_line(e)}") from e
        for read in self._readers:
            read()
        return self._answers

    def _reader(
        self, file: ModelFile, name: str, answer: NDArray[np.float32], tensor: Mapping[str, Any]
    ) -> Callable[[], None]:
        """What copies one output's tensor from the interpreter's memory into its array."""
        affine = affine_of(tensor)
        require_output(file, name, answer.shape, _shape(tensor))
        require_stored(file, name, np.dtype(tensor["dtype"]), affine)
        view: Callable[[], NDArray[Any]] = self._interpreter.tensor(tensor["index"])
        return reader(view, answer, affine)


def interpreter_of(content: bytes, threads: int) -> Any:
    """LiteRT's interpreter of a file, its memory allocated. Raises ValueError or RuntimeError where it cannot."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError as e:
        raise SepilotError("LiteRT is not installed; run: pip install ai-edge-litert") from e
    with _native_stderr_closed():
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter


def signature_tensors(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs by name: those of the signature, or of the tensors where a file has no signature."""
    signatures = list(interpreter.get_signature_list())
    if len(signatures) == 1:
        runner = interpreter.get_signature_runner(signatures[0])
        return runner.get_input_details(), runner.get_output_details()
    return (
        {t["name"]: t for t in interpreter.get_input_details()},
        {t["name"]: t for t in interpreter.get_output_details()},
    )


@contextlib.contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Keep LiteRT's remarks while it opens a model off stderr; what is wrong is raised as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _shape(tensor: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in tensor["shape"])


def affine_of(tensor: Mapping[str, Any]) -> Affine | None:
    """Scale and zero point of a LiteRT tensor; None where it is not quantized."""
    parameters = tensor["quantization_parameters"]
    if len(parameters["scales"]) != 1:
        return None
    return Affine(scale=float(parameters["scales"][0]), zero_point=int(parameters["zero_points"][0]))
