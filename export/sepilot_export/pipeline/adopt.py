"""A model file that was made elsewhere, brought under a contract: from then on it is a file like every other.

    NAME-float32.tflite …    the file, wrapped so that it takes what all of ours take, its contract inside
    export.json              whose answers it was held against, and on which recordings
    reference.npz            pictures with these answers, for `sepilot check`
    command.txt

A Keras net is held against Keras; a .tflite or .onnx file against another interpreter than runs it. The directory
appears when a file has passed its golden frames and its gates, and the labels have nothing against the statement.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepilot_export.convert import embed
from sepilot_export.convert.failures import Failure
from sepilot_export.convert.formats import Format, format_named
from sepilot_export.convert.stated import Plan, StatedContract
from sepilot_export.convert.wrapping import wrap_onnx, wrap_tflite
from sepilot_export.pipeline.adoption_frames import AdoptionFrames, adoption_frames, golden_of, raw_frames
from sepilot_export.pipeline.foreign import Asked, Foreign
from sepilot_export.record.exports import (
    EXPORT_NAME,
    TOOLS,
    Export,
    ExportedFile,
    OutputLimits,
    Processor,
    SeenDrive,
    SeenDrives,
)
from sepilot_export.verify.check import check_file
from sepilot_export.verify.file_check import Candidate
from sepilot_export.verify.label_fit import label_faults, no_better, other_pictures
from sepilot_export.verify.reference import REFERENCE_NAME, Answers, Reference
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import atomic_directory, gzip_size, sha256_of, write_json
from sepilot_runtime.base.processor import cpu_name, int8_kernels
from sepilot_runtime.contract.contract import Contract, Provenance
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.device.conditions import versions
from sepilot_runtime.drive.novelty import statistics_of
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.base.cache import PictureSet, load_pictures
from sepilot_train.base.quiet import quiet

__all__ = ["Adopted", "adopt"]

LABEL_FRAMES = 200
"""That other statements are tried on."""

FLOAT_ERROR = 1e-4
"""In place of what float32 formats allow against their own model: two interpreters add in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What came of it.

    Attributes:
        files: none where the labels speak against the statement; `against` says how, a line each.
        failed: formats whose file does not answer as the reference does.
        notes: what nobody could tell, a line each.
    """

    files: tuple[ExportedFile, ...]
    notes: tuple[str, ...]
    failed: tuple[Failure, ...] = ()
    against: tuple[str, ...] = ()


def adopt(
    foreign: Foreign, stated: StatedContract, drives: Sequence[Drive], reader: ReaderOptions, out: Path, *,
    command: str = "", accept_labels: bool = False, progress: bool = False,
) -> Adopted:  # fmt: skip
    """Write the new directory `out`, if nothing speaks against it.

    Args:
        drives: recordings, whose labels judge where there are any.
        accept_labels: what the labels have against the statement is a note.

    Raises:
        UsageError: the statement does not fit the file, or not the drives.
        DriveError: no frame can be read.
        RunError, ModelFileError: the file cannot be wrapped or run, or answers otherwise than its reference.
        OutputError: `out` cannot be written.
    """
    plan = foreign.plan(stated)
    asked = Asked(foreign, plan)
    known = sorted({o.name for o in plan.outputs}.intersection(*(d.labels for d in drives)))
    sets = [load_pictures(d, plan.picture, labels=known, progress=progress) for d in drives]
    frames = adoption_frames(sets, plan, asked.most_frames())
    expected = asked.answers(frames.pictures, frames.vectors)
    _require_dependence(foreign, expected)
    against = _held_against_labels(foreign, stated, plan, drives, frames, expected)
    if against and not accept_labels:
        return Adopted(files=(), against=tuple(against), notes=frames.notes)
    notes = [*frames.notes, *against, *no_better(plan.outputs, expected, frames.labels, frames.drives)]
    if foreign.single:
        notes.append(f"held against {foreign.reference.name}, which runs it: nobody else has checked its answers")
    golden = golden_of(asked, plan, drives, frames, expected[plan.outputs[0].name])
    contract = dataclasses.replace(_contract(foreign, stated, plan, sets, frames), golden=golden)
    reference = _reference(foreign, contract, frames, expected)
    with atomic_directory(out) as part:
        files, failed = _files(foreign, plan, reference, part, notes)
        reference.save(part / REFERENCE_NAME)
        (part / "command.txt").write_text(command + "\n", encoding="utf-8")
        record = _record(foreign, contract, sets, files, failed, reader, notes)
        write_json(part / EXPORT_NAME, dataclasses.asdict(record))
    return Adopted(files=tuple(files), failed=tuple(failed), notes=tuple(notes))


def _require_dependence(foreign: Foreign, expected: Answers) -> None:
    for name, said in expected.items():
        if np.ptp(said) < 1e-6:
            raise RunError(
                f"{foreign.path}: {name} is {said[0]:.4f} for each of {len(said)} frames: it does not depend on its "
                "picture as it was stated"
            )


def _held_against_labels(
    foreign: Foreign, stated: StatedContract, plan: Plan, drives: Sequence[Drive], frames: AdoptionFrames,
    expected: Answers,
) -> list[str]:  # fmt: skip
    """What the labels of some frames have against the statement; nothing where there are none."""
    labelled = np.flatnonzero(np.any([np.isfinite(values) for values in frames.labels.values()], axis=0))
    if not len(labelled):
        return []
    chosen = labelled[np.linspace(0, len(labelled) - 1, min(LABEL_FRAMES, len(labelled))).astype(int)]
    raw = raw_frames(drives, frames, chosen.tolist())
    index = list(raw)
    vectors = {name: values[index] for name, values in frames.vectors.items()}

    def under(other: StatedContract) -> Answers:
        changed = foreign.plan(other)
        return Asked(foreign, changed).answers([picture_of(f, changed.picture) for f in raw.values()], vectors)

    others = {words: lambda other=other: under(other) for words, other in other_pictures(stated, plan)}
    some = frames.take(index)
    return label_faults(plan.outputs, {n: v[index] for n, v in expected.items()}, some.labels, some.drives, others)


def _contract(
    foreign: Foreign, stated: StatedContract, plan: Plan, sets: Sequence[PictureSet], frames: AdoptionFrames
) -> Contract:
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
    )


def _files(
    foreign: Foreign, plan: Plan, reference: Reference, folder: Path, notes: list[str]
) -> tuple[list[ExportedFile], list[Failure]]:
    """The files that answer as the reference does, and why the others are left out. Raises RunError where all are."""
    files, failed = [], []
    for name, content in foreign.files.items():
        path = folder / f"{reference.contract.provenance.recipe}-{name}"
        try:
            file = _written(content, plan, reference.contract, format_named(name), path)
            limits = {output: found.limits for output, found in file.outputs.items()}
            check = check_file(Candidate(path=path, form=format_named(name), limits=limits), reference)
            # A net that answers the same to many pictures is what it is; so does its reference.
            reasons = [fault.text for fault in check.faults if fault.gate != "saturated"]
            notes += [f"{name}: {fault.text}" for fault in check.faults if fault.gate == "saturated"]
        except RunError as e:
            reasons = [str(e)]
        if reasons:
            path.unlink(missing_ok=True)
            text = f"does not answer as {reference.source} does: {'; '.join(reasons)}"
            failed.append(Failure(format=name, reason=text, way_out=""))
        else:
            files.append(file)
    if not files:
        raise RunError(f"{foreign.path}: {failed[0].reason}")
    return files, failed


def _written(content: bytes, plan: Plan, contract: Contract, form: Format, path: Path) -> ExportedFile:
    """The file of one format, wrapped and sealed. Raises RunError."""
    start = time.perf_counter()
    onnx = form.suffix == "onnx"
    share = round(embed.sparsity((embed.onnx_weights if onnx else embed.tflite_weights)(content)), 4)
    with quiet(f"wrapping {form.name}"):
        wrapped = (wrap_onnx if onnx else wrap_tflite)(content, plan)
    mine = dataclasses.replace(
        contract,
        provenance=dataclasses.replace(contract.provenance, precision=form.precision, sparsity=share),
        tolerance={o.name: max(form.tolerance, 10 * FLOAT_ERROR) * o.magnitude for o in plan.outputs},
    )
    path.write_bytes((embed.embed_onnx if onnx else embed.embed_tflite)(wrapped, mine))
    limits = {**form.limits, **{gate: max(form.limits[gate], FLOAT_ERROR) for gate in ("max_error", "mae_increase")}}
    return ExportedFile(
        file=path.name, format=form.name, precision=form.precision, engine=form.engine, bytes=path.stat().st_size,
        gzip_bytes=gzip_size(path), sha256=sha256_of(path), sparsity=share,
        seconds=round(time.perf_counter() - start, 2), limits=limits,
        outputs={output.name: OutputLimits(limits=limits) for output in plan.outputs},
    )  # fmt: skip


def _reference(foreign: Foreign, contract: Contract, frames: AdoptionFrames, expected: Answers) -> Reference:
    known = {name: labels[np.isfinite(labels)] for name, labels in frames.labels.items()}
    return Reference(
        pictures=np.asarray(frames.pictures),
        drives=frames.drives,
        names=frames.names,
        labels=frames.labels,
        predictions=expected,
        constant={name: float(labels.mean()) if labels.size else 0.0 for name, labels in known.items()},
        contract=contract,
        source=foreign.reference.name,
        vectors=frames.vectors,
    )


def _record(
    foreign: Foreign, contract: Contract, sets: Sequence[PictureSet], files: Sequence[ExportedFile],
    failed: Sequence[Failure], reader: ReaderOptions, notes: Sequence[str],
) -> Export:  # fmt: skip
    seen = tuple(SeenDrive(id=s.drive.id, fingerprint=s.fingerprint, train=0, validation=len(s.drive)) for s in sets)
    return Export(
        created=contract.provenance.created,
        recipe=contract.provenance.recipe,
        recipe_sha256=contract.provenance.recipe_sha256,
        model_sha256=sha256_of(foreign.path),
        tools=versions(TOOLS),
        processor=Processor(cpu=cpu_name(), int8_kernels=int8_kernels()),
        min_throttle=0.0,
        drives=SeenDrives(reader=reader, filter=DriveFilter(), seen=seen),
        deploy_graph_difference=0.0,
        warnings=tuple(notes),
        files=tuple(files),
        failed=tuple(failed),
    )
