"""From a finished training to a directory of model files, each with its contract inside.

    swift-float32.tflite …   the files
    export.json              what made them: recipe, tools, sizes, hashes, gates
    calibration.json         the frames that the int8 formats were calibrated on
    reference.npz            held-out pictures with the training model's answers, for `sepilot check`

The directory appears when everything in it is whole, and every file has been loaded and has passed its golden frames.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export import deploy, support
from sepilot_export.conversions import Converter, Exported, Source, Step, tool_versions
from sepilot_export.formats import Format, limits_of
from sepilot_export.reference import EXPORT_NAME, REFERENCE_NAME, Reference
from sepilot_runtime.errors import RunError
from sepilot_runtime.files import atomic_directory, read_json, require_new, sha256_of, write_json
from sepilot_train.learner import predict
from sepilot_train.quiet import quiet
from sepilot_train.run import Run

__all__ = ["export_source", "source_of"]

AGREEMENT = 0.01
"""Largest difference between the answers saved by the training and the same model's answers here, in output values.

A training on a GPU in reduced precision differs by a thousandth; another crop or a changed drive by far more.
"""

MAX_REFERENCE_FRAMES = 20_000


def source_of(run: Run, *, moved_to: Sequence[Path] = (), progress: bool = False) -> Source:
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
    summary = read_json(run.path / "validation.json", RunError)
    return Source(
        model_path=run.model_path,
        contract=run.contract,
        gates=run.recipe.gates,
        training=run.frames("train", moved_to=moved_to, progress=progress),
        held_out=held_out,
        saved=saved.predictions,
        constant=float(summary["metrics"]["constant"]),
        min_throttle=run.recipe.data.min_throttle,
    )


def export_source(
    source: Source,
    formats: Sequence[Format],
    out: Path,
    *,
    calibration_frames: int = 300,
    seed: int = 0,
    step: Step = lambda name: None,
) -> tuple[list[Exported], list[str]]:
    """Write `formats` into the new directory `out`.

    Returns:
        What was written, and warnings, one line each.

    Raises:
        RunError: the model cannot be exported; the message names the layer, the format or the frame.
        OutputError: `out` exists or cannot be written.
    """
    require_new(out)
    limits = {form.name: limits_of(form, source.gates) for form in formats}
    step("loading the model")
    model = deploy.load_training_model(source.model_path, source.contract)
    support.require_supported(model, formats)
    step("deploy graph")
    with quiet("deploy graph"):
        reference = _reference(source, model)
        deployed = deploy.deploy_graph(model, source.contract)
        parity = deploy.require_parity(model, deployed, _spread(source.held_out.pictures, reference.predictions))
    with atomic_directory(out) as part, tempfile.TemporaryDirectory(prefix="sepilot-export-") as work:
        converter = Converter(source, model, deployed, Path(work), calibration_frames, seed, step)
        files = [converter.write(form, limits[form.name], part) for form in formats]
        if converter.manifest is not None:
            write_json(part / "calibration.json", converter.manifest)
        step(REFERENCE_NAME)
        reference.save(part / REFERENCE_NAME)
        write_json(part / EXPORT_NAME, _record(source, files, parity, converter.warnings, seed))
    return files, converter.warnings


def _reference(source: Source, model: Any) -> Reference:
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


def _spread(pictures: NDArray[np.uint8], predictions: NDArray[np.float32], count: int = 32) -> NDArray[np.uint8]:
    """Pictures from the lowest to the highest prediction."""
    order = np.argsort(predictions, kind="stable")
    return pictures[order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.int64)]]


def _record(
    source: Source, files: Sequence[Exported], parity: float, warnings: Sequence[str], seed: int
) -> dict[str, Any]:
    provenance = source.contract.provenance
    return {
        "version": 1,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "recipe": provenance.recipe,
        "recipe_sha256": provenance.recipe_sha256,
        "model_sha256": sha256_of(source.model_path),
        "tools": tool_versions(),
        "seed": seed,
        "min_throttle": source.min_throttle,
        "deploy_graph_difference": parity,
        "warnings": list(warnings),
        "files": [dataclasses.asdict(f) for f in files],
    }
