"""ONNX Runtime as an engine; an optional package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import MissingExtraError, ModelFileError
from sepilot_runtime.engine.buffers import answer_buffers, input_buffers
from sepilot_runtime.engine.model_file import ModelFile
from sepilot_runtime.engine.validation import (
    first_line,
    require_input,
    require_names,
    require_output,
    require_vector,
)

__all__ = ["OnnxRuntimeEngine", "session_of"]


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU. Buffers are bound once, so a run allocates nothing on the Python side."""

    name = "onnxruntime"

    def __init__(self, file: ModelFile, threads: int) -> None:
        self.path, self.contract, self.threads = file.path, file.contract, threads
        self._failures = _failures()
        try:
            self._session = session_of(file.content, threads)
        except self._failures as e:
            raise ModelFileError(f"{file.path}: ONNX Runtime cannot open it: {first_line(e)}") from e
        inputs = {t.name: t for t in self._session.get_inputs()}
        outputs = {t.name: t for t in self._session.get_outputs()}
        picture = require_names(file, inputs, outputs)
        _require_type(file, picture, "tensor(uint8)" if file.contract.frame else "tensor(float)")
        self.input_dtype: np.dtype[Any] = np.dtype(np.uint8 if file.contract.frame else np.float32)
        require_input(file, tuple(picture.shape), self.input_dtype, None)
        for vector in file.contract.vectors:
            _require_type(file, inputs[vector.name], "tensor(float)")
            require_vector(file, vector, tuple(inputs[vector.name].shape), np.dtype(np.float32))
        self._binding = self._session.io_binding()
        self._inputs = input_buffers(file.contract, self.input_dtype)
        for name in inputs:
            self._bind(self._binding.bind_input, name, self._inputs[name])
        self._answers, views = answer_buffers(file.contract)
        for name, view in views.items():
            tensor = outputs[name]
            require_output(file, name, view.shape, tuple(tensor.shape))
            _require_type(file, tensor, "tensor(float)")
            self._bind(self._binding.bind_output, name, view.reshape(tensor.shape))

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        return self._inputs[name]

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        try:
            self._session.run_with_iobinding(self._binding)
        except self._failures as e:
            raise ModelFileError(f"{self.path}: ONNX Runtime cannot run it: {first_line(e)}") from e
        return self._answers

    @staticmethod
    def _bind(bind: Callable[..., None], name: str, buffer: NDArray[Any]) -> None:
        bind(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)


def session_of(content: bytes, threads: int) -> Any:
    """ONNX Runtime's session of a file on the CPU. Raises MissingExtraError, and what it likes where it cannot."""
    try:
        import onnxruntime as ort
    except ModuleNotFoundError as e:
        raise MissingExtraError("onnxruntime", "onnx") from e
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # What goes wrong is raised as well.
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=False)


def _failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: its exceptions have no common base."""
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ModuleNotFoundError:
        return ()
    own = (e for e in vars(states).values() if isinstance(e, type) and issubclass(e, Exception))
    return (*own, RuntimeError, ValueError)


def _require_type(file: ModelFile, tensor: Any, expected: str) -> None:
    # An int8 ONNX file quantizes inside; a tensor of integers at its edge would carry no scale to check.
    if tensor.type != expected:
        raise ModelFileError(f"{file.path}: tensor {tensor.name!r}: {expected} expected, found {tensor.type}")
