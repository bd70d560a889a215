"""Files that take the camera's frame: the preprocessing in front of each format, and the proof that it is OpenCV's.

The preprocessing is put in front of the finished file of a format (`concatenate.py`), so all of them have it, and the
part behind it is the one that was checked without. It computes in float32 whatever the file's precision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import preprocessing
from sepilot_export.convert.concatenate import join_onnx, join_tflite
from sepilot_export.convert.formats import Format, Limits
from sepilot_export.convert.in_memory import pilot_of
from sepilot_export.convert.inputs import ExportInputs
from sepilot_export.record.exports import Preprocessing
from sepilot_export.verify.raw_frames import RawFrames
from sepilot_export.verify.reference import Answers, Reference
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract, Golden, golden_frame
from sepilot_runtime.contract.preprocess import enlarge_frame, picture_of
from sepilot_runtime.engine.pilot import answers_to
from sepilot_train.base.quiet import quiet
from sepilot_train.fit.predict import predict

__all__ = ["FrameFiles"]

ROUNDING = 1
"""Gray levels by which an OpenCV of another build may round pictures differently that are resized "linear"."""

ROUNDED = 0.2
"""Share of the pixels where it may; 0.09 was seen of exact rounding."""

ROUNDING_ERROR = 0.01
"""What that may add to the error of a single frame, as a fraction of full scale.

OpenCV's resize with its last rounding done exactly, one gray level off in 9 % of the pixels, moved the answers of a net
by 0.0040 at most and by 0.0006 in the mean over 300 held-out frames of a real drive.
"""

ROUNDING_MAE = 5e-4
"""And to the task's error; -0.00005 was seen, 95 % within -0.00014 to +0.00005."""


class FrameFiles:
    """Puts the preprocessing into the files of one export.

    Attributes:
        record: for export.json, with the difference between the preprocessing in the files and OpenCV's.
    """

    def __init__(self, model: Any, source: ExportInputs, raw: RawFrames) -> None:
        """
        Args:
            model: the training model, whose answers count.

        Raises:
            RunError: the preprocessing does not give OpenCV's pictures.
        """
        contract, picture = source.contract, source.contract.picture
        self._held_out = source.held_out
        self._raw = raw
        self._graph = preprocessing.picture_graph(picture, raw.input)
        self._pictures = np.stack([picture_of(frame, picture) for frame in raw.frames])
        self._predictions = predict(model, self._pictures)
        with quiet("preprocessing"):
            self._tflite = preprocessing.to_tflite(self._graph, picture, raw.input)
        self._onnx = b""
        allowed = ROUNDING if picture.resize == "linear" else 0
        self.record = _difference(self._tflite, raw, self._pictures, allowed)
        self._contract = dataclasses.replace(contract, frame=raw.input, golden=_golden(model, contract, raw))

    def limits(self, limits: Limits) -> Limits:
        """A format's limits, with room for the rounding of an OpenCV that differs from what the files compute."""
        if self.record.largest_difference_levels == 0:
            return limits
        room = {"max_error": ROUNDING_ERROR, "mae_increase": ROUNDING_MAE}
        return {
            output: {gate: limit + room.get(gate, 0.0) for gate, limit in gates.items()}
            for output, gates in limits.items()
        }

    def put_in(self, content: bytes, contract: Contract, form: Format) -> tuple[bytes, Contract, Answers]:
        """A finished file that takes pictures, as one that takes frames, with its contract; what it said before."""
        with quiet(f"loading {form.name}"):
            pilot = pilot_of(content, form.suffix, contract)
        answers = answers_to(pilot.infer_picture, self._pictures)
        with quiet(f"preprocessing in front of {form.name}"):
            if form.suffix == "tflite":
                joined = join_tflite(self._tflite, content)
            else:
                joined = join_onnx(self._front_onnx(), content, contract.picture.name)
        looser = ROUNDING_ERROR if self.record.largest_difference_levels else 0.0
        changed = dataclasses.replace(
            contract,
            frame=self._contract.frame,
            golden=self._contract.golden,
            tolerance={name: tolerance + looser for name, tolerance in contract.tolerance.items()},
        )
        return joined, changed, answers

    def reference(self, whole: Reference, plain: Mapping[str, Answers]) -> Reference:
        """The frames with OpenCV's pictures of them and the training model's answers to those.

        Args:
            plain: what the files said to these pictures without the preprocessing, by format.
        """
        held = self._held_out.take(self._raw.index)
        return dataclasses.replace(
            whole,
            pictures=self._pictures,
            drives=held.drives,
            names=held.names,
            labels=held.labels,
            predictions=self._predictions,
            contract=self._contract,
            frames=self._raw.frames,
            plain=plain,
        )

    def _front_onnx(self) -> bytes:
        if not self._onnx:
            with quiet("preprocessing"):
                self._onnx = preprocessing.to_onnx(self._graph, self._contract.picture, self._raw.input)
        return self._onnx


def _difference(front: bytes, raw: RawFrames, pictures: NDArray[np.uint8], allowed: int) -> Preprocessing:
    """How far the file `front` is from OpenCV.

    Args:
        allowed: gray levels that another rounding explains.

    Raises:
        RunError: by more.
    """
    from ai_edge_litert.interpreter import Interpreter

    with quiet("preprocessing"):
        interpreter = Interpreter(model_content=front, num_threads=1)
        interpreter.allocate_tensors()
    (image,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    worst = differing = 0
    for frame, picture in zip(raw.frames, pictures, strict=True):
        interpreter.set_tensor(image["index"], frame[np.newaxis])
        interpreter.invoke()
        levels = np.abs(np.rint(interpreter.get_tensor(result["index"])[0] * 255.0) - picture)
        worst, differing = max(worst, int(levels.max())), differing + int(np.count_nonzero(levels))
    share = differing / pictures.size
    if worst > allowed or share > ROUNDED:
        raise RunError(
            f"--with-preprocessing: the preprocessing in the files differs from OpenCV's by up to {worst} gray levels, "
            f"in {share:.0%} of the pixels; at most {allowed} in {ROUNDED if allowed else 0:.0%} allowed"
        )
    return Preprocessing(
        height=raw.input.height, width=raw.input.width, frames=len(raw.frames), largest_difference_levels=worst,
        differing_pixels=share,
    )  # fmt: skip


def _golden(model: Any, contract: Contract, raw: RawFrames) -> tuple[Golden, ...]:
    """The golden frames with the answers to what they are in the camera's size."""
    if not contract.golden:
        return ()
    size = raw.input
    frames = [enlarge_frame(golden_frame(g), size.height, size.width) for g in contract.golden]
    answers = predict(model, np.stack([picture_of(frame, contract.picture) for frame in frames]))
    return tuple(
        dataclasses.replace(
            golden, expected={name: (float(said[i]),) for name, said in answers.items()}, picture_crc32=0
        )
        for i, golden in enumerate(contract.golden)
    )
