"""The pilot: frame in, steering out, and the proof at load that it still answers as it was trained to.

A model file carries golden frames, small pictures with the answers of the training model. They go through the whole
path at every load: a changed OpenCV, a broken kernel, a wrong crop or a damaged weight shows before the car moves.
"""

from __future__ import annotations

import math
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ContractError, FrameError, ModelFileError
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.contract import Contract, golden_frame
from sepilot_runtime.contract.preprocess import Preprocessor, enlarge_frame, write_input
from sepilot_runtime.engine.engines import Engine, EngineName, open_engine

__all__ = [
    "BF16_TOLERANCE",
    "OTHER_PIXELS_TOLERANCE",
    "STEERING",
    "Pilot",
    "Prediction",
    "load_pilot",
    "verify_golden",
]

OTHER_PIXELS_TOLERANCE = 0.08
"""Added to a contract's tolerance where this machine's OpenCV makes other pixels of a golden frame than training did,
of files that have their pictures resized "linear".

Builds round that differently, by one gray level. All pixels off by one moved the answers of small nets by up to 0.05; a
wrong crop or channel order moves them by more than this. "exact" pictures are the same everywhere, or are refused.
"""

BF16_TOLERANCE = 0.08
"""Added to a contract's tolerance where the engine was asked to compute in bfloat16: 0.035 was seen on a real drive."""

OPENCV_PACKAGES = ("opencv-python-headless", "opencv-python")
"""By which OpenCV is installed, as a contract's provenance names it."""

STEERING = "steering"
"""Task and output name that a pilot needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the model says to one frame.

    Attributes:
        steering: in [low, high] of the contract, [-1, 1] by default, + = right.
        raw: the model's number before it was clipped.
        steering_deg: `steering` in degrees at the wheel, by the contract's full scale.
        preprocess_us: from frame to picture; nothing where the model makes the picture by itself.
        infer_us: from picture (or frame) to number: writing the input, running the model, dequantizing.
    """

    steering: float
    raw: float
    steering_deg: float
    preprocess_us: float
    infer_us: float


class Pilot:
    """Steers by one engine. Its buffers are allocated once; not for use by two threads at a time.

    Attributes:
        seen: what the model was given last: the picture, or the frame where it makes the picture by itself.
    """

    def __init__(self, engine: Engine) -> None:
        """
        Raises:
            ContractError: the engine's contract is for another task, or has no steering output.
        """
        contract = engine.contract
        if contract.task != STEERING:
            raise ContractError(f"{engine.path}: a model for {STEERING!r} expected, its task is {contract.task!r}")
        self.engine = engine
        self.contract = contract
        self._output = contract.output(STEERING)
        self._preprocessor = Preprocessor(contract.picture)
        self.seen: NDArray[np.uint8] = np.zeros(contract.picture.shape, np.uint8)

    def picture_of(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the model sees of a frame: (h, w, c) uint8, valid until the next call. Raises FrameError.

        A model that makes the picture by itself sees the same but for single gray levels.
        """
        return self._preprocessor.picture_of(frame)

    def infer_picture(self, pixels: NDArray[np.uint8]) -> float:
        """The model's raw number for a picture (h, w, c) uint8 that was cropped and resized before.

        Raises:
            FrameError: not the shape that the model takes; it may take frames.
            ModelFileError: the model answered with NaN or infinity.
        """
        write_input(pixels, self.engine.input_tensor())
        self.engine.invoke()
        value = self.engine.output(STEERING)
        if not math.isfinite(value):
            raise ModelFileError(f"{self.engine.path}: the model answered {value}, not a steering number")
        return value

    def infer(self, frame: NDArray[np.uint8]) -> float:
        """The model's raw number for a frame (H, W, 3) uint8 BGR. Raises what `steer` raises."""
        return self.infer_picture(self._input_of(frame))

    def steer(self, frame: NDArray[np.uint8]) -> Prediction:
        """Steering for a frame (H, W, 3) uint8 BGR, with the time that each stage took.

        Raises:
            FrameError: another shape or dtype.
            ContractError: the model takes frames of one size, and this is another.
            ModelFileError: the model answered with NaN or infinity.
        """
        start = time.perf_counter_ns()
        self.seen = pixels = self._input_of(frame)
        seen = time.perf_counter_ns()
        raw = self.infer_picture(pixels)
        done = time.perf_counter_ns()
        output = self._output
        steering = min(max(raw, output.low), output.high)
        return Prediction(
            steering=steering,
            raw=raw,
            steering_deg=steering * output.scale,
            preprocess_us=(seen - start) / 1000,
            infer_us=(done - seen) / 1000,
        )

    def _input_of(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        expected = self.contract.frame
        if expected is None:
            return self._preprocessor.picture_of(frame)
        if frame.dtype != np.uint8:
            raise FrameError("wrong dtype", f"uint8 expected, found {frame.dtype}")
        if frame.shape != expected.shape and frame.ndim == 3 and frame.shape[2] == 3:
            height, width = frame.shape[:2]
            raise ContractError(
                f"{self.engine.path}: frames of {expected.height}x{expected.width} (height x width) expected, "
                f"found {height}x{width}; export for those: sepilot export RUN --with-preprocessing {height}x{width}"
            )
        return frame


def load_pilot(
    path: str | os.PathLike[str], *, threads: int = 1, verify: bool = True, engine: EngineName | None = None
) -> Pilot:
    """Open a model file and, with `verify`, run its golden frames.

    Args:
        engine: the interpreter; None for the usual one of this kind of file.

    Raises:
        ModelFileError: unreadable, damaged, not what its contract says, or it fails its golden frames.
        ContractError: no contract in it, one that is foreign or was changed, or one for another task.
        MissingExtraError: the interpreter is not installed.
        UsageError: the interpreter does not run this kind of file.
    """
    pilot = Pilot(open_engine(Path(path), threads=threads, engine=engine))
    if verify:
        verify_golden(pilot.engine)
    return pilot


def verify_golden(engine: Engine) -> float:
    """Run the golden frames of an engine's contract through it.

    Returns:
        The largest deviation from the expected values, in output values.

    Raises:
        ModelFileError: there are none; one deviates by more than the contract's tolerance, or is NaN; or the model
            gives one and the same answer to frames that have different ones.
        ContractError: a golden frame cannot be read or names other outputs than the contract.
    """
    contract = engine.contract
    if not contract.golden:
        raise ModelFileError(f"{engine.path}: carries no golden frames to prove it; export it with `sepilot export`")
    answers = _golden_answers(engine, contract)
    worst = 0.0
    for index, (golden, (answer, tolerance)) in enumerate(zip(contract.golden, answers, strict=True)):
        for name, expected in golden.expected.items():
            deviation = abs(answer[name] - expected)
            if not deviation <= tolerance:  # Also true for NaN.
                raise ModelFileError(
                    f"{engine.path}: golden frame {index}: {name} {expected:.6f} within {tolerance:g} "
                    f"expected, found {answer[name]:.6f} on {engine.name}; the file or the interpreter is broken"
                )
            worst = max(worst, deviation)
    _require_dependence(engine, contract, [answer for answer, _ in answers])
    return worst


def _golden_answers(engine: Engine, contract: Contract) -> list[tuple[dict[str, float], float]]:
    """What the engine says to each golden frame, and how far off that may be."""
    preprocessor = Preprocessor(contract.picture)
    names = {output.name for output in contract.outputs}
    answers = []
    for index, golden in enumerate(contract.golden):
        if set(golden.expected) != names:
            raise ContractError(f"{engine.path}: golden frame {index}: values for {', '.join(sorted(names))} expected")
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
        engine.invoke()
        tolerance = contract.tolerance + (0.0 if same else OTHER_PIXELS_TOLERANCE)
        tolerance += BF16_TOLERANCE if engine.name == "openvino-bf16" else 0.0
        answers.append(({name: engine.output(name) for name in names}, tolerance))
    return answers


def _other_pixels(index: int, contract: Contract) -> str:
    versions = contract.provenance.versions
    trained = next((f"{name}=={versions[name]}" for name in OPENCV_PACKAGES if name in versions), "")
    return (
        f"golden frame {index}: the picture that it was trained with expected, OpenCV {cv2.__version__} makes another "
        f"of it; install the OpenCV of the training: pip install {trained or OPENCV_PACKAGES[0]}"
    )


def _require_dependence(engine: Engine, contract: Contract, answers: list[dict[str, float]]) -> None:
    """A model that ignores its input may pass a wide tolerance; frames with different answers show it."""
    for output in contract.outputs:
        expected = [golden.expected[output.name] for golden in contract.golden]
        found = [answer[output.name] for answer in answers]
        if max(expected) - min(expected) > contract.tolerance and max(found) == min(found):
            raise ModelFileError(
                f"{engine.path}: {output.name} is {found[0]:.6f} for every golden frame; the model ignores its input"
            )
