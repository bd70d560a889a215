"""Holding a model file's tensors against its contract, whichever interpreter opened it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.contract.quantization import INT8_INPUT, Affine
from sepilot_runtime.engine.model_file import ModelFile

__all__ = ["first_line", "require_input", "require_names", "require_scalar"]

T = TypeVar("T")


def require_names(file: ModelFile, inputs: Mapping[str, T], outputs: Mapping[str, Any]) -> T:
    """The input tensor that takes the picture, or the frame."""
    expected = [file.contract.input_name]
    if list(inputs) != expected:
        raise ModelFileError(f"{file.path}: input {expected[0]!r} expected by its contract, found {_listed(inputs)}")
    expected = sorted(o.name for o in file.contract.outputs)
    if sorted(outputs) != expected:
        raise ModelFileError(
            f"{file.path}: output {_listed(expected)} expected by its contract, found {_listed(sorted(outputs))}"
        )
    return inputs[file.contract.input_name]


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


def require_scalar(file: ModelFile, name: str, shape: tuple[Any, ...]) -> None:
    if any(n != 1 for n in shape):
        raise ModelFileError(f"{file.path}: output {name!r}: one number per picture expected, found shape {shape}")


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
