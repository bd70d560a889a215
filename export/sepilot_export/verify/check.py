"""Every exported file against the training model, frame by frame, through the interpreter that will run it on the car.

Needs neither TensorFlow nor Keras: the training model's answers lie in reference.npz.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.failures import Failure, failures_in
from sepilot_export.convert.formats import FORMATS, GateLimits, format_named
from sepilot_export.convert.int8_as_onnx import Twin, twin_of
from sepilot_export.verify.causes import advice_of
from sepilot_export.verify.fidelity import measure
from sepilot_export.verify.file_check import Candidate, FileCheck, Origin
from sepilot_export.verify.gates import (
    Fault,
    Kind,
    contract_reasons,
    faults_of,
    override,
    preprocessing_reasons,
    remarks,
)
from sepilot_export.verify.reference import EXPORT_NAME, Reference
from sepilot_runtime.base.documents import parse
from sepilot_runtime.base.errors import ContractError, ModelFileError, RunError, UsageError
from sepilot_runtime.base.files import gzip_size, read_json
from sepilot_runtime.engine.golden import verify_golden
from sepilot_runtime.engine.model_file import MODEL_SUFFIXES, read_model_file
from sepilot_runtime.engine.pilot import Pilot, load_pilot

__all__ = ["candidates_of", "check_file", "check_files", "not_exported", "stand_in"]

Tick = Callable[[], None]
"""Told of every frame that was run."""


def candidates_of(folder: Path, gates: Sequence[str] = ()) -> list[Candidate]:
    """The files that export.json lists, each with the gates that it was exported with, or those of `gates.override`.

    Raises:
        RunError: no export directory, export.json is damaged, or there is a model file that it does not list.
        UsageError: see `gates.override`.
    """
    if folder.suffix in MODEL_SUFFIXES and folder.is_file():
        read_model_file(folder)  # What has no contract says what to do about it.
    if not folder.is_dir():
        raise RunError(
            f"{folder}: a directory of `sepilot export` expected, found {'a file' if folder.exists() else 'nothing'}"
        )
    where = folder / EXPORT_NAME
    record = read_json(where, RunError)
    try:
        listed = [
            (folder / Path(f["file"]).name, format_named(f["format"]), f["limits"], twin_of(f, where),
             Origin.of(record, f))
            for f in record["files"]
        ]  # fmt: skip
    except (KeyError, TypeError, UsageError) as e:
        raise RunError(f"{where}: damaged, export again: {e}") from e
    found = [
        Candidate(
            path=path,
            form=form,
            limits=override(
                parse(GateLimits, limits, f"{where}: limits", RunError, complete=True), form.precision, gates
            ),
            twin=twin,
            origin=origin,
        )
        for path, form, limits, twin, origin in listed
    ]
    strangers = sorted(p for p in folder.iterdir() if p.suffix in MODEL_SUFFIXES and p not in {c.path for c in found})
    if strangers:
        raise RunError(f"{strangers[0]}: not of this export ({EXPORT_NAME} does not list it); move it elsewhere")
    if not found:
        raise RunError(f"{where}: lists no files")
    order = [f.name for f in FORMATS]
    return sorted(found, key=lambda c: order.index(c.form.name))


def not_exported(folder: Path) -> tuple[Failure, ...]:
    """The formats that `sepilot export` was asked for and could not make.

    Raises:
        RunError: export.json is damaged.
    """
    where = folder / EXPORT_NAME
    return failures_in(read_json(where, RunError), where)


def check_files(
    candidates: Sequence[Candidate], reference: Reference, tick: Tick = lambda: None
) -> Iterator[FileCheck]:
    """Check one file after the other, a twin after its TFLite file."""
    done: dict[str, FileCheck] = {}
    for candidate in candidates:
        check = check_file(candidate, reference, tick)
        if candidate.twin is not None:
            check = _held_against(check, candidate.twin, done.get(candidate.twin.of))
        if not check.passed:
            check = dataclasses.replace(check, advice=advice_of(check, done, reference))
        done[candidate.form.name] = check
        yield check


def _held_against(check: FileCheck, twin: Twin, origin: FileCheck | None) -> FileCheck:
    """The check of a twin with what its TFLite file's answers say about it."""
    if not check.answers.size:
        return check
    if origin is None or not origin.answers.size:
        return dataclasses.replace(check, notes=(*check.notes, f"not held against {twin.of}, which gave no answers"))
    (twin_output, *_) = twin.output_steps or ("",)
    steps = twin.distance({twin_output: check.answers}, {twin_output: origin.answers})
    check = dataclasses.replace(check, twin_steps=steps)
    if steps <= twin.allowed_steps:
        return check
    text = f"{steps:g} output steps from {twin.of}, whose twin it is, at most {twin.allowed_steps} allowed"
    return dataclasses.replace(check, faults=(*check.faults, Fault(kind=Kind.TWIN, text=text)))


def check_file(candidate: Candidate, reference: Reference, tick: Tick = lambda: None) -> FileCheck:
    """Load a file, run its golden frames and all frames of the reference, and judge it.

    What is wrong with the file becomes a reason, not an error.
    """
    path = candidate.path
    try:
        pilot = load_pilot(path, verify=False, engine=candidate.engine)
    except (ModelFileError, ContractError) as e:
        return _failed(candidate, [_fault(Kind.OPENING, e, path)], opened=False)
    found = contract_reasons(pilot.contract, reference.contract, candidate.form)
    faults = [Fault(kind=Kind.CONTRACT, text=text) for text in found]
    golden = None
    try:
        golden = max(verify_golden(pilot.engine).values())
    except (ModelFileError, ContractError) as e:
        faults.append(_fault(Kind.GOLDEN, e, path))
    if pilot.contract.input_shape != reference.contract.input_shape:
        return _failed(candidate, faults, opened=True)
    try:
        answers = _run(pilot, reference, tick)
    except ModelFileError as e:
        return _failed(candidate, [*faults, _fault(Kind.ANSWERS, e, path)], opened=True)
    output = reference.contract.outputs[0]
    fidelity = measure(answers, reference.predictions, reference.labels, reference.drives, reference.pictures, output)
    inside = preprocessing_reasons(answers, reference.plain.get(candidate.form.name), output)
    return FileCheck(
        candidate=candidate,
        bytes=path.stat().st_size,
        gzip_bytes=gzip_size(path),
        answers=answers,
        fidelity=fidelity,
        task=reference.task(answers),
        golden_error=golden,
        opened=True,
        faults=(
            *faults,
            *faults_of(fidelity, candidate.limits, output, len(answers)),
            *(Fault(kind=Kind.PREPROCESSING, text=text) for text in inside),
        ),
        notes=tuple(remarks(fidelity, candidate.limits, output)),
    )


def _failed(candidate: Candidate, faults: Sequence[Fault], *, opened: bool) -> FileCheck:
    return FileCheck(
        candidate=candidate,
        bytes=candidate.path.stat().st_size if candidate.path.is_file() else 0,
        gzip_bytes=gzip_size(candidate.path) if candidate.path.is_file() else 0,
        answers=np.empty(0, np.float32),
        fidelity=None,
        task=None,
        golden_error=None,
        opened=opened,
        faults=tuple(faults),
    )


def _run(pilot: Pilot, reference: Reference, tick: Tick) -> NDArray[np.float32]:
    answers = np.empty(len(reference.pictures), np.float32)
    name = pilot.contract.outputs[0].name
    infer = pilot.infer_picture if reference.frames is None else pilot.infer
    for i, pixels in enumerate(reference.pictures if reference.frames is None else reference.frames):
        for vector, values in reference.vectors.items():
            pilot.vectors[vector][:] = values[i]
        answers[i] = infer(pixels)[name].item()
        tick()
    return answers


def _fault(kind: Kind, error: Exception, path: Path) -> Fault:
    return Fault(kind=kind, text=str(error).removeprefix(f"{path}: "))


def stand_in(checks: Sequence[FileCheck]) -> FileCheck:
    """The float32 file that may stand in for the training model where that is not at hand.

    Raises:
        UsageError: none has passed.
    """
    for check in checks:
        if check.passed and check.candidate.form.precision == "float32":
            return check
    raise UsageError(
        "--drives: other drives are compared with a float32 file that passed on the held-out frames, and there is none"
    )
