"""Why a file fails its check, where its figures tell, and what to do next. Where they do not, nothing is said."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.ranges import as_input
from sepilot_export.verify.file_check import Advice
from sepilot_export.verify.gates import Kind
from sepilot_export.verify.reference import Reference
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.base.processor import NO_VNNI, int8_kernels
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of

if TYPE_CHECKING:
    from sepilot_export.verify.file_check import FileCheck

__all__ = ["advice_of"]

WORST = 64
"""Frames with the largest errors, on which a file is computed once more."""

LOSSES, SATURATED = frozenset({"max_error", "mae_increase", "sign_flips"}), "saturated"
"""Gates."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Case:
    """A file that fails, beside the files of the same export that were checked before it, by format."""

    check: FileCheck
    others: Mapping[str, FileCheck]
    reference: Reference
    kernels: str

    @property
    def kinds(self) -> set[Kind]:
        return {fault.kind for fault in self.check.faults}

    @property
    def gates(self) -> set[str]:
        """Those that were not kept."""
        return {fault.gate for fault in self.check.faults if fault.gate}

    def outputs(self, *kinds: Kind, gates: Collection[str] = ()) -> list[Output]:
        """Those that were at fault in one of these ways; all of them for what is about the file as a whole."""
        faults = [fault for fault in self.check.faults if fault.kind in kinds or fault.gate in gates]
        named = {fault.output for fault in faults}
        return [o for o in self.reference.contract.outputs if o.name in named or "" in named]

    def allowed(self, output: Output) -> float:
        """The largest error that the file may make, in the output's unit; infinity where no gate goes by it."""
        limit: float = self.check.candidate.limits[output.name].get("max_error", math.inf)
        return limit * output.full_scale

    def passing(self, *formats: str) -> list[str]:
        """Those of `formats` that were checked and passed."""
        return [name for name in formats if name in self.others and self.others[name].passed]


def advice_of(check: FileCheck, others: Mapping[str, FileCheck], reference: Reference) -> Advice | None:
    """Why a file that failed did so.

    Args:
        others: files of the same export by format, checked before this one.
    """
    case = _Case(check=check, others=others, reference=reference, kernels=int8_kernels())
    found = (rule(case) for rule in (_changed, _foreign, _kernels, _golden, _preprocessing, _narrow_output, _loss))
    return next((advice for advice in found if advice is not None), None)


def _changed(case: _Case) -> Advice | None:
    candidate = case.check.candidate
    if not candidate.path.is_file():
        return Advice(cause="the export wrote it and it is no longer there", next_step="copy it again, or export again")
    if candidate.origin.sha256 in (None, sha256_of(candidate.path)):
        return None
    return Advice(
        cause="it is not the file that the export wrote: export.json has another SHA-256",
        next_step="copy it again from where it was exported, or export again",
    )


def _foreign(case: _Case) -> Advice | None:
    if Kind.CONTRACT not in case.kinds:
        return None
    return Advice(cause="it is of another training run, or was renamed", next_step="export again into a new directory")


def _kernels(case: _Case) -> Advice | None:
    """The same file with its int8 parts computed in float32: where that is right, the file is, and the kernels are not.

    ONNX Runtime does so without its optimizations. What `kernels` are called is only said, it decides nothing.
    """
    check, form = case.check, case.check.candidate.form
    if form.suffix != "onnx" or not form.precision.startswith("int8") or not check.outputs:
        return None
    found = (_kernel_advice(case, output) for output in case.outputs(Kind.GOLDEN, Kind.TWIN, gates=LOSSES))
    return next((advice for advice in found if advice is not None), None)


def _kernel_advice(case: _Case, output: Output) -> Advice | None:
    check, name, distance = case.check, output.name, task_of(output).distance
    expected, allowed = case.reference.predictions[name], case.allowed(output)
    twin = check.candidate.twin
    if twin is not None and Kind.TWIN in case.kinds:
        step = max(twin.step_of(tensor) for tensor in output.tensors)
        expected, allowed = case.others[twin.of].answers[name], twin.allowed_steps * step * output.scale
    error = distance(check.answers[name], expected)
    index = np.argsort(-error, kind="stable")[:WORST]
    here, there = float(error.max()), float(distance(_in_float32(case, output, index), expected[index]).max())
    if not there <= min(here / 2, allowed):
        return None
    made_on = check.candidate.origin.int8_kernels
    kernels = case.kernels + (f"; exported on {made_on}" if made_on not in (None, case.kernels) else "")
    why = ": their 16-bit sums saturate" if case.kernels == NO_VNNI else ""
    errors = f"at most {there:.3g} {output.unit} off", f"not {here:.3g}"
    others = case.passing("int8.tflite", "float16.onnx", "float32.onnx")[:1]
    return Advice(
        cause=f"this processor's int8 kernels ({kernels}){why}; computed in float32 the same file is {errors[0]} on "
        f"its {len(index)} worst frames, {errors[1]}",
        next_step="export again with this version" + "".join(f", or take {name}" for name in others),
    )


def _in_float32(case: _Case, output: Output, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the file says to these frames without the processor's int8 kernels."""
    import onnxruntime as ort

    reference = case.reference
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(case.check.candidate.path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name, head = reference.contract.input_name, output.name
    if reference.frames is None:
        inputs = [as_input(picture) for picture in reference.pictures[index]]
    else:
        inputs = [frame[np.newaxis] for frame in reference.frames[index]]
    beside = [{n: values[[i]] for n, values in reference.vectors.items()} for i in index]
    feeds = [{name: image, **vectors} for image, vectors in zip(inputs, beside, strict=True)]
    return np.concatenate([session.run([head], feed)[0] for feed in feeds])


def _golden(case: _Case) -> Advice | None:
    if case.kinds != {Kind.GOLDEN}:
        return None
    return Advice(
        cause="its answers to the held-out frames are right, so its golden frames are another model's, or were made "
        "with another crop or resize",
        next_step="export again with this version",
    )


def _preprocessing(case: _Case) -> Advice | None:
    if Kind.PREPROCESSING not in case.kinds:
        return None
    candidate, reference = case.check.candidate, case.reference
    for output in case.outputs(Kind.PREPROCESSING):
        plain = reference.plain[candidate.form.name][output.name]
        error = task_of(output).distance(plain, reference.predictions[output.name]).max()
        if error > case.allowed(output):
            return None
    return Advice(
        cause="the preprocessing inside the file, not the net: without it the same file keeps its limits",
        next_step="export again with this version, or without --with-preprocessing",
    )


def _narrow_output(case: _Case) -> Advice | None:
    """Right but for the frames at its own last answer; or the training model has such a last answer itself."""
    found = (_narrow_advice(case, output) for output in case.outputs(gates=(SATURATED,)))
    return next((advice for advice in found if advice is not None), None)


def _narrow_advice(case: _Case, output: Output) -> Advice | None:
    candidate, task = case.check.candidate, task_of(output)
    both = (case.check.answers[output.name], case.reference.predictions[output.name])
    said, expected = (np.clip(task.reading(answers), *task.span) for answers in both)
    inside = (said > said.min()) & (said < said.max())
    if task.distance(*both)[inside].max(initial=0.0) > case.allowed(output):
        return None
    for ours, theirs in ((said.max(), expected.max()), (-said.min(), -expected.min())):
        if theirs - ours > 0.01 * output.full_scale:
            more = candidate.form.needs_calibration and not candidate.origin.of_training
            ends = f"{ours:.1f} {output.unit}", f"{theirs:.1f}"
            return Advice(
                cause=f"its answers end at {ends[0]} to one side, the training model's at {ends[1]}: the range of its "
                "output is too narrow",
                next_step="export again with more --calibration-frames" if more else "export again with this version",
            )
    return Advice(
        cause="the training model itself gives its last answer to many different pictures: part of it has died",
        next_step="train again; no file of this run can do better",
    )


def _loss(case: _Case) -> Advice | None:
    """The precision costs too much: the float32 file of the same kind passes."""
    candidate = case.check.candidate
    form, origin = candidate.form, candidate.origin
    float32 = f"float32.{form.suffix}"
    if (
        not case.kinds <= {Kind.GATE, Kind.GOLDEN}
        or not case.gates <= {*LOSSES, SATURATED}
        or not case.passing(float32)
        or form.precision == "float32"
    ):
        return None
    other = f"take {(case.passing(f'float16.{form.suffix}') or [float32])[0]}"
    if not form.needs_calibration or origin.of_training:
        step = other
    elif origin.max_drop is None:
        step = f"export again with --max-drop 0.5deg, which keeps the worst layers in float32, or {other}"
    else:
        step = f"export again with a smaller --max-drop than {origin.max_drop:g}, or {other}"
    return Advice(cause=f"{form.precision} itself: {float32} passes", next_step=step)
