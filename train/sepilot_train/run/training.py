"""From drives to a run directory: split, fit, judge, and write down what was promised."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sepilot_runtime import __version__
from sepilot_runtime.base.documents import plain
from sepilot_runtime.base.errors import FrameError, RunError
from sepilot_runtime.base.files import atomic_file, write_json
from sepilot_runtime.contract.contract import Contract, Provenance
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.device.conditions import versions
from sepilot_runtime.drive.novelty import statistics_of
from sepilot_train.base import plots
from sepilot_train.base.frame_set import Answers, FrameSet
from sepilot_train.fit.fit import fit
from sepilot_train.fit.outputs.protocol import Comparing, Metrics
from sepilot_train.fit.predict import predict
from sepilot_train.fit.settings import History, OnEpoch
from sepilot_train.run import split
from sepilot_train.run.golden import golden_frames
from sepilot_train.run.held_out_sheet import draw_held_out
from sepilot_train.run.leak import measure_leak
from sepilot_train.run.material import Material
from sepilot_train.run.net import build_net
from sepilot_train.run.recipe import Recipe, load_recipe
from sepilot_train.run.recipe_toml import to_toml
from sepilot_train.run.request import Request, first_difference
from sepilot_train.run.run import Run, open_run, read_request, write_text
from sepilot_train.run.validation import VALIDATION_NAME, Validation

__all__ = ["complete_run", "constant_errors", "require_same", "require_same_recipe", "start_run", "train_run"]

Figures = Mapping[str, Metrics]
"""By output, how good a net is on the held-out frames."""

PACKAGES = ("keras", "tensorflow", "jax", "numpy", "opencv-python", "opencv-python-headless")
"""Their versions stand in the contract."""


FLOAT_TOLERANCE = 1e-3
"""Of an answer's magnitude: what golden answers of a float32 file may deviate from the training model's."""


def start_run(out: Path, request: Request, recipe: Recipe, command: str) -> None:
    """Make the run directory with what was asked for, and the `command` line that did. Raises OutputError."""
    write_text(out / "command.txt", command + "\n")
    write_text(out / "recipe.toml", to_toml(recipe))
    write_json(out / "request.json", dataclasses.asdict(request))


OWN = "a run goes on with its own settings; leave the option out, or train into a new directory"


def require_same(out: Path, request: Request) -> None:
    """Make sure that the run to resume was asked for in the same way. Raises RunError: it was not, or there is none."""
    if difference := first_difference(read_request(out), request):
        raise RunError(f"{out}: {difference}; {OWN}")


def require_same_recipe(out: Path, request: Request, recipe: Recipe) -> None:
    """And with the same recipe, settled. Raises RunError."""
    kept = load_recipe(str(out / "recipe.toml"))
    kept = kept.with_choices(seed=request.seed, min_throttle=request.filter.min_throttle)
    if kept.sha256 != recipe.sha256:
        raise RunError(f"{out}: another recipe or other overrides than its recipe.toml has; {OWN}")


def train_run(
    out: Path,
    recipe: Recipe,
    material: Material,
    *,
    resume: bool,
    progress: bool,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Fit the recipe's net to the material and complete the run directory `out`.

    Args:
        on_epoch: as in `fit.fit`.

    Returns:
        The finished run.
    """
    import keras

    keras.utils.set_random_seed(recipe.training.seed)
    net = build_net(recipe)
    train, validation = material.frames("train"), material.frames("validation")
    begin = time.perf_counter()
    # A training that was killed in its first epoch has nothing to go on from, and starts over.
    resume = resume and (out / "checkpoint" / "state.npz").exists()
    history = fit(
        net, train, validation, recipe.targets, recipe.training, recipe.augmentation, out, resume=resume,
        on_epoch=on_epoch, show_progress=progress, numbers=recipe.numbers,
    )  # fmt: skip
    complete_run(out, recipe, material, net, history, time.perf_counter() - begin)
    return open_run(out)


def complete_run(out: Path, recipe: Recipe, material: Material, net: Any, history: History, seconds: float) -> Figures:
    """Judge a trained net on the held-out frames and write everything of the run directory that follows from it.

    Args:
        net: Keras 3 Functional, pictures of `recipe` in, outputs (n, *shape) named as its targets are.
        seconds: that the training took.

    Returns:
        Figures by output.
    """
    write_json(out / "split.json", dataclasses.asdict(split.record_of(material.sets, material.split)))
    train, validation = material.frames("train"), material.frames("validation")
    answers = Answers(frames=validation, values=predict(net, validation.pictures, validation.vectors))
    metrics = {}
    for name, target in recipe.targets.items():
        constant = task_of(target.output(name, 1.0)).constant(train.labels[name])
        found = target.metrics(validation.labels[name], answers.values[name], constant)
        if isinstance(target, Comparing):
            found = target.beside_pixels(found, validation.labels[name], validation.pictures)
        metrics[name] = found
    answers.save(out / "predictions.npz")
    _write_figures(out, material, metrics, history, seconds)
    write_text(out / "contract.json", _contract(recipe, material, net, train, answers, metrics).to_json())
    _draw(out, recipe, material, answers, metrics, history)
    with atomic_file(out / "model.keras") as part:
        net.save(part)
    return metrics


def constant_errors(material: Material) -> dict[str, float]:
    """By output, the mean error on the held-out frames of the one answer that is right for most training frames."""
    train, validation, found = material.frames("train").labels, material.frames("validation").labels, {}
    for output in material.outputs:
        task, labels = task_of(output), validation[output.name]
        still = np.asarray(task.constant(train[output.name]), np.float64)
        found[output.name] = float(task.error(np.broadcast_to(still, (len(labels), *output.shape)), labels).mean())
    return found


def _write_figures(out: Path, material: Material, metrics: Figures, history: History, seconds: float) -> None:
    frames, first = material.split.counts(), material.outputs[0]
    found = Validation(
        split=material.split.kind,
        train_frames=frames[0],
        validation_frames=frames[1],
        train_drives=material.ids("train"),
        validation_drives=material.ids("validation"),
        full_scale_deg=material.drives[0].full_scale_deg,
        metrics=next(iter(metrics.values())),
        outputs=metrics,
        leak=measure_leak(material.sets, material.split, material.labels[first.name], task_of(first)),
        epochs=len(history.rows),
        kept_epoch=history.kept_epoch,
        stopped_early=history.stopped_early,
        seconds=round(seconds, 2),
        skipped={drive.id: dict(drive.skipped) for drive in material.drives},
    )
    write_json(out / VALIDATION_NAME, plain(found))


def _contract(
    recipe: Recipe, material: Material, net: Any, train: FrameSet, answers: Answers, metrics: Figures
) -> Contract:
    fingerprints = [s.fingerprint for s, i in zip(material.sets, material.split.train, strict=True) if len(i)]
    outputs = tuple(
        target.judged(output, metrics[output.name]) if isinstance(target, Comparing) else output
        for output, target in zip(material.outputs, recipe.targets.values(), strict=True)
    )
    return Contract(
        inputs=recipe.inputs_of_net,
        outputs=outputs,
        tolerance={output.name: FLOAT_TOLERANCE * output.magnitude for output in outputs},
        provenance=Provenance(
            recipe=recipe.name,
            recipe_sha256=recipe.sha256,
            dataset_fingerprint=hashlib.sha256("".join(fingerprints).encode()).hexdigest(),
            drives=material.ids("train"),
            validation_drives=material.ids("validation"),
            validation=_validation_figures(metrics),
            versions={"sepilot": __version__} | versions(PACKAGES),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        ),
        statistics=dataclasses.replace(statistics_of(train.pictures), frame_size=_frame_size(material)),
        golden=golden_frames(material.drives, recipe.picture, net, outputs, answers),
    )


def _validation_figures(metrics: Figures) -> dict[str, float]:
    """The first output's by their names, those of others with the output's before it."""
    found: dict[str, float] = {}
    for place, (name, figures) in enumerate(metrics.items()):
        before = f"{name}." if place else ""
        found |= {f"{before}{key}": round(value, 6) for key, value in figures.figures.items()}
    return found


def _frame_size(material: Material) -> tuple[int, int] | None:
    """(width, height) of the training frames, by the first readable of each drive; None where their shapes differ."""
    sizes = []
    for drive in material.drives:
        try:
            height, width = drive.read(0).shape[:2]
        except FrameError:
            continue
        sizes.append((width, height))
    aspects = [width / height for width, height in sizes]
    return sizes[0] if sizes and max(aspects) < 1.02 * min(aspects) else None


def _draw(out: Path, recipe: Recipe, material: Material, answers: Answers, metrics: Figures, history: History) -> None:
    """Figures of the run; those of the first output under plain names, those of others with the output's before."""
    folder = out / "figures"
    columns = {key: [row[key] for row in history.rows] for key in (history.rows[0] if history.rows else {})}
    if columns:
        plots.save_history(columns, folder / "training.png")
    for place, (name, found) in enumerate(metrics.items()):
        target, before = recipe.targets[name], f"{name}-" if place else ""
        output = target.output(name, material.drives[0].full_scale_deg)
        labels, said = answers.frames.labels[name], answers.values[name]
        for plot in target.plots(labels, said, found, output):
            plots.save_plot(plot, folder / f"{before}{plot.name}.png")
        if task_of(output).has_places:
            draw_held_out(
                folder / f"{before}pictures.png", output, material.frames("validation").pictures, labels, said
            )
