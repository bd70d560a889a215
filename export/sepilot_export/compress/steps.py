"""The steps of a compression in their order, and what each makes of a net."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepilot_export.compress import distill, slim, tfmot
from sepilot_export.compress.kernels import joined
from sepilot_export.compress.recipe import Compression, Distill
from sepilot_export.compress.step import StepOutcome, Work, training_settings
from sepilot_export.record.compressions import LayerNote
from sepilot_runtime.base.errors import RunError
from sepilot_train.fit.fit import fit
from sepilot_train.fit.settings import History
from sepilot_train.run.material import Material
from sepilot_train.run.net import build_net
from sepilot_train.run.recipe import Recipe, load_recipe
from sepilot_train.run.request import Request
from sepilot_train.run.run import Run

__all__ = ["Net", "Task", "require_supported", "steps_of"]

_NO_HISTORY = History(rows=(), kept_epoch=0, stopped_early=False)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Net:
    """A net on its way through the steps. A distillation may change recipe and pictures as well.

    Attributes:
        history: of a distillation.
        layers: a note for each kernel that something was done to.
        int8: the file that the last step trained for int8; None where that was another.
        warnings: one line each.
    """

    model: Any
    recipe: Recipe
    material: Material
    history: History = _NO_HISTORY
    layers: tuple[LayerNote, ...] = ()
    int8: bytes | None = None
    warnings: tuple[str, ...] = ()

    def after(self, outcome: StepOutcome) -> Net:
        """What a step has made of it."""
        return dataclasses.replace(
            self,
            model=outcome.model,
            int8=outcome.int8,
            layers=joined([*self.layers, *outcome.layers]),
            warnings=(*self.warnings, *outcome.warnings),
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Task:
    """What stays the same from step to step.

    Attributes:
        request: of the run, with the places where its drives are now.
        teachers: of a distillation.
    """

    run: Run
    request: Request
    teachers: tuple[Run, ...]
    moved_to: tuple[Path, ...]
    progress: bool

    def work(self, net: Net, folder: Path, log: Path) -> Work:
        """What a step works with in the new `folder`."""
        folder.mkdir()
        return Work(
            train=net.material.frames("train"),
            validation=net.material.frames("validation"),
            targets=net.recipe.targets,
            augmentation=net.recipe.augmentation,
            seed=self.request.seed,
            folder=folder,
            log=log,
            progress=self.progress,
        )


def steps_of(task: Task, compression: Compression) -> list[tuple[str, Callable[[Net, Work], Net]]]:
    """The steps of one compression with their names. What tfmot does it does in one process."""
    found: list[tuple[str, Callable[[Net, Work], Net]]] = []
    if compression.distill is not None:
        settings = compression.distill
        found.append(("distill", lambda net, work: _distilled(net, task, settings, work)))
    if compression.slim is not None:
        slimming = compression.slim
        found.append(("slim", lambda net, work: net.after(slim.slim(net.model, slimming, work))))
    names = [n for n in ("prune", "cluster", "quantize") if n in compression.sections]
    if names:
        found.append((", ".join(names), lambda net, work: net.after(tfmot.compress(net.model, compression, work))))
    return found


def _distilled(net: Net, task: Task, settings: Distill, work: Work) -> Net:
    import keras

    training = training_settings(settings.finetune, work.seed)
    if settings.student:
        student = _student(settings.student, task.run.recipe)
        recipe = dataclasses.replace(student, training=dataclasses.replace(student.training, seed=work.seed))
        material = task.run.material(moved_to=task.moved_to, picture=student.picture, progress=task.progress)
        training = dataclasses.replace(student.training, epochs=settings.epochs, seed=work.seed)
        keras.utils.set_random_seed(work.seed)
        net = dataclasses.replace(net, model=build_net(student), recipe=recipe, material=material)
    samples, validation = net.material.frames("train"), net.material.frames("validation")
    history = fit(
        net.model, samples, validation, net.recipe.targets, training, net.recipe.augmentation, work.folder,
        show_progress=task.progress, views=settings.views,
        told=distill.answers_of(task.teachers, samples, net.recipe, settings),
    )  # fmt: skip
    return dataclasses.replace(net, history=history, int8=None)


def _student(name: str, recipe: Recipe) -> Recipe:
    """The recipe of a student, which learns what the run's `recipe` learns from the same data."""
    return dataclasses.replace(load_recipe(name), data=recipe.data, outputs=recipe.outputs)


def require_supported(model: Any, recipe: Recipe, compressions: Sequence[Compression]) -> None:
    """Whatever a step cannot handle is said before anything is trained. Raises RunError."""
    if recipe.numbers:
        found = next(iter(recipe.numbers))
        raise RunError(
            f"{recipe.name}: a net of its picture alone expected by `compress`, found inputs.{found} beside it"
        )
    earlier: list[str] = []
    for compression in compressions:
        if compression.distill is not None and compression.distill.student:
            model = build_net(_student(compression.distill.student, recipe))
        if compression.slim is not None:
            slim.require_supported(model)
        if {"prune", "cluster", "quantize"} & set(compression.sections):
            tfmot.require_supported(model, compression, earlier)
        earlier += compression.sections
