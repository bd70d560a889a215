"""OpenVINO as an engine; an optional package that runs both kinds of files on Intel's and on ARM processors.

It computes in float32 like the others. Left to itself it takes bfloat16 where the processor has it, which moved the
answers of nets by 0.016 to 0.035; that is the engine "openvino-bf16".
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import MissingExtraError, ModelFileError, UsageError
from sepilot_runtime.engine.buffers import answer_buffers, input_buffers, reader
from sepilot_runtime.engine.model_file import ModelFile
from sepilot_runtime.engine.names import ModelKind
from sepilot_runtime.engine.tflite_reader import Signature, SignatureTensor, signature_of
from sepilot_runtime.engine.validation import (
    first_line,
    require_input,
    require_names,
    require_output,
    require_stored,
    require_vector,
)

__all__ = ["OpenVinoEngine", "compiled", "open_bf16", "port_name"]

_FAILURES = (RuntimeError, ValueError, TypeError)


class OpenVinoEngine:
    """OpenVINO on the CPU. Input and outputs are bound once; a run copies nothing on the Python side."""

    def __init__(self, file: ModelFile, threads: int, *, bf16: bool = False) -> None:
        self.name = "openvino-bf16" if bf16 else "openvino"
        self.path, self.contract, self.threads = file.path, file.contract, threads
        signature = _signature(file)
        try:
            self._request = compiled(file.content, file.kind, threads, bf16=bf16).create_infer_request()
            inputs = {port_name(port, signature.inputs): port for port in self._request.model_inputs}
            outputs = {port_name(port, signature.outputs): port for port in self._request.model_outputs}
        except _FAILURES as e:
            raise ModelFileError(f"{file.path}: OpenVINO cannot open it: {_reason(e)}") from e
        from openvino import Tensor

        port = require_names(file, inputs, outputs)
        self.input_dtype: np.dtype[Any] = np.dtype(port.element_type.to_dtype())
        affine = signature.inputs[file.contract.input_name].affine
        require_input(file, _shape(port), self.input_dtype, affine)
        for vector in file.contract.vectors:
            require_vector(file, vector, _shape(inputs[vector.name]), inputs[vector.name].element_type.to_dtype())
        self._inputs = input_buffers(file.contract, self.input_dtype)
        for name, port in inputs.items():
            self._request.set_tensor(port, Tensor(self._inputs[name], shared_memory=True))
        self._answers, views = answer_buffers(file.contract)
        self._readers: list[Callable[[], None]] = []
        for name, view in views.items():
            port, affine = outputs[name], signature.outputs[name].affine
            require_output(file, name, view.shape, _shape(port))
            stored = view.reshape(_shape(port)).astype(port.element_type.to_dtype(), copy=False)
            require_stored(file, name, stored.dtype, affine)
            self._request.set_tensor(port, Tensor(stored, shared_memory=True))
            if affine is not None:
                self._readers.append(reader(_always(stored), view, affine))

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        return self._inputs[name]

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        try:
            self._request.infer(share_outputs=True)
        except _FAILURES as e:
            raise ModelFileError(f"{self.path}: OpenVINO cannot run it: {_reason(e)}") from e
        for read in self._readers:
            read()
        return self._answers


def _always(array: NDArray[Any]) -> Callable[[], NDArray[Any]]:
    return lambda: array


def compiled(
    content: bytes, kind: ModelKind, threads: int, *, bf16: bool, prepare: Callable[[Any], object] = lambda model: None
) -> Any:
    """OpenVINO's model of a file, ready for requests on the CPU. Raises MissingExtraError, UsageError, and its own.

    Args:
        prepare: given the model before it is compiled.
    """
    try:
        import openvino
    except ModuleNotFoundError as e:
        raise MissingExtraError("openvino", "openvino") from e
    core = openvino.Core()
    # OpenVINO would quietly compute in float32.
    if bf16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError("openvino-bf16: this processor has no bfloat16; take openvino, which computes in float32")
    if kind is ModelKind.ONNX:
        model = core.read_model(content)
    else:
        # The reader of TFLite files takes paths only; the file itself may have been replaced since it was read.
        with tempfile.TemporaryDirectory(prefix="sepilot-") as folder:
            copy = Path(folder) / "model.tflite"
            copy.write_bytes(content)
            model = core.read_model(str(copy))
    prepare(model)
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    return core.compile_model(model, "CPU", settings)


def _signature(file: ModelFile) -> Signature:
    """Names of inputs and outputs with their tensors; those of an ONNX file are their own."""
    if file.kind is ModelKind.ONNX:
        contract = file.contract
        return Signature(
            inputs={
                name: SignatureTensor(name=name, affine=None)
                for name in (contract.input_name, *(v.name for v in contract.vectors))
            },
            outputs={name: SignatureTensor(name=name, affine=None) for name in contract.tensors},
        )
    try:
        signature = signature_of(file.content)
    except (struct.error, IndexError, UnicodeDecodeError) as e:
        raise ModelFileError(f"{file.path}: damaged: its signature cannot be read") from e
    if signature is None:
        raise ModelFileError(f"{file.path}: one signature expected, which OpenVINO needs to tell inputs from outputs")
    return signature


def port_name(port: Any, tensors: Mapping[str, SignatureTensor]) -> str:
    """The signature's name of a port, or the port's own where it is none of the signature's."""
    found = port.get_names()
    named = (name for name, tensor in tensors.items() if tensor.name in found)
    return next(named, port.get_any_name() if found else "?")


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in port.shape)


def _reason(error: Exception) -> str:
    """The line that tells most: OpenVINO's messages begin with the places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from ", "Check ", "FrontEnd API failed"))]
    return telling[0][:200] if telling else first_line(error)


def open_bf16(file: ModelFile, threads: int) -> OpenVinoEngine:
    """OpenVINO computing in bfloat16. Raises what `OpenVinoEngine` raises."""
    return OpenVinoEngine(file, threads, bf16=True)
