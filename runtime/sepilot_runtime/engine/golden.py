"""The proof at load that a file still answers as it was trained to.

A model file carries golden frames, small pictures with the answers of the training model. They go through the whole
path at every load: a changed OpenCV, a broken kernel, a wrong crop or a damaged weight shows before the car moves.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ContractError, ModelFileError
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.contract import Contract, Golden, Output, golden_frame
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import Preprocessor, enlarge_frame, write_input
from sepilot_runtime.engine.engines import Engine

__all__ = ["BF16_TOLERANCE", "OTHER_PIXELS_TOLERANCE", "verify_golden"]

OTHER_PIXELS_TOLERANCE = 0.08
"""Added to a contract's tolerance where this machine's OpenCV makes other pixels of a golden frame than training did,
of files that have their pictures resized "linear"; a fraction of the output's magnitude.

Builds round that differently, by one gray level. All pixels off by one moved the answers of small nets by up to 0.05; a
wrong crop or channel order moves them by more than this. "exact" pictures are the same everywhere, or are refused.
"""

BF16_TOLERANCE = 0.08
"""Added to a contract's tolerance where the engine was asked to compute in bfloat16: 0.035 was seen on a real drive."""

OPENCV_PACKAGES = ("opencv-python-headless", "opencv-python")
"""By which OpenCV is installed, as a contract's provenance names it."""

Answers = dict[str, NDArray[np.float64]]


def verify_golden(engine: Engine) -> dict[str, float]:
    """Run the golden frames of an engine's contract through it.

    Returns:
        Of each output, its kind's largest deviation from the expected values.

    Raises:
        ModelFileError: there are none; one deviates by more than the contract's tolerance, or is NaN; or the model
            gives one and the same answer to frames that have different ones.
        ContractError: a golden frame cannot be read, or names other outputs and vectors than the contract.
    """
    contract = engine.contract
    if not contract.golden:
        raise ModelFileError(f"{engine.path}: carries no golden frames to prove it; export it with `sepilot export`")
    for index, golden in enumerate(contract.golden):
        _require_fit(golden, contract, f"{engine.path}: golden frame {index}")
    answers = _golden_answers(engine, contract)
    worst = {output.name: 0.0 for output in contract.outputs}
    for index, (golden, (answer, looser)) in enumerate(zip(contract.golden, answers, strict=True)):
        for output in contract.outputs:
            found, expected = answer[output.name], np.array(golden.expected[output.name])
            deviation = _deviation(output, found, expected)
            place = int(np.argmax(np.abs(found - expected)))  # The first NaN where there is one.
            tolerance = contract.tolerance[output.name] + looser * output.magnitude
            if not deviation <= tolerance:  # Also true for NaN.
                raise ModelFileError(
                    f"{engine.path}: golden frame {index}: {output.name} {expected[place]:.6f} within {tolerance:g} "
                    f"expected, found {found[place]:.6f} on {engine.name}; the file or the interpreter is broken"
                )
            worst[output.name] = max(worst[output.name], deviation)
    _require_dependence(engine, contract, [answer for answer, _ in answers])
    return worst


def _deviation(output: Output, found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    if not np.isfinite(found).all():
        return math.nan
    shape = (1, *output.shape)
    return task_of(output).deviation(found.reshape(shape), expected.reshape(shape)).item()


def _require_fit(golden: Golden, contract: Contract, where: str) -> None:
    """As many values as the contract says, under its names."""
    for what, found, entries in (
        ("values", golden.expected, contract.outputs),
        ("values of vectors", golden.vectors, contract.vectors),
    ):
        expected = {entry.name: int(np.prod(entry.shape)) for entry in entries}
        if set(found) != set(expected):
            raise ContractError(f"{where}: {what} for {', '.join(sorted(expected)) or 'nothing'} expected")
        for name, count in expected.items():
            if len(found[name]) != count:
                raise ContractError(f"{where}: {name}: {count} {what} expected, found {len(found[name])}")


def _golden_answers(engine: Engine, contract: Contract) -> list[tuple[Answers, float]]:
    """What the engine says to each golden frame, and by how much of its magnitude that may be farther off."""
    preprocessor = Preprocessor(contract.picture)
    answers = []
    for index, golden in enumerate(contract.golden):
        try:
            frame = golden_frame(golden)
        except ContractError as e:
            raise ContractError(f"{engine.path}: golden frame {index}: {e}") from e
        if contract.frame:
            pixels, same = enlarge_frame(frame, contract.frame.height, contract.frame.width), True
        else:
            pixels = preprocessor.picture_of(frame)
            same = golden.picture_crc32 in (0, zlib.crc32(pixels.tobytes()))
            if not same and contract.picture.resize == "exact":
                raise ModelFileError(f"{engine.path}: {_other_pixels(index, contract)}")
        write_input(pixels, engine.input_tensor())
        for vector in contract.vectors:
            engine.input_tensor(vector.name)[0] = golden.vectors[vector.name]
        found = {name: value.astype(np.float64).reshape(-1) for name, value in engine.run().items()}
        looser = 0.0 if same else OTHER_PIXELS_TOLERANCE
        answers.append((found, looser + (BF16_TOLERANCE if engine.name == "openvino-bf16" else 0.0)))
    return answers


def _other_pixels(index: int, contract: Contract) -> str:
    versions = contract.provenance.versions
    trained = next((f"{name}=={versions[name]}" for name in OPENCV_PACKAGES if name in versions), "")
    return (
        f"golden frame {index}: the picture that it was trained with expected, OpenCV {cv2.__version__} makes another "
        f"of it; install the OpenCV of the training: pip install {trained or OPENCV_PACKAGES[0]}"
    )


def _require_dependence(engine: Engine, contract: Contract, answers: list[Answers]) -> None:
    """A model that ignores its input may pass a wide tolerance; frames with different answers show it."""
    for output in contract.outputs:
        expected = np.array([golden.expected[output.name] for golden in contract.golden])
        found = np.array([answer[output.name] for answer in answers])
        if np.ptp(expected, axis=0).max() > contract.tolerance[output.name] and not np.ptp(found, axis=0).any():
            raise ModelFileError(
                f"{engine.path}: {output.name} is {found.flat[0]:.6f} for every golden frame; the model ignores its "
                "input"
            )
