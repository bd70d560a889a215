"""A file's input against its contract, to the last number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_factory import PICTURE, contract_of, write_tflite
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.contract.quantization import INT8_INPUT, Affine
from sepilot_runtime.engine.model_file import ModelFile, read_model_file
from sepilot_runtime.engine.validation import require_input, require_output

SHAPE = (1, *PICTURE.shape)


@pytest.fixture
def file(tmp_path: Path) -> ModelFile:
    return read_model_file(write_tflite(tmp_path / "m.tflite", contract_of()))


def test_what_fits(file: ModelFile) -> None:
    require_input(file, SHAPE, np.dtype(np.float32), None)
    require_input(file, SHAPE, np.dtype(np.int8), INT8_INPUT)
    # As a file has it: in float32.
    require_input(file, SHAPE, np.dtype(np.int8), Affine(scale=float(np.float32(1 / 255)), zero_point=-128))


@pytest.mark.parametrize(
    ("dtype", "affine", "words"),
    [
        (np.int8, Affine(scale=1 / 255, zero_point=-127), "zero point -128 expected, found scale .* zero point -127"),
        (np.int8, Affine(scale=1 / 255, zero_point=0), "zero point 0$"),
        (np.int8, Affine(scale=1 / 254, zero_point=-128), "scale 1/255 .* expected, found scale 0.00393"),
        (np.int8, None, "found no scale"),
        (np.uint8, None, "float32 or int8 expected, found uint8"),
    ],
)
def test_what_does_not(dtype: type, affine: Affine | None, words: str, file: ModelFile) -> None:
    with pytest.raises(ModelFileError, match=words):
        require_input(file, SHAPE, np.dtype(dtype), affine)


def test_shapes(file: ModelFile) -> None:
    with pytest.raises(ModelFileError, match=r"shape .* expected by its contract"):
        require_input(file, SHAPE[1:], np.dtype(np.float32), None)
    require_output(file, "steering", (1,), (1, 1))
    with pytest.raises(ModelFileError, match=r"one number per picture expected, found shape \(1, 2\)"):
        require_output(file, "steering", (1,), (1, 2))
