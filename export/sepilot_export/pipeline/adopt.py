"""A model file that was made elsewhere, brought under a contract: from then on it is a file like every other.

    NAME-float32.tflite …    the file, wrapped so that it takes what all of ours take, its contract inside
    export.json              what was adopted, what was stated about it, whose answers it was held against
    reference.npz            pictures with these answers, for `sepilot check`
    command.txt

A Keras net is held against Keras; a .tflite or .onnx file against another interpreter than runs it. The directory
appears when every file has passed its golden frames and its gates, and the labels have nothing against the statement.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import embed
from sepilot_export.convert.failures import Failure
from sepilot_export.convert.formats import Format, format_named
from sepilot_export.convert.stated import Plan, StatedContract, plan_of, tensor_input
from sepilot_export.convert.wrapping import onnx_precision, tflite_precision, wrap_onnx, wrap_tflite
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
from sepilot_export.verify.label_fit import label_faults, other_pictures
from sepilot_export.verify.reference import REFERENCE_NAME, Reference
from sepilot_export.verify.second_opinion import second_opinion
from sepilot_runtime.base.errors import DriveError, FrameError, ModelFileError, RunError
from sepilot_runtime.base.files import atomic_directory, gzip_size, sha256_of, write_json
from sepilot_runtime.base.processor import cpu_name, int8_kernels
from sepilot_runtime.contract.contract import Contract, Golden, Provenance, golden_from
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.protocol import Evidence
from sepilot_runtime.contract.preprocess import golden_copy, picture_of
from sepilot_runtime.device.conditions import versions
from sepilot_runtime.drive.novelty import statistics_of
from sepilot_runtime.engine.bare import BareModel, open_bare
from sepilot_runtime.engine.model_file import read_content
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.base.cache import PictureSet, load_pictures
from sepilot_train.base.quiet import quiet

__all__ = ["Adopted", "Foreign", "adopt", "open_foreign"]

LONGEST_S = 60.0
"""For the answers of the reference, which may be slow; fewer frames are taken then."""

FEWEST_FRAMES, MOST_FRAMES = 32, 2000
LABEL_FRAMES, LABEL_BYTES = 200, 96 << 20
"""Frames in memory that other statements are tried on."""

FLOAT_ERROR = 1e-4
"""In place of what float32 formats allow against their own model: two interpreters add in another order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Foreign:
    """A file as it came.

    Attributes:
        reference: whose answers count, by the file's own names.
        files: by format, with the same names.
        single: the reference is the interpreter that will run it.
    """

    path: Path
    reference: BareModel
    files: Mapping[str, bytes]
    single: bool = False


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


def open_foreign(path: Path, work: Path, *, reference: str = "", single: bool = False) -> Foreign:
    """Read a .tflite, .onnx, .keras or .h5 file and find out who can say what it should answer.

    Args:
        work: a folder for what conversions leave.
        reference: another interpreter by name; "" for the first that runs it.
        single: without another, its own interpreter will do.

    Raises:
        ModelFileError, RunError: it cannot be read, run or converted.
        UsageError: see `second_opinion`.
    """
    if path.suffix in (".keras", ".h5"):
        from sepilot_export.convert.keras_source import converted, open_keras

        net, model = open_keras(path)
        return Foreign(path=path, reference=net, files=converted(model, net, work / "saved_model"))
    kind, content = read_content(path)
    with quiet(f"opening {path.name}"):
        mine = open_bare(path, content=content)
        precision = tflite_precision(content) if kind == "tflite" else onnx_precision(content)
    other = second_opinion(mine, content, reference, single=single)
    # What ONNX has no row for is nearest to int8 in what it may differ by.
    name = f"{'int8' if (precision, kind) == ('dynamic', 'onnx') else precision}.{kind}"
    return Foreign(path=path, reference=other, files={name: content}, single=other is mine)


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
        RunError, ModelFileError: the file cannot be wrapped or run.
        OutputError: `out` cannot be written.
    """
    plan = plan_of(stated, foreign.reference.inputs, foreign.reference.outputs, str(foreign.path))
    names = [output.name for output in plan.outputs]
    asked = _Asked(foreign, plan)
    known = {o.name for o in plan.outputs} & set(drives[0].labels)
    sets = [load_pictures(d, plan.picture, labels=sorted(known), progress=progress) for d in drives]
    frames = _frames(sets, plan, asked.most_frames())
    expected = asked.answers(frames.pictures, frames.vectors)
    notes = [*frames.notes]
    for name in names:
        if np.ptp(expected[name]) < 1e-6:
            raise RunError(f"{foreign.path}: {name} is {expected[name][0]:.4f} for each of {len(frames.names)} frames: "
                           "it does not depend on its input as it was stated")  # fmt: skip
    against = _held_against_labels(foreign, stated, plan, drives, frames, expected)
    if against and not accept_labels:
        return Adopted(files=(), against=tuple(against), notes=tuple(notes))
    notes += against
    if foreign.single:
        notes.append(f"held against {foreign.reference.name}, which runs it: nobody else has checked its answers")
    contract = dataclasses.replace(
        _contract(foreign, stated, plan, sets, frames),
        golden=_golden(asked, plan, drives, frames, expected[names[0]]),
    )
    files, failed = [], []
    with atomic_directory(out) as part:
        for name, content in foreign.files.items():
            form = format_named(name)
            path = part / f"{contract.provenance.recipe}-{name}"
            try:
                file, pilot = _written(content, plan, contract, form, path)
                faults = _gates(pilot, file, frames, expected)
            except (RunError, ModelFileError) as e:
                faults = [str(e).removeprefix(f"{path}: ")]
            if not faults:
                files.append(file)
                continue
            path.unlink(missing_ok=True)
            reason = f"does not answer as {foreign.reference.name} does: {'; '.join(faults)}"
            failed.append(Failure(format=name, reason=reason, way_out=""))
        if not files:
            raise RunError(f"{foreign.path}: {failed[0].reason}")
        _reference(foreign, contract, frames, expected).save(part / REFERENCE_NAME)
        (part / "command.txt").write_text(command + "\n", encoding="utf-8")
        record = _record(foreign, contract, sets, files, failed, reader, notes)
        write_json(part / EXPORT_NAME, dataclasses.asdict(record))
    return Adopted(files=tuple(files), failed=tuple(failed), notes=tuple(notes))


class _Asked:
    """The reference, asked as the contract's inputs and outputs are."""

    def __init__(self, foreign: Foreign, plan: Plan) -> None:
        self._model, self._plan = foreign.reference, plan

    def answers(
        self, pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], vectors: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """(n,) of each output. Raises ModelFileError where one is no number."""
        plan, found = self._plan, {name: np.empty(len(pictures), np.float32) for name in self._plan.taken}
        for i, picture in enumerate(pictures):
            feed = {plan.image.name: tensor_input(plan, picture)}
            feed |= {t.name: vectors[n][i].astype(t.dtype).reshape(t.shape) for n, t in plan.fed.items()}
            answer = self._model.run(feed)
            for name, (tensor, index, factor) in plan.taken.items():
                stored = answer[tensor.name]
                values = stored if tensor.affine is None else tensor.affine.dequantize(stored)
                found[name][i] = np.float32(values.reshape(-1)[index]) * np.float32(factor)
        for name, said in found.items():
            if not np.isfinite(said).all():
                raise ModelFileError(f"{self._model.path}: answers NaN or infinity for {name}")
        return found

    def most_frames(self) -> int:
        """As many as it answers in `LONGEST_S`."""
        picture = np.zeros(self._plan.picture.shape, np.uint8)
        nothing = {v.name: np.zeros((1, v.size), np.float32) for v in self._plan.vectors}
        self.answers([picture], nothing)
        start = time.perf_counter()
        self.answers([picture], nothing)
        return int(np.clip(LONGEST_S / (time.perf_counter() - start), FEWEST_FRAMES, MOST_FRAMES))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Frames:
    """Frames that it is judged on, (n,) each; `places`: the drive's number, and the frame's in it."""

    pictures: NDArray[np.uint8]
    vectors: Mapping[str, NDArray[np.float32]]
    labels: Mapping[str, NDArray[np.float32]]
    drives: tuple[str, ...]
    names: tuple[str, ...]
    places: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]


def _frames(sets: Sequence[PictureSet], plan: Plan, most: int) -> _Frames:
    """Evenly over the drives. What a recording does not have of a vector is made up: numbers in [0, 1)."""
    everything = [(s, i) for s in range(len(sets)) for i in range(len(sets[s].names))]
    chosen = np.linspace(0, len(everything) - 1, min(most, len(everything))).astype(np.int64)
    places = tuple(everything[i] for i in chosen)
    notes, vectors = [], {}
    for vector in plan.vectors:
        vectors[vector.name] = np.random.default_rng(0).random((len(places), vector.size), np.float32)
        if vector.columns and all(set(vector.columns) <= set(s.labels) for s in sets):
            columns = [np.array([sets[s].labels[c][i] for s, i in places]) for c in vector.columns]
            vectors[vector.name] = np.nan_to_num(np.stack(columns, axis=1)).astype(np.float32)
        else:
            notes.append(f"{vector.name}: made-up numbers in [0, 1), as the recordings have no columns for it")
    labels = {
        output.name: np.array([_label(sets[s], output.name, i) for s, i in places], np.float32)
        for output in plan.outputs
    }
    notes += [f"{n}: no labels, so nobody can tell whether the picture is as stated"
              for n, values in labels.items() if not np.isfinite(values).any()]  # fmt: skip
    return _Frames(
        pictures=np.stack([sets[s].pictures[i] for s, i in places]),
        vectors=vectors,
        labels=labels,
        drives=tuple(sets[s].drive_id for s, _ in places),
        names=tuple(sets[s].names[i] for s, i in places),
        places=places,
        notes=tuple(notes),
    )


def _label(pictures: PictureSet, name: str, index: int) -> float:
    return float(pictures.labels[name][index]) if name in pictures.labels else float("nan")


def _held_against_labels(
    foreign: Foreign, stated: StatedContract, plan: Plan, drives: Sequence[Drive], frames: _Frames,
    expected: Mapping[str, NDArray[np.float32]],
) -> list[str]:  # fmt: skip
    labelled = [i for i in range(len(frames.names)) if any(np.isfinite(v[i]) for v in frames.labels.values())]
    if not labelled:
        return []
    first = _raw(drives, frames, labelled[0])
    count = int(np.clip(LABEL_BYTES // (first.nbytes if first is not None else 1), 16, LABEL_FRAMES))
    chosen = [labelled[i] for i in np.linspace(0, len(labelled) - 1, min(count, len(labelled))).astype(int)]
    raw = {i: frame for i in chosen if (frame := _raw(drives, frames, i)) is not None}
    index = np.array(list(raw))
    vectors = {name: values[index] for name, values in frames.vectors.items()}

    def under(other: StatedContract) -> dict[str, NDArray[np.float32]]:
        changed = plan_of(other, foreign.reference.inputs, foreign.reference.outputs, str(foreign.path))
        return _Asked(foreign, changed).answers([picture_of(f, changed.picture) for f in raw.values()], vectors)

    return label_faults(
        plan.outputs,
        {name: values[index] for name, values in expected.items()},
        {name: values[index] for name, values in frames.labels.items()},
        [frames.drives[i] for i in index],
        {words: lambda other=other: under(other) for words, other in other_pictures(stated, plan)},  # type: ignore[misc]
    )


def _raw(drives: Sequence[Drive], frames: _Frames, index: int) -> NDArray[np.uint8] | None:
    """The camera's frame; None where it cannot be read any more."""
    drive = drives[frames.places[index][0]]
    try:
        return drive.read(drive.names.index(frames.names[index]))
    except (FrameError, ValueError):
        return None


def _golden(
    asked: _Asked, plan: Plan, drives: Sequence[Drive], frames: _Frames, answers: NDArray[np.float32], count: int = 3
) -> tuple[Golden, ...]:
    """Small copies of frames from one end of the answers to the other, with what the reference says to them."""
    order = task_of(plan.outputs[0]).tails(answers, None)[0]
    chosen = [int(order[i]) for i in np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)]
    raw = {i: golden_copy(frame) for i in chosen if (frame := _raw(drives, frames, i)) is not None}
    if not raw:
        raise DriveError(f"{drives[0].path}: no frame can be read any more for the golden frames")
    pictures = [picture_of(frame, plan.picture) for frame in raw.values()]
    vectors = {name: values[list(raw)] for name, values in frames.vectors.items()}
    said = asked.answers(pictures, vectors)
    return tuple(
        golden_from(
            frame, {name: values[i] for name, values in said.items()}, picture,
            {name: values[i] for name, values in vectors.items()},
        )
        for i, (frame, picture) in enumerate(zip(raw.values(), pictures, strict=True))
    )  # fmt: skip


def _contract(
    foreign: Foreign, stated: StatedContract, plan: Plan, sets: Sequence[PictureSet], frames: _Frames
) -> Contract:
    said = repr((sha256_of(foreign.path), stated))
    return Contract(
        inputs=(plan.picture, *plan.vectors),
        outputs=plan.outputs,
        tolerance=dict.fromkeys((o.name for o in plan.outputs), 1e-3),
        provenance=Provenance(
            recipe=re.sub(r"[^\w.-]+", "_", foreign.path.stem)[:80] or "adopted",
            recipe_sha256=hashlib.sha256(said.encode()).hexdigest(),
            dataset_fingerprint=hashlib.sha256("".join(s.fingerprint for s in sets).encode()).hexdigest(),
            drives=(),
            validation_drives=tuple(s.drive_id for s in sets),
            validation={},
            versions=versions(TOOLS),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        ),
        statistics=statistics_of(frames.pictures),
    )


def _written(content: bytes, plan: Plan, contract: Contract, form: Format, path: Path) -> tuple[ExportedFile, Pilot]:
    """The file of one format, wrapped and sealed. Raises ModelFileError where it fails its golden frames."""
    start = time.perf_counter()
    onnx = form.suffix == "onnx"
    share = round(embed.sparsity((embed.onnx_weights if onnx else embed.tflite_weights)(content)), 4)
    with quiet(f"wrapping {form.name}"):
        wrapped = (wrap_onnx if onnx else wrap_tflite)(content, plan)
    provenance = dataclasses.replace(contract.provenance, precision=form.precision, sparsity=share)
    tolerance = {o.name: max(form.tolerance, 10 * FLOAT_ERROR) * o.magnitude for o in plan.outputs}
    mine = dataclasses.replace(contract, provenance=provenance, tolerance=tolerance)
    path.write_bytes((embed.embed_onnx if onnx else embed.embed_tflite)(wrapped, mine))
    with quiet(f"loading {form.name}"):
        pilot = load_pilot(path)
    limits = {**form.limits, **{g: max(form.limits[g], FLOAT_ERROR) for g in ("max_error", "mae_increase")}}
    return ExportedFile(
        file=path.name, format=form.name, precision=form.precision, engine=form.engine, bytes=path.stat().st_size,
        gzip_bytes=gzip_size(path), sha256=sha256_of(path), sparsity=share,
        seconds=round(time.perf_counter() - start, 2), limits=limits,
        outputs={output.name: OutputLimits(limits=limits) for output in plan.outputs},
    ), pilot  # fmt: skip


def _gates(pilot: Pilot, file: ExportedFile, frames: _Frames, expected: Mapping[str, NDArray[np.float32]]) -> list[str]:
    """What a file does not keep against the reference, a line for each output and gate."""
    said = {name: np.empty(len(frames.names), np.float32) for name in expected}
    for i, picture in enumerate(frames.pictures):
        for name, values in frames.vectors.items():
            pilot.vectors[name][:] = values[i]
        for name, answer in pilot.infer_picture(picture).items():
            said[name][i] = answer.item()
    faults = []
    for output in pilot.contract.outputs:
        evidence = Evidence(said=said[output.name], expected=expected[output.name], labels=frames.labels[output.name],
                            drives=frames.drives, pictures=frames.pictures)  # fmt: skip
        for rule in task_of(output).gates():
            # A net may be as dull as it likes: the labels have judged it before.
            if rule.name != "saturated":
                text = rule.fault(rule.figure(evidence), file.limits[rule.name], len(frames.names))
                faults += [f"{output.name}: {text}"] if text else []
    return faults


def _reference(
    foreign: Foreign, contract: Contract, frames: _Frames, expected: Mapping[str, NDArray[np.float32]]
) -> Reference:
    known = {name: labels[np.isfinite(labels)] for name, labels in frames.labels.items()}
    return Reference(
        pictures=frames.pictures,
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
    seen = tuple(SeenDrive(id=s.drive_id, fingerprint=s.fingerprint, train=0, validation=len(s.names)) for s in sets)
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
