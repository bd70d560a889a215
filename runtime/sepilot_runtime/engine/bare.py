"""A model file as it is: any inputs and outputs, by the names that it gives them, without a contract.

Nothing is known of such a file but what it says itself: names, shapes and types of numbers. That is enough to time it,
and to ask one interpreter what another one has to say.

    python -m sepilot_runtime.engine.bare FILE THREADS ENGINE SEED     runs it once and names its outputs
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ModelFileError, SepilotError, UsageError
from sepilot_runtime.contract.quantization import Affine
from sepilot_runtime.engine.model_file import read_content
from sepilot_runtime.engine.names import ENGINES, EngineName, ModelKind
from sepilot_runtime.engine.validation import first_line

__all__ = ["BareModel", "Feed", "Tensor", "of_litert", "open_bare", "random_inputs"]

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output as the file describes it; a size that it leaves open counts as 1."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: Affine | None = None

    def __str__(self) -> str:
        scale = f", scale {self.affine.scale:.6g}, zero point {self.affine.zero_point}" if self.affine else ""
        return f"{self.name} {self.dtype}{list(self.shape)}{scale}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BareModel:
    """A file opened by an interpreter.

    Attributes:
        name: of the interpreter, as `Engine.name`.
        run: stored numbers of all inputs by name, in the tensors' shapes and types, to those of all outputs.
    """

    path: Path
    name: str
    threads: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    run: Callable[[Feed], dict[str, NDArray[Any]]]


def open_bare(
    path: Path, *, threads: int = 1, engine: EngineName | None = None, content: bytes | None = None
) -> BareModel:
    """Open a .tflite or .onnx file whatever it takes and gives.

    Args:
        engine: the interpreter; None for the first of `ENGINES` for this kind of file.
        content: of the file, where it was read already.

    Raises:
        ModelFileError: unreadable, damaged, of another kind, or the interpreter cannot open it.
        MissingExtraError: the interpreter is not installed.
    """
    kind, found = read_content(path) if content is None else (ModelKind(path.suffix.lower()[1:]), content)
    name = engine or ENGINES[kind][0]
    if name not in OPENERS:
        raise UsageError(f"--engine: for {path} one of {', '.join(ENGINES[kind])} expected, as it has no contract")
    try:
        inputs, outputs, run = OPENERS[name](found, kind, threads)
    except SepilotError:
        raise
    except Exception as e:  # Interpreters raise what they like about a file that nobody has checked.
        raise ModelFileError(f"{path}: {name} cannot open it: {first_line(e)}") from e

    def guarded(feed: Feed) -> dict[str, NDArray[Any]]:
        try:
            return run(feed)
        except Exception as e:
            raise ModelFileError(f"{path}: {name} cannot run it: {first_line(e)}") from e

    return BareModel(path=path, name=name, threads=threads, inputs=tuple(inputs), outputs=tuple(outputs), run=guarded)


def random_inputs(model: BareModel, seed: int) -> dict[str, NDArray[Any]]:
    """Numbers for every input: real ones in [0, 1), bytes of all values, other integers 0 or 1 (they may be places)."""
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    for tensor in model.inputs:
        if tensor.dtype.kind == "f":
            made[tensor.name] = rng.random(tensor.shape).astype(tensor.dtype)
        elif tensor.dtype.kind in "iub":
            limits = np.iinfo(tensor.dtype) if tensor.dtype.itemsize == 1 and tensor.dtype.kind != "b" else None
            low, high = (limits.min, limits.max) if limits else (0, 1)
            made[tensor.name] = rng.integers(low, high, tensor.shape, np.int64, endpoint=True).astype(tensor.dtype)
        else:
            raise ModelFileError(f"{model.path}: input {tensor.name!r}: numbers expected, found {tensor.dtype}")
    return made


Opened = tuple[Sequence[Tensor], Sequence[Tensor], Callable[[Feed], dict[str, NDArray[Any]]]]


def _litert(content: bytes, kind: ModelKind, threads: int) -> Opened:
    from sepilot_runtime.engine.litert import interpreter_of

    return of_litert(interpreter_of(content, threads))


def of_litert(interpreter: Any) -> Opened:
    """What an interpreter of LiteRT's, or TensorFlow's own, takes and gives, and how it is run."""
    from sepilot_runtime.engine.litert import affine_of, signature_tensors

    inputs, outputs = signature_tensors(interpreter)

    def run(feed: Feed) -> dict[str, NDArray[Any]]:
        for name, values in feed.items():
            interpreter.set_tensor(inputs[name]["index"], values)
        interpreter.invoke()
        return {name: interpreter.get_tensor(tensor["index"]) for name, tensor in outputs.items()}

    def tensors(found: Mapping[str, Any]) -> list[Tensor]:
        return [
            Tensor(name=name, shape=tuple(int(n) for n in t["shape"]), dtype=np.dtype(t["dtype"]), affine=affine_of(t))
            for name, t in found.items()
        ]

    return tensors(inputs), tensors(outputs), run


def _onnxruntime(content: bytes, kind: ModelKind, threads: int) -> Opened:
    from sepilot_runtime.engine.onnxruntime import session_of

    session = session_of(content, threads)
    names = [tensor.name for tensor in session.get_outputs()]

    def tensors(found: Sequence[Any]) -> list[Tensor]:
        return [
            Tensor(
                name=t.name,
                shape=tuple(n if isinstance(n, int) and n > 0 else 1 for n in t.shape),
                dtype=np.dtype(_ONNX_TYPES.get(t.type.removeprefix("tensor(").removesuffix(")"), object)),
            )
            for t in found
        ]

    def run(feed: Feed) -> dict[str, NDArray[Any]]:
        return dict(zip(names, session.run(None, dict(feed)), strict=True))

    return tensors(session.get_inputs()), tensors(session.get_outputs()), run


_ONNX_TYPES = {
    "float": "float32", "float16": "float16", "double": "float64", "bool": "bool",
    **{word: word for word in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")},
}  # fmt: skip


def _openvino(content: bytes, kind: ModelKind, threads: int, *, bf16: bool = False) -> Opened:
    from sepilot_runtime.engine.openvino import compiled, port_name
    from sepilot_runtime.engine.tflite_reader import Signature, SignatureTensor, signature_of

    def close_sizes(model: Any) -> None:
        model.reshape({p: [1 if n.is_dynamic else n.get_length() for n in p.partial_shape] for p in model.inputs})

    request = compiled(content, kind, threads, bf16=bf16, prepare=close_sizes).create_infer_request()
    ports = [*request.model_inputs], [*request.model_outputs]
    said = (signature_of(content) if kind is ModelKind.TFLITE else None) or Signature(inputs={}, outputs={})

    def tensors(found: Sequence[Any], named: Mapping[str, SignatureTensor]) -> list[Tensor]:
        made = []
        for port in found:
            name = port_name(port, named)
            affine = named[name].affine if name in named else None
            shape = tuple(int(n) for n in port.shape) if port.partial_shape.is_static else ()
            made.append(Tensor(name=name, shape=shape, dtype=np.dtype(port.element_type.to_dtype()), affine=affine))
        return made

    inputs, outputs = tensors(ports[0], said.inputs), tensors(ports[1], said.outputs)
    places = {tensor.name: port for tensor, port in zip(inputs, ports[0], strict=True)}

    def run(feed: Feed) -> dict[str, NDArray[Any]]:
        found = request.infer({places[name]: values for name, values in feed.items()})
        return {tensor.name: found[port] for tensor, port in zip(outputs, ports[1], strict=True)}

    return inputs, outputs, run


OPENERS: Mapping[EngineName, Callable[[bytes, ModelKind, int], Opened]] = {
    "litert": _litert,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino-bf16": partial(_openvino, bf16=True),
}


def main(argv: Sequence[str]) -> int:
    """A cold start's own process."""
    from sepilot_runtime.engine.names import engine_named

    path, threads, engine, seed = argv
    model = open_bare(Path(path), threads=int(threads), engine=engine_named(engine))
    print(", ".join(model.run(random_inputs(model, int(seed)))))
    return 0


if __name__ == "__main__":
    from sepilot_runtime.base.exit_codes import run_verb

    raise SystemExit(run_verb(lambda: main(sys.argv[1:])))
