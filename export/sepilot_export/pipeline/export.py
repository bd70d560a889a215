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

from sepilot_export.convert.failures import Failure, way_out
from sepilot_export.convert.formats import Format
from sepilot_export.convert.inputs import ExportInputs, Step
from sepilot_export.pipeline.converter import Converter, Made
from sepilot_export.pipeline.ready import Ready, make_ready, nothing_made
from sepilot_export.quantize.int8 import Int8, Int8Options
from sepilot_export.quantize.mixed_precision import Mixed, Sensitivity
from sepilot_export.quantize.sqnr import FRAMES, Noise, draw_noise
from sepilot_export.record.exports import EXPORT_NAME, TOOLS, Export, ExportedFile, Processor
from sepilot_export.verify.raw_frames import RawFrames
from sepilot_export.verify.reference import REFERENCE_NAME
from sepilot_export.verify.unseen_drives import seen_drives
from sepilot_runtime.base.errors import ContractError, ModelFileError, RunError
from sepilot_runtime.base.files import atomic_directory, require_new, sha256_of, write_json
from sepilot_runtime.base.processor import cpu_name, int8_kernels
from sepilot_runtime.device.conditions import versions
from sepilot_train.base.quiet import quiet
from sepilot_train.run.run import Run
from sepilot_train.run.validation import read_validation

__all__ = ["LAYERS_NAME", "Layers", "Written", "export_source", "source_of", "write_export"]

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
    if run.contract.inputs != run.recipe.inputs_of_net:
        raise RunError(f"{run.path}: contract.json and recipe.toml disagree about the inputs; train again")
    held_out = run.frames("validation", moved_to=moved_to, progress=progress)
    saved = run.predictions()
    if (saved.frames.drives, saved.frames.names) != (held_out.drives, held_out.names):
        raise RunError(f"{run.path}: predictions.npz is about other frames than split.json; train again")
    validation = read_validation(run.path)
    return ExportInputs(
        model_path=run.model_path,
        contract=run.contract,
        gates=run.recipe.gates,
        training=run.frames("train", moved_to=moved_to, progress=progress),
        held_out=held_out,
        saved=saved.values,
        constant={output.name: validation.of(output.name).constant for output in run.contract.outputs},
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
    return write_export(source, make_ready(source, formats, int8, raw, step), formats, out, int8=int8, command=command,
                        step=step)  # fmt: skip


def write_export(
    source: ExportInputs,
    ready: Ready,
    formats: Sequence[Format],
    out: Path,
    *,
    int8: Int8Options = PLAIN_INT8,
    command: str = "",
    step: Step = lambda name: None,
) -> Written:
    """Write what is ready. Raises what `export_source` raises."""
    with atomic_directory(out) as part, tempfile.TemporaryDirectory(prefix="sepilot-export-") as work:
        quantized = Int8(source, ready.model, Path(work), ready.limits, int8, step)
        converter = Converter(source, ready, quantized, Path(work), step)
        written, made = _write_files(converter, formats, part, ready.broken, repairable=int8.max_drop is None)
        # Nothing can be made in place of what came as it is.
        final = [dataclasses.replace(f, way_out="") if f.format in ready.contents else f for f in written.failed]
        if not written.files:
            raise nothing_made(source, final, written.left_out)
        warnings = [*_write_calibration(quantized, made, part, step), *written.warnings, *ready.notes]
        if int8.max_drop is not None and any(f.format == "int8.tflite" and f.of_training for f in written.files):
            warnings.append("int8.tflite: was made by the training, so --max-drop does not change it")
        written = dataclasses.replace(written, warnings=tuple(warnings))
        step(REFERENCE_NAME)
        plain = {name: found.answers for name, found in made.items() if found.answers is not None}
        reference = ready.frames.reference(ready.reference, plain) if ready.frames else ready.reference
        reference.save(part / REFERENCE_NAME)
        (part / "command.txt").write_text(command + "\n", encoding="utf-8")
        write_json(part / EXPORT_NAME, dataclasses.asdict(_record(source, written, ready, int8)))
    return written


def _write_files(
    converter: Converter, formats: Sequence[Format], folder: Path, broken: Sequence[Failure], *, repairable: bool
) -> tuple[Written, dict[str, Made]]:
    """The files that can be made, why the others cannot, and what was decided about each.

    Args:
        broken: formats that need not be tried.
        repairable: layers may be kept in float32, and have not been.
    """
    files: dict[str, tuple[ExportedFile, Made]] = {}
    failed = {failure.format: failure for failure in broken}
    judged: set[str] = set()
    skipped = {form.name: reason for form in formats if (reason := converter.reason_to_skip(form))}
    wanted = [form for form in formats if form.name not in skipped]
    for form in wanted:
        if origin := failed.get(form.made_from):
            failed[form.name] = dataclasses.replace(origin, format=form.name)
        if form.name in failed:
            continue
        # What a converter raises, of whatever kind, `quiet` has made a RunError, and kept its traceback in a log.
        try:
            files[form.name] = converter.write(form, folder)
        except (RunError, ModelFileError, ContractError) as e:
            failed[form.name] = Failure(format=form.name, reason=str(e).removeprefix(f"{form.name}: "), way_out="")
            if not isinstance(e, RunError):
                judged.add(form.name)
    written = [form for form in wanted if form.name in files]
    for form in wanted:
        if form.name in failed and not failed[form.name].way_out:
            repair = repairable and form.needs_calibration and form.name in judged
            way = way_out(form, written, failed, repairable=repair)
            failed[form.name] = dataclasses.replace(failed[form.name], way_out=way)
    return Written(
        files=tuple(exported for exported, _ in files.values()),
        warnings=tuple(warning for _, made in files.values() for warning in made.warnings),
        left_out=tuple(skipped.values()),
        failed=tuple(failed[form.name] for form in wanted if form.name in failed),
    ), {name: made for name, (_, made) in files.items()}


def _write_calibration(int8: Int8, made: Mapping[str, Made], folder: Path, step: Step) -> list[str]:
    """calibration.json and int8-layers.json where anything was calibrated; a line for each warning about them."""
    found = int8.calibration()
    if found is None:
        return []
    manifest, warnings = found
    write_json(folder / "calibration.json", dataclasses.asdict(manifest))
    step(LAYERS_NAME)
    # A twin has the layers of the file that it was made from.
    mixed = {name: m.int8.mixed for name, m in made.items() if m.int8 and m.int8.mixed and m.twin is None}
    return [*warnings, *_write_layers(int8, mixed, folder)]


def _write_layers(int8: Int8, mixed: Mapping[str, Mixed], folder: Path) -> list[str]:
    """`int8-layers.json` and its plot; a line for each kind of file that has no figures.

    Args:
        mixed: which layers stayed in float32, by format.
    """
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
        kept_float={form: m.kept for form, m in mixed.items()},
        damage_alone={form: m.damage for form, m in mixed.items() if m.damage},
    )
    write_json(folder / LAYERS_NAME, dataclasses.asdict(found))
    draw_noise(noise, found.kept_float, folder / "int8-layers.png")
    return missing


def _record(source: ExportInputs, written: Written, ready: Ready, int8: Int8Options) -> Export:
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
        drives=seen_drives(source.run) if source.run else ready.seen,
        deploy_graph_difference=ready.parity,
        preprocessing=ready.frames.record if ready.frames else None,
        warnings=written.warnings,
        files=written.files,
        failed=written.failed,
    )
