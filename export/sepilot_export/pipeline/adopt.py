"""A model file that was made elsewhere, brought under a contract: from then on it is a file like every other.

A .tflite or .onnx file is wrapped so that it takes what all of ours take, and held against another interpreter than
runs it. A Keras net gets layers around it that do the same, is exported as a trained one is, and held against Keras.
What is written is what an export writes; it appears when a file has passed its golden frames and its gates, and the
labels have nothing against the statement.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import deploy, support
from sepilot_export.convert.formats import Format, limits_of
from sepilot_export.convert.inputs import ExportInputs
from sepilot_export.convert.keras_source import under_contract
from sepilot_export.convert.stated import Plan, StatedContract
from sepilot_export.convert.wrapping import wrap_onnx, wrap_tflite
from sepilot_export.pipeline.adoption_frames import AdoptionFrames, adoption_frames, evenly
from sepilot_export.pipeline.export import Written, write_export
from sepilot_export.pipeline.foreign import Foreign
from sepilot_export.pipeline.ready import Ready
from sepilot_export.quantize.int8 import Int8Options
from sepilot_export.record.exports import TOOLS, SeenDrive, SeenDrives
from sepilot_export.verify.check import check_file
from sepilot_export.verify.file_check import Candidate
from sepilot_export.verify.gates import drop_from
from sepilot_export.verify.label_fit import label_faults, no_better, other_pictures
from sepilot_export.verify.reference import Answers, Reference
from sepilot_runtime.base.errors import ModelFileError, RunError
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.contract.contract import Contract, Golden, Output, Provenance, golden_from
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import golden_copy, picture_of
from sepilot_runtime.device.conditions import versions
from sepilot_runtime.drive.novelty import statistics_of
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.base.cache import PictureSet, load_pictures
from sepilot_train.base.quiet import quiet

__all__ = ["adopt"]

LABEL_FRAMES = 500
"""That other statements are tried on."""

FLOAT_ERROR = 1e-4
"""In place of what float32 formats allow against their own model: two interpreters add in another order."""


def adopt(
    foreign: Foreign, stated: StatedContract, drives: Sequence[Drive], reader: ReaderOptions, out: Path, *,
    max_drop: str = "", command: str = "", accept_labels: bool = False, progress: bool = False,
) -> tuple[Written, list[str]]:  # fmt: skip
    """Write the new directory `out`, if nothing speaks against it.

    Args:
        drives: recordings, whose labels judge where there are any; int8 files are calibrated on every other frame.
        max_drop: see `drop_from`; "" for int8 come what may.
        accept_labels: what the labels have against the statement is a warning.

    Returns:
        What was written, and what the labels have against the statement, a line each; no files where that counts.

    Raises:
        UsageError: the statement does not fit the file, or not the drives.
        DriveError: no frame can be read.
        RunError, ModelFileError: the file cannot be wrapped or run, or answers otherwise than its reference.
        OutputError: `out` cannot be written.
    """
    stated, notes = _settled(stated, drives)
    plan = foreign.plan(stated)
    int8 = Int8Options(max_drop=drop_from(max_drop, plan.outputs[0]) if max_drop else None)
    known = sorted({o.name for o in plan.outputs}.intersection(*(d.labels for d in drives)))
    sets = [load_pictures(d, plan.picture, labels=known, progress=progress) for d in drives]
    frames, lacking = adoption_frames(sets, plan, foreign.most_frames(plan))
    expected = foreign.answers(plan, frames.pictures, frames.vectors)
    stated, told = _found_out(stated, plan, expected)
    plan = foreign.plan(stated)
    notes += [*told, *lacking]
    _require_dependence(foreign, plan, expected)
    against = _held_against_labels(foreign, stated, plan, frames, expected)
    if against and not accept_labels:
        return Written(files=(), warnings=tuple(notes), left_out=(), failed=()), against
    notes += [*against, *no_better(plan.outputs, expected, frames.labels, frames.drives), *_single(foreign)]
    contract = _contract(foreign, stated, plan, sets, frames, expected)
    written = _write(foreign, plan, contract, frames, expected, notes, out, int8=int8, command=command,
                     seen=_seen(sets, reader))  # fmt: skip
    return written, []


def _single(foreign: Foreign) -> list[str]:
    line = f"held against {foreign.reference.name}, which runs it: nobody else has checked its answers"
    return [line] if foreign.single else []


def _settled(stated: StatedContract, drives: Sequence[Drive]) -> tuple[StatedContract, list[str]]:
    """The statement with what the recordings know of its outputs, and what a person should know of that."""
    found = {name: output.settled(name, drives) for name, output in stated.outputs.items()}
    outputs = {name: output for name, (output, _) in found.items()}
    return dataclasses.replace(stated, outputs=outputs), [line for _, line in found.values() if line]


def _found_out(stated: StatedContract, plan: Plan, expected: Answers) -> tuple[StatedContract, list[str]]:
    """The statement with what the answers tell of its outputs, and what a person should know of that."""
    found = {n: output.found_out(n, plan.taken[n], expected[n]) for n, output in stated.outputs.items()}
    outputs = {name: output for name, (output, _) in found.items()}
    return dataclasses.replace(stated, outputs=outputs), [line for _, line in found.values() if line]


def _require_dependence(foreign: Foreign, plan: Plan, expected: Answers) -> None:
    for output in plan.outputs:
        said = expected[output.name]
        if np.ptp(said, axis=0).max() < 1e-6:
            task = task_of(output)
            raise RunError(
                f"{foreign.path}: {output.name} is {task.words(task.decode(said[:1]))} for each of {len(said)} frames: "
                "it does not depend on its picture as it was stated"
            )


def _held_against_labels(
    foreign: Foreign, stated: StatedContract, plan: Plan, frames: AdoptionFrames, expected: Answers
) -> list[str]:
    """What the labels of some frames have against the statement; nothing where there are none."""
    tasks = {output.name: task_of(output) for output in plan.outputs}
    labelled = np.flatnonzero(np.any([task.known(frames.labels[n]) for n, task in tasks.items()], axis=0))
    index = evenly(labelled, LABEL_FRAMES)
    some = frames.take(index)

    def under(other: StatedContract) -> Answers:
        changed = foreign.plan(other)
        pictures = some.pictures if changed.picture == plan.picture else some.again(changed.picture)
        return foreign.answers(changed, pictures, some.vectors)

    said = {name: answers[index] for name, answers in expected.items()}
    others: dict[str, Callable[[], Answers]] = {}
    for output in plan.outputs:
        name = output.name
        for words, answers in stated.outputs[name].restated(output, said[name], some.labels[name]):
            others[words] = functools.partial(dict, {name: answers})
    others |= {words: functools.partial(under, other) for words, other in other_pictures(stated, plan)}
    return label_faults(plan.outputs, said, some.labels, some.drives, others)


def _contract(
    foreign: Foreign, stated: StatedContract, plan: Plan, sets: Sequence[PictureSet], frames: AdoptionFrames,
    expected: Answers,
) -> Contract:  # fmt: skip
    said = repr((sha256_of(foreign.path), stated))
    return Contract(
        inputs=(plan.picture, *plan.vectors),
        outputs=plan.outputs,
        tolerance={o.name: 1e-3 for o in plan.outputs},
        provenance=Provenance(
            recipe=re.sub(r"[^\w.-]+", "_", foreign.path.stem)[:80] or "adopted",
            recipe_sha256=hashlib.sha256(said.encode()).hexdigest(),
            dataset_fingerprint=hashlib.sha256("".join(s.fingerprint for s in sets).encode()).hexdigest(),
            drives=(),
            validation_drives=tuple(s.drive.id for s in sets),
            validation={},
            versions=versions(TOOLS),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        ),
        statistics=statistics_of(frames.pictures),
        golden=_golden(foreign, plan, frames, expected),
    )


def _golden(foreign: Foreign, plan: Plan, frames: AdoptionFrames, expected: Answers) -> tuple[Golden, ...]:
    """Small copies of frames from one end of the first output's answers to the other, with what is said to them."""
    some = frames.take(evenly(task_of(plan.outputs[0]).ordered(expected[plan.outputs[0].name]), 3))
    copies = [golden_copy(some.as_taken(i)) for i in range(len(some))]
    pictures = [picture_of(frame, plan.picture) for frame in copies]
    said = foreign.answers(plan, pictures, some.vectors)
    answers, vectors = (
        [{n: v[i] for n, v in found.items()} for i in range(len(some))] for found in (said, some.vectors)
    )
    return tuple(map(golden_from, copies, answers, pictures, vectors))


def _seen(sets: Sequence[PictureSet], reader: ReaderOptions) -> SeenDrives:
    seen = tuple(SeenDrive(id=s.drive.id, fingerprint=s.fingerprint, train=0, validation=len(s.drive)) for s in sets)
    return SeenDrives(reader=reader, filter=DriveFilter(), seen=seen)


def _write(
    foreign: Foreign, plan: Plan, contract: Contract, frames: AdoptionFrames, expected: Answers, notes: list[str],
    out: Path, *, int8: Int8Options, command: str, seen: SeenDrives,
) -> Written:  # fmt: skip
    """The files, each of which answers as the reference does. Raises RunError where there is none."""
    model, deployed, parity, unfit = _net(foreign, plan, frames)
    formats = [_form(form) for form in foreign.formats if not (unfit and form.needs_calibration)]
    if len(formats) < len(foreign.formats):
        notes.append(f"no int8 files: {unfit}")
    if not formats:
        raise RunError(f"{foreign.path}: {notes[-1]}")
    calibrates = model is not None and any(form.needs_calibration for form in formats)
    source, reference = _judges(foreign, contract, frames, expected, 2 if calibrates else 1)
    limits = {form.name: limits_of(form, {}, plan.outputs, int8.max_drop) for form in formats}

    def prove(path: Path, form: Format) -> None:
        check = check_file(Candidate(path=path, form=form, limits=limits[form.name]), reference)
        # A net that answers the same to many pictures is what it is; so does its reference.
        notes.extend(f"{form.name}: {fault.text}" for fault in check.faults if fault.gate == "saturated")
        if reasons := [fault.text for fault in check.faults if fault.gate != "saturated"]:
            raise ModelFileError(f"does not answer as {reference.source} does: {'; '.join(reasons)}")

    with quiet("wrapping"):
        contents = {} if model else {form.name: _wrapped(foreign.content, plan, form) for form in formats}
    ready = Ready(
        model=model, deployed=deployed, parity=parity, reference=reference, frames=None, limits=limits,
        broken=support.unsupported(model, formats, repaired=int8.max_drop is not None) if model else (),
        contents=contents, prove=prove, seen=seen, notes=notes,
    )  # fmt: skip
    return write_export(source, ready, formats, out, int8=int8, command=command)


def _judges(
    foreign: Foreign, contract: Contract, frames: AdoptionFrames, expected: Answers, every: int
) -> tuple[ExportInputs, Reference]:
    """What an export starts from, and what its files are held against: every so many frames, others to calibrate on."""
    index = np.arange(every - 1, len(frames), every)
    held, saved = frames.take(index), {name: values[index] for name, values in expected.items()}
    constant = {o.name: _constant(o, frames.labels[o.name]) for o in contract.outputs}
    return ExportInputs(
        model_path=foreign.path, contract=contract, gates={}, training=frames.take(np.arange(0, len(frames), every)),
        held_out=held, saved=saved, constant=constant,
    ), Reference(
        pictures=np.asarray(held.pictures), drives=held.drives, names=held.names, labels=held.labels,
        predictions=saved, constant=constant, contract=contract, source=foreign.reference.name, vectors=held.vectors,
    )  # fmt: skip


def _constant(output: Output, labels: NDArray[np.float32]) -> Any:
    """The answer that costs nothing; zeros where nobody knows it."""
    task = task_of(output)
    known = labels[task.known(labels)]
    return task.constant(known) if len(known) else np.zeros(output.shape).tolist() if output.shape != (1,) else 0.0


def _wrapped(content: bytes, plan: Plan, form: Format) -> bytes:
    return (wrap_onnx if form.suffix == "onnx" else wrap_tflite)(content, plan)


def _form(form: Format) -> Format:
    limits = {**form.limits, **{gate: max(form.limits[gate], FLOAT_ERROR) for gate in ("max_error", "mae_increase")}}
    return dataclasses.replace(form, tolerance=max(form.tolerance, 10 * FLOAT_ERROR), limits=limits)


def _net(foreign: Foreign, plan: Plan, frames: AdoptionFrames) -> tuple[Any, Any, float, str]:
    """A Keras net under its contract, its deploy graph, how far they are apart, and why int8 is not for it."""
    if foreign.net is None:
        return None, None, 0.0, ""
    with quiet("putting the net under its contract"):
        model = under_contract(foreign.net, plan)
    if plan.vectors:
        return model, model, 0.0, f"it takes {plan.vectors[0].name} beside the picture, and int8 is of pictures alone"
    try:
        with quiet("deploy graph"):
            deployed = deploy.plain_graph(model, plan.picture.name)
            return model, deployed, deploy.require_parity(model, deployed, frames.pictures[:32]), ""
    except (RunError, ModelFileError) as e:
        return model, model, 0.0, str(e)
