"""Every exported file against the training model, frame by frame, through the interpreter that will run it on the car.

Needs neither TensorFlow nor Keras: the training model's answers lie in reference.npz.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.formats import FORMATS, format_named
from sepilot_export.convert.int8_as_onnx import Twin
from sepilot_export.record.exports import EXPORT_NAME, Export, ExportedFile, read_export
from sepilot_export.verify.causes import advice_of
from sepilot_export.verify.fidelity import measure
from sepilot_export.verify.file_check import Candidate, FileCheck, Origin, OutputCheck
from sepilot_export.verify.gates import (
    Fault,
    Kind,
    contract_reasons,
    faults_of,
    override,
    preprocessing_reasons,
    remarks,
)
from sepilot_export.verify.reference import Reference, read_reference
from sepilot_runtime.base.errors import ContractError, ModelFileError, RunError, UsageError
from sepilot_runtime.base.files import gzip_size
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.engine.golden import verify_golden
from sepilot_runtime.engine.model_file import MODEL_SUFFIXES, read_model_file
from sepilot_runtime.engine.pilot import Pilot, answers_to, fed, load_pilot

__all__ = ["candidates_of", "check_file", "check_files", "inputs_of", "stand_in"]

Infer = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]

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
        what = "a file, which --data PATH scores on labelled data" if folder.exists() else "nothing"
        raise RunError(f"{folder}: a directory of `sepilot export` expected, found {what}")
    record = read_export(folder)
    older = any(not file.outputs for file in record.files)
    outputs = [output.name for output in read_reference(folder).contract.outputs] if older else []
    found = [_candidate(folder, record, file, outputs, gates) for file in record.files]
    strangers = sorted(p for p in folder.iterdir() if p.suffix in MODEL_SUFFIXES and p not in {c.path for c in found})
    if strangers:
        raise RunError(f"{strangers[0]}: not of this export ({EXPORT_NAME} does not list it); move it elsewhere")
    if not found:
        raise RunError(f"{folder / EXPORT_NAME}: lists no files")
    order = [f.name for f in FORMATS]
    return sorted(found, key=lambda c: order.index(c.form.name))


def _candidate(
    folder: Path, record: Export, file: ExportedFile, outputs: Sequence[str], gates: Sequence[str]
) -> Candidate:
    """`outputs`: whose the limits are where an older export does not say it."""
    form = format_named(file.format)
    limits = {name: found.limits for name, found in file.outputs.items()} or dict.fromkeys(outputs, file.limits)
    return Candidate(
        path=folder / Path(file.file).name,
        form=form,
        limits=override(limits, form.precision, gates),
        twin=file.twin,
        origin=Origin(
            sha256=file.sha256 or None,
            int8_kernels=record.processor.int8_kernels if record.processor else None,
            max_drop=record.max_drop,
            of_training=file.of_training,
        ),
    )


def check_files(
    candidates: Sequence[Candidate], reference: Reference, tick: Tick = lambda: None
) -> Iterator[FileCheck]:
    """Check one file after the other, a twin after its TFLite file."""
    _require_limits(candidates, reference)
    done: dict[str, FileCheck] = {}
    for candidate in candidates:
        check = check_file(candidate, reference, tick)
        if candidate.twin is not None:
            check = _held_against(check, candidate.twin, done.get(candidate.twin.of), reference)
        if not check.passed:
            check = dataclasses.replace(check, advice=advice_of(check, done, reference))
        done[candidate.form.name] = check
        yield check


def _require_limits(candidates: Sequence[Candidate], reference: Reference) -> None:
    """Raises RunError: an export of another sepilot, whose gates are not all of today's."""
    for candidate in candidates:
        for output in reference.contract.outputs:
            known = candidate.limits.get(output.name, {})
            if missing := [rule.name for rule in task_of(output).gates() if rule.name not in known]:
                raise RunError(
                    f"{candidate.path.parent / EXPORT_NAME}: {candidate.form.name}: a limit of {output.name}'s "
                    f"{missing[0]} expected, found {', '.join(known) or 'none'}; export again"
                )


def _held_against(check: FileCheck, twin: Twin, origin: FileCheck | None, reference: Reference) -> FileCheck:
    """The check of a twin with what its TFLite file's answers say about it."""
    if not check.outputs:
        return check
    if origin is None or not origin.outputs:
        return dataclasses.replace(check, notes=(*check.notes, f"not held against {twin.of}, which gave no answers"))
    steps = twin.distance(check.answers, origin.answers, reference.contract.outputs)
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
    differs = contract_reasons(pilot.contract, reference.contract, candidate.form)
    faults = [Fault(kind=Kind.CONTRACT, text=text) for text in differs]
    golden = None
    try:
        golden = max(verify_golden(pilot.engine).values())
    except (ModelFileError, ContractError) as e:
        faults.append(_fault(Kind.GOLDEN, e, path))
    lost = {output.name for output in reference.contract.outputs} - {output.name for output in pilot.contract.outputs}
    if pilot.contract.input_shape != reference.contract.input_shape or lost:
        return _failed(candidate, faults, opened=True)
    try:
        answers = answers_to(*inputs_of(pilot, reference, tick))
    except ModelFileError as e:
        return _failed(candidate, [*faults, _fault(Kind.ANSWERS, e, path)], opened=True)
    found: dict[str, OutputCheck] = {}
    notes: list[str] = []
    for output in reference.contract.outputs:
        own, kept, its = _judged(candidate, reference, output, answers[output.name])
        found[output.name], faults, notes = own, [*faults, *kept], [*notes, *its]
    return FileCheck(
        candidate=candidate,
        bytes=path.stat().st_size,
        gzip_bytes=gzip_size(path),
        outputs=found,
        golden_error=golden,
        opened=True,
        faults=tuple(faults),
        notes=tuple(dict.fromkeys(notes)),
    )


def _judged(
    candidate: Candidate, reference: Reference, output: Output, answers: NDArray[np.float32]
) -> tuple[OutputCheck, list[Fault], list[str]]:
    """One output's figures, why it fails, and what could not be decided."""
    name, limits = output.name, candidate.limits[output.name]
    fidelity = measure(
        answers, reference.predictions[name], reference.labels[name], reference.drives, reference.pictures, output
    )
    plain = reference.plain.get(candidate.form.name, {}).get(name)
    inside = preprocessing_reasons(answers, plain, output)
    faults = [
        *faults_of(fidelity, limits, output, len(answers)),
        *(Fault(kind=Kind.PREPROCESSING, text=text, output=name) for text in inside),
    ]
    if len(reference.contract.outputs) > 1:
        faults = [dataclasses.replace(fault, text=f"{name}: {fault.text}") for fault in faults]
    found = OutputCheck(answers=answers, fidelity=fidelity, task=reference.task(name, answers))
    return found, faults, list(remarks(fidelity, limits, output))


def _failed(candidate: Candidate, faults: Sequence[Fault], *, opened: bool) -> FileCheck:
    return FileCheck(
        candidate=candidate,
        bytes=candidate.path.stat().st_size if candidate.path.is_file() else 0,
        gzip_bytes=gzip_size(candidate.path) if candidate.path.is_file() else 0,
        outputs={},
        golden_error=None,
        opened=opened,
        faults=tuple(faults),
    )


def inputs_of(
    pilot: Pilot, reference: Reference, tick: Tick = lambda: None
) -> tuple[Infer, Iterator[NDArray[np.uint8]]]:
    """How the file is asked, and what; vectors are put in place as their picture comes."""

    def told() -> Iterator[NDArray[np.uint8]]:
        items = reference.pictures if reference.frames is None else reference.frames
        for pixels in fed(pilot, items, reference.vectors):
            yield pixels
            tick()

    return (pilot.infer_picture if reference.frames is None else pilot.infer), told()


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
