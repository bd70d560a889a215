"""Holding a model file's tensors against its contract, whichever interpreter opened it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.contract.contract import Vector
from sepilot_runtime.contract.quantization import INT8_INPUT, Affine
from sepilot_runtime.engine.model_file import ModelFile

__all__ = ["first_line", "require_input", "require_names", "require_output", "require_stored",
           "require_vector"]  # fmt: skip

T = TypeVar("T")


def require_names(file: ModelFile, inputs: Mapping[str, T], outputs: Mapping[str, Any]) -> T:
    """Inputs and outputs are those of the contract, in whatever order. The input that takes the picture, or frame."""
    contract = file.contract
    for what, found, expected in (
        ("input", inputs, [contract.input_name, *(v.name for v in contract.vectors)]),
        ("output", outputs, list(contract.tensors)),
    ):
        if sorted(found) != sorted(expected):
            raise ModelFileError(
                f"{file.path}: {what} {_listed(sorted(expected))} expected by its contract, found "
                f"{_listed(sorted(found))}"
            )
    return inputs[contract.input_name]


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"


def require_input(file: ModelFile, shape: tuple[Any, ...], dtype: np.dtype[Any], affine: Affine | None) -> None:
    """Shape, number type and quantization of the input: float32 or int8 for pictures, plain uint8 for frames."""
    contract = file.contract
    where = f"{file.path}: input {contract.input_name!r}"
    if shape != contract.input_shape:
        raise ModelFileError(f"{where}: shape {contract.input_shape} expected by its contract, found {shape}")
    if contract.frame:
        if dtype != np.uint8 or affine is not None:
            found = f"{dtype} with scale {affine.scale:.9g}" if affine else str(dtype)
            raise ModelFileError(f"{where}: plain uint8 expected of a camera frame, found {found}")
        return
    if dtype == np.float32:
        return
    if dtype != np.int8:
        raise ModelFileError(f"{where}: float32 or int8 expected, found {dtype}")
    scale, zero_point = INT8_INPUT.scale, INT8_INPUT.zero_point
    # The scale stands in the file as float32.
    if affine is None or np.float32(affine.scale) != np.float32(scale) or affine.zero_point != zero_point:
        found = f"scale {affine.scale:.9g} and zero point {affine.zero_point}" if affine else "no scale"
        raise ModelFileError(f"{where}: scale 1/255 and zero point {zero_point} expected, found {found}")


def require_vector(file: ModelFile, vector: Vector, shape: tuple[Any, ...], dtype: np.dtype[Any]) -> None:
    """Shape and number type of a vector input."""
    where = f"{file.path}: input {vector.name!r}"
    if shape != (1, vector.size):
        raise ModelFileError(f"{where}: shape {(1, vector.size)} expected by its contract, found {shape}")
    if dtype != np.float32:
        raise ModelFileError(f"{where}: float32 expected, found {dtype}")


def require_output(file: ModelFile, name: str, expected: tuple[int, ...], shape: tuple[Any, ...]) -> None:
    """One answer of the contract's shape per picture; lengths of 1 do not count."""
    if [n for n in shape if n != 1] != [n for n in expected if n != 1]:
        said = "one number" if expected == (1,) else f"shape {expected}"
        raise ModelFileError(f"{file.path}: output {name!r}: {said} per picture expected, found shape {shape}")


def require_stored(file: ModelFile, name: str, dtype: np.dtype[Any], affine: Affine | None) -> None:
    """An output is stored as float32, or as integers that say what they mean."""
    if dtype != np.float32 and affine is None:
        raise ModelFileError(
            f"{file.path}: output {name!r}: float32 or a quantized integer expected, found {dtype} without a scale"
        )


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
