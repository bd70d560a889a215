"""Engines: a model file ready to run. LiteRT for .tflite, ONNX Runtime for .onnx.

Opening one holds the file against its own contract: names, shapes, number types and the quantization of the input. What
passes can be driven with `preprocess.write_input` and read with `Engine.output`, and nobody else needs to know which
interpreter works behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract import Contract
from sepilot_runtime.errors import MissingExtraError, ModelFileError, UsageError
from sepilot_runtime.modelfile import ModelFile, ModelKind, read_model_file
from sepilot_runtime.quantization import INT8_INPUT, UINT8_INPUT, Affine

__all__ = ["ConstantEngine", "Engine", "LiteRtEngine", "OnnxRuntimeEngine", "engine_of", "open_engine"]


class Engine(Protocol):
    """A model that runs one picture at a time. Not for use by two threads at once.

    Attributes:
        name: of the interpreter: "litert" or "onnxruntime".
        path: of the model file.
        contract: that the file carries.
        threads: that the interpreter may use.
        input_dtype: float32, int8 or uint8; what `input_tensor` holds.
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

    def input_tensor(self) -> NDArray[Any]:
        """The input (1, h, w, c) to write into. Ask for it anew for every picture and let it go before `invoke`."""

    def invoke(self) -> None:
        """Run the model on what stands in the input tensor."""

    def output(self, name: str) -> float:
        """An output of the last `invoke` as a number, dequantized with the tensor's own scale and zero point."""


def open_engine(path: Path, *, threads: int = 1) -> Engine:
    """Open a .tflite or .onnx file.

    Raises:
        ModelFileError: unreadable, damaged, of another kind, or not what its contract says.
        ContractError: no contract in it, or one that is foreign or was changed.
        MissingExtraError: ONNX Runtime is not installed.
        UsageError: `threads` is not positive.
    """
    return engine_of(read_model_file(path), threads=threads)


def engine_of(file: ModelFile, *, threads: int = 1) -> Engine:
    """Open a model file that was read already. Raises what `open_engine` raises."""
    if threads < 1:
        raise UsageError(f"threads: at least 1 expected, found {threads}")
    return (LiteRtEngine if file.kind is ModelKind.TFLITE else OnnxRuntimeEngine)(file, threads)


class LiteRtEngine:
    """LiteRT (TensorFlow Lite) with its default XNNPACK kernels."""

    name = "litert"

    def __init__(self, file: ModelFile, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.path, self.contract, self.threads = file.path, file.contract, threads
        try:
            self._interpreter = Interpreter(model_content=file.content, num_threads=threads)
            self._interpreter.allocate_tensors()
            inputs, outputs = self._tensors()
        except (ValueError, RuntimeError) as e:
            raise ModelFileError(f"{file.path}: LiteRT cannot open it: {_first_line(e)}") from e
        picture = _require_names(file, inputs, outputs)
        self.input_dtype: np.dtype[Any] = np.dtype(picture["dtype"])
        _require_input(file, tuple(int(n) for n in picture["shape"]), self.input_dtype, _affine_of(picture))
        # A tensor's memory may move, so LiteRT refuses to run while a view of it is alive. The functions below give a
        # fresh view (0.4 us) and may be kept.
        self._input: Callable[[], NDArray[Any]] = self._interpreter.tensor(picture["index"])
        self._outputs = {
            name: _OutputTensor(file, name, self._interpreter.tensor(t["index"]), t) for name, t in outputs.items()
        }

    def input_tensor(self) -> NDArray[Any]:
        return self._input()

    def invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except RuntimeError as e:
            raise ModelFileError(f"{self.path}: LiteRT cannot run it: {_first_line(e)}") from e

    def output(self, name: str) -> float:
        return self._outputs[name].value()

    def _tensors(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Inputs and outputs by name: those of the signature, or of the tensors where a file has no signature."""
        signatures = list(self._interpreter.get_signature_list())
        if len(signatures) == 1:
            runner = self._interpreter.get_signature_runner(signatures[0])
            return runner.get_input_details(), runner.get_output_details()
        return (
            {t["name"]: t for t in self._interpreter.get_input_details()},
            {t["name"]: t for t in self._interpreter.get_output_details()},
        )


class _OutputTensor:
    """Reads one LiteRT output that holds one number."""

    def __init__(self, file: ModelFile, name: str, view: Callable[[], NDArray[Any]], tensor: Mapping[str, Any]) -> None:
        _require_scalar(file, name, tuple(int(n) for n in tensor["shape"]))
        self._view = view
        self._affine = _affine_of(tensor)
        if np.dtype(tensor["dtype"]) != np.float32 and self._affine is None:
            raise ModelFileError(
                f"{file.path}: output {name!r}: float32 or a quantized integer expected, "
                f"found {np.dtype(tensor['dtype'])} without a scale"
            )

    def value(self) -> float:
        stored = self._view().item()
        return float(stored) if self._affine is None else self._affine.dequantize_one(stored)


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU. Buffers are bound once, so a run allocates nothing on the Python side."""

    name = "onnxruntime"

    def __init__(self, file: ModelFile, threads: int) -> None:
        try:
            import onnxruntime as ort
            from onnxruntime.capi import onnxruntime_pybind11_state as states
        except ModuleNotFoundError as e:
            raise MissingExtraError("onnxruntime", "onnx") from e
        # ONNX Runtime's exceptions have no common base.
        self._failures: tuple[type[Exception], ...] = (
            *(e for e in vars(states).values() if isinstance(e, type) and issubclass(e, Exception)),
            RuntimeError,
            ValueError,
        )
        self.path, self.contract, self.threads = file.path, file.contract, threads
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # What goes wrong is raised as well.
        try:
            self._session = ort.InferenceSession(
                file.content, options, providers=["CPUExecutionProvider"], enable_fallback=False
            )
        except self._failures as e:
            raise ModelFileError(f"{file.path}: ONNX Runtime cannot open it: {_first_line(e)}") from e
        inputs = {t.name: t for t in self._session.get_inputs()}
        outputs = {t.name: t for t in self._session.get_outputs()}
        picture = _require_names(file, inputs, outputs)
        self.input_dtype: np.dtype[Any] = _onnx_dtype(file, picture.name, picture.type)
        # Quantization happens inside an ONNX file; a pure int8 input would carry no scale to check.
        _require_input(
            file, tuple(picture.shape), self.input_dtype, UINT8_INPUT if self.input_dtype == np.uint8 else None
        )
        self._binding = self._session.io_binding()
        self._input = np.zeros((1, *file.contract.picture.shape), self.input_dtype)
        self._bind(self._binding.bind_input, picture.name, self._input)
        self._outputs: dict[str, NDArray[Any]] = {}
        for name, tensor in outputs.items():
            _require_scalar(file, name, tuple(tensor.shape))
            if _onnx_dtype(file, name, tensor.type) != np.float32:
                raise ModelFileError(f"{file.path}: output {name!r}: float32 expected, found {tensor.type}")
            self._outputs[name] = np.zeros(tensor.shape, np.float32)
            self._bind(self._binding.bind_output, name, self._outputs[name])

    def input_tensor(self) -> NDArray[Any]:
        return self._input

    def invoke(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except self._failures as e:
            raise ModelFileError(f"{self.path}: ONNX Runtime cannot run it: {_first_line(e)}") from e

    def output(self, name: str) -> float:
        return float(self._outputs[name].item())

    @staticmethod
    def _bind(bind: Callable[..., None], name: str, buffer: NDArray[Any]) -> None:
        bind(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)


class ConstantEngine:
    """Gives the same number for every picture. For tests, and as the control that a working model must beat."""

    name = "constant"

    def __init__(self, contract: Contract, value: float = 0.0, *, path: Path = Path("constant")) -> None:
        self.path, self.contract, self.threads = path, contract, 1
        self.input_dtype: np.dtype[Any] = np.dtype(np.float32)
        self.value = value
        self._input = np.zeros((1, *contract.picture.shape), np.float32)

    def input_tensor(self) -> NDArray[Any]:
        return self._input

    def invoke(self) -> None:
        """Nothing to run."""

    def output(self, name: str) -> float:
        return self.value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _affine_of(tensor: Mapping[str, Any]) -> Affine | None:
    """Scale and zero point of a LiteRT tensor; None where it is not quantized."""
    parameters = tensor["quantization_parameters"]
    if len(parameters["scales"]) != 1:
        return None
    return Affine(scale=float(parameters["scales"][0]), zero_point=int(parameters["zero_points"][0]))


def _onnx_dtype(file: ModelFile, name: str, kind: str) -> np.dtype[Any]:
    known = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
    if kind not in known:
        raise ModelFileError(f"{file.path}: tensor {name!r}: {' or '.join(known)} expected, found {kind}")
    return np.dtype(known[kind])


def _require_names(file: ModelFile, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    """The input tensor that takes the picture."""
    expected = [file.contract.picture.name]
    if list(inputs) != expected:
        raise ModelFileError(f"{file.path}: input {expected[0]!r} expected by its contract, found {_listed(inputs)}")
    expected = sorted(o.name for o in file.contract.outputs)
    if sorted(outputs) != expected:
        raise ModelFileError(
            f"{file.path}: output {_listed(expected)} expected by its contract, found {_listed(sorted(outputs))}"
        )
    return inputs[file.contract.picture.name]


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _require_input(file: ModelFile, shape: tuple[Any, ...], dtype: np.dtype[Any], affine: Affine | None) -> None:
    picture = file.contract.picture
    if shape != (1, *picture.shape):
        raise ModelFileError(
            f"{file.path}: input {picture.name!r}: shape {(1, *picture.shape)} expected by its contract, found {shape}"
        )
    if dtype == np.float32:
        return
    expected = {np.dtype(np.int8): INT8_INPUT, np.dtype(np.uint8): UINT8_INPUT}.get(dtype)
    if expected is None:
        raise ModelFileError(f"{file.path}: input {picture.name!r}: float32, int8 or uint8 expected, found {dtype}")
    # The scale stands in the file as float32.
    if (
        affine is None
        or np.float32(affine.scale) != np.float32(expected.scale)
        or affine.zero_point != expected.zero_point
    ):
        found = f"scale {affine.scale:.9g} and zero point {affine.zero_point}" if affine else "no scale"
        raise ModelFileError(
            f"{file.path}: input {picture.name!r}: scale 1/255 and zero point {expected.zero_point} expected, "
            f"found {found}"
        )


def _require_scalar(file: ModelFile, name: str, shape: tuple[Any, ...]) -> None:
    if any(n != 1 for n in shape):
        raise ModelFileError(f"{file.path}: output {name!r}: one number per picture expected, found shape {shape}")
