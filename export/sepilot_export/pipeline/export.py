"""From a finished training to a directory of model files, each with its contract inside.

    swift-float32.tflite …   the files
    command.txt              the command line that wrote them
    export.json              what made them: run, recipe, tools, sizes, hashes, gates
    calibration.json         the frames that the int8 formats were calibrated on, against other choices of frames
    int8-layers.json, .png   what int8 does to each layer, and which ones were kept in float32
    reference.npz            held-out pictures with the training model's answers, for `sepilot check`

The directory appears when everything in it is whole, and every file has been loaded and has passed its golden frames.
A format whose file cannot be made, or does not pass them, is left out and named with its reason; the others stay.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import deploy, support
from sepilot_export.convert.failures import Failure, lines_of, way_out
from sepilot_export.convert.formats import FORMATS, Format, limits_of
from sepilot_export.convert.inputs import ExportInputs, Step
from sepilot_export.pipeline.converter import Converter
from sepilot_export.pipeline.frame_input import FrameFiles
from sepilot_export.quantize.int8 import Int8, Int8Options
from sepilot_export.quantize.mixed_precision import Sensitivity
from sepilot_export.quantize.sqnr import FRAMES, Noise, draw_noise
from sepilot_export.record.exports import EXPORT_NAME, TOOLS, Export, ExportedFile, Processor
from sepilot_export.verify.raw_frames import RawFrames
from sepilot_export.verify.reference import REFERENCE_NAME, Reference
from sepilot_export.verify.unseen_drives import seen_drives
from sepilot_runtime.base.errors import ContractError, ModelFileError, RunError
from sepilot_runtime.base.files import atomic_directory, require_new, sha256_of, write_json
from sepilot_runtime.base.processor import cpu_name, int8_kernels
from sepilot_runtime.device.conditions import versions
from sepilot_train.base.quiet import quiet
from sepilot_train.base.stored import Pictures
from sepilot_train.fit.predict import predict
from sepilot_train.run.run import Run
from sepilot_train.run.validation import read_validation

__all__ = ["LAYERS_NAME", "Layers", "Written", "export_source", "source_of"]

AGREEMENT = 0.01
"""Largest difference between the answers saved by the training and the same model's answers here, in output values.

A training on a GPU in reduced precision differs by a thousandth; another crop or a changed drive by far more.
"""

MAX_REFERENCE_FRAMES = 20_000

LAYERS_NAME = "int8-layers.json"

PLAIN_INT8 = Int8Options()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What came of an export.

    Attributes:
        warnings: one line each.
        left_out: formats that are of no use for this model, a line each.
        failed: formats that could not be made.
    """

    files: tuple[ExportedFile, ...]
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]
    failed: tuple[Failure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """int8-layers.json: what int8 does to each layer, by format.

    Attributes:
        frames: pictures that it was seen on.
        kernel_bits: of each layer's kernel.
        kept_float: layers that --max-drop left in float32.
        damage_alone: of every layer, where that was asked.
    """

    frames: int
    sqnr_db: Mapping[str, tuple[Noise, ...]]
    kernel_bits: Mapping[str, Mapping[str, float]]
    kept_float: Mapping[str, tuple[str, ...]]
    damage_alone: Mapping[str, tuple[Sensitivity, ...]]


def source_of(run: Run, *, moved_to: Sequence[Path] = (), progress: bool = False) -> ExportInputs:
    """Everything that an export needs of a training run.

    Raises:
        RunError: a drive is missing or has changed, or the run's parts do not belong together.
    """
    if run.contract.picture != run.recipe.picture:
        raise RunError(f"{run.path}: contract.json and recipe.toml disagree about the picture; train again")
    held_out = run.frames("validation", moved_to=moved_to, progress=progress)
    saved = run.predictions()
    if list(zip(saved.drives, saved.names, strict=True)) != list(zip(held_out.drives, held_out.names, strict=True)):
        raise RunError(f"{run.path}: predictions.npz is about other frames than split.json; train again")
    return ExportInputs(
        model_path=run.model_path,
        contract=run.contract,
        gates=run.recipe.gates,
        training=run.frames("train", moved_to=moved_to, progress=progress),
        held_out=held_out,
        saved=saved.predictions,
        constant=read_validation(run.path).metrics.constant,
        min_throttle=run.recipe.data.min_throttle,
        run=run.path.resolve(),
    )


def export_source(
    source: ExportInputs,
    formats: Sequence[Format],
    out: Path,
    *,
    int8: Int8Options = PLAIN_INT8,
    raw: RawFrames | None = None,
    command: str = "",
    step: Step = lambda name: None,
) -> Written:
    """Write `formats` into the new directory `out`.

    Args:
        raw: held-out frames as the camera took them, for files that take such frames; None for files that take
            pictures.

    Raises:
        RunError: no file could be made; the message names the layer, the format or the frame.
        OutputError: `out` exists or cannot be written.
    """
    require_new(out)
    limits = {form.name: limits_of(form, source.gates, int8.max_drop) for form in FORMATS}
    step("loading the model")
    model = deploy.load_training_model(source.model_path, source.contract)
    broken = support.unsupported(model, formats, repaired=int8.max_drop is not None)
    if len(broken) == len(formats):
        raise _nothing_made(source, broken)
    step("deploy graph")
    with quiet("deploy graph"):
        reference = _reference(source, model)
        deployed = deploy.deploy_graph(model, source.contract)
        parity = deploy.require_parity(model, deployed, _spread(source.held_out.pictures, reference.predictions))
    frames = None
    if raw is not None:
        step("preprocessing")
        frames = FrameFiles(model, source, raw)
        limits = {name: frames.limits(limit) for name, limit in limits.items()}
    with atomic_directory(out) as part, tempfile.TemporaryDirectory(prefix="sepilot-export-") as work:
        converter = Converter(source, model, deployed, Path(work), limits, int8, step, frames)
        skipped = [reason for form in formats if (reason := converter.reason_to_skip(form))]
        wanted = [form for form in formats if not converter.reason_to_skip(form)]
        files, failed = _write_files(converter, wanted, part, broken, repairable=int8.max_drop is None)
        if failed and not files:
            raise _nothing_made(source, failed)
        if not files:
            raise RunError(f"{source.model_path}: nothing to export: {'; '.join(skipped)}")
        warnings = converter.int8.warnings
        if converter.int8.manifest is not None:
            write_json(part / "calibration.json", dataclasses.asdict(converter.int8.manifest))
            step(LAYERS_NAME)
            warnings += _write_layers(converter.int8, part)
        if int8.max_drop is not None and any(f.format == "int8.tflite" and f.of_training for f in files):
            warnings.append("int8.tflite: was made by the training, so --max-drop does not change it")
        step(REFERENCE_NAME)
        (frames.reference(reference) if frames else reference).save(part / REFERENCE_NAME)
        (part / "command.txt").write_text(command + "\n", encoding="utf-8")
        record = _record(source, files, failed, parity, warnings, int8, frames)
        write_json(part / EXPORT_NAME, dataclasses.asdict(record))
    return Written(files=tuple(files), warnings=tuple(warnings), left_out=tuple(skipped), failed=tuple(failed))


def _write_files(
    converter: Converter, formats: Sequence[Format], folder: Path, broken: Sequence[Failure], *, repairable: bool
) -> tuple[list[ExportedFile], list[Failure]]:
    """The files that can be made, and why the others cannot.

    Args:
        broken: formats that need not be tried.
        repairable: layers may be kept in float32, and have not been.
    """
    files: list[ExportedFile] = []
    failed = {failure.format: failure for failure in broken}
    judged: set[str] = set()
    for form in formats:
        if origin := failed.get(form.made_from):
            failed[form.name] = dataclasses.replace(origin, format=form.name)
        if form.name in failed:
            continue
        # What a converter raises, of whatever kind, `quiet` has made a RunError, and kept its traceback in a log.
        try:
            files.append(converter.write(form, folder))
        except (RunError, ModelFileError, ContractError) as e:
            failed[form.name] = Failure(format=form.name, reason=str(e).removeprefix(f"{form.name}: "), way_out="")
            if not isinstance(e, RunError):
                judged.add(form.name)
    made = [form for form in formats if form.name in {f.format for f in files}]
    lost = [form for form in formats if form.name in failed]
    for form in lost:
        if not failed[form.name].way_out:
            repair = repairable and form.needs_calibration and form.name in judged
            way = way_out(form, made, failed, repairable=repair)
            failed[form.name] = dataclasses.replace(failed[form.name], way_out=way)
    return files, [failed[form.name] for form in lost]


def _nothing_made(source: ExportInputs, failed: Sequence[Failure]) -> RunError:
    lines = [f"{names}: {reason}" + (f"; {way}" if way else "") for names, reason, way in lines_of(failed)]
    return RunError(f"{source.model_path}: no file could be made: {'; '.join(lines)}")


def _write_layers(int8: Int8, folder: Path) -> list[str]:
    """`int8-layers.json` and its plot; a line for each kind of file that has no figures."""
    noise: dict[str, tuple[Noise, ...]] = {}
    bits: dict[str, dict[str, float]] = {}
    missing: list[str] = []
    for suffix in int8.quantized:
        try:
            with quiet(f"the noise of int8.{suffix}"):
                tensors, bits[f"int8.{suffix}"] = int8.layers(suffix)
                noise[f"int8.{suffix}"] = tuple(tensors)
        except (RunError, ModelFileError) as e:
            missing.append(f"{LAYERS_NAME}: without int8.{suffix}: {e}")
    if not noise:
        return missing
    found = Layers(
        frames=FRAMES,
        sqnr_db=noise,
        kernel_bits=bits,
        kept_float={form: mixed.kept for form, mixed in int8.mixed.items()},
        damage_alone={form: mixed.damage for form, mixed in int8.mixed.items() if mixed.damage},
    )
    write_json(folder / LAYERS_NAME, dataclasses.asdict(found))
    draw_noise(noise, found.kept_float, folder / "int8-layers.png")
    return missing


def _reference(source: ExportInputs, model: Any) -> Reference:
    """The held-out frames with the model's answers, computed here and held against those that the training saved."""
    held = source.held_out
    answers = predict(model, held.pictures)
    worst = float(np.abs(answers - source.saved).max())
    if not worst <= AGREEMENT:
        place = int(np.nanargmax(np.abs(answers - source.saved)))
        raise RunError(
            f"{source.model_path}: does not answer as it did in training: frame {held.names[place]} of drive "
            f"{held.drives[place]}: {source.saved[place]:.4f} then, {answers[place]:.4f} now; the drive, the picture's "
            "definition or the model has changed"
        )
    index = np.linspace(0, len(answers) - 1, min(len(answers), MAX_REFERENCE_FRAMES)).astype(np.int64)
    return Reference(
        pictures=held.pictures[index],
        drives=tuple(held.drives[i] for i in index),
        names=tuple(held.names[i] for i in index),
        labels=held.labels[index],
        predictions=answers[index],
        constant=source.constant,
        contract=source.contract,
    )


def _spread(pictures: Pictures, predictions: NDArray[np.float32], count: int = 32) -> NDArray[np.uint8]:
    """Pictures from the lowest to the highest prediction."""
    order = np.argsort(predictions, kind="stable")
    return pictures[order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.int64)]]


def _record(
    source: ExportInputs,
    files: Sequence[ExportedFile],
    failed: Sequence[Failure],
    parity: float,
    warnings: Sequence[str],
    int8: Int8Options,
    frames: FrameFiles | None,
) -> Export:
    provenance = source.contract.provenance
    return Export(
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        run=str(source.run) if source.run else None,
        recipe=provenance.recipe,
        recipe_sha256=provenance.recipe_sha256,
        model_sha256=sha256_of(source.model_path),
        tools=versions(TOOLS),
        processor=Processor(cpu=cpu_name(), int8_kernels=int8_kernels()),
        seed=int8.seed,
        max_drop=int8.max_drop,
        min_throttle=source.min_throttle,
        drives=seen_drives(source.run) if source.run else None,
        deploy_graph_difference=parity,
        preprocessing=frames.record() if frames else None,
        warnings=tuple(warnings),
        files=tuple(files),
        failed=tuple(failed),
    )
