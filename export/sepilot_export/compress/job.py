"""From a finished run to a compressed one: again a run directory, so that every later verb takes it.

Beside what `sepilot train` writes it holds

compression.json   parent run, recipes, what was done to each kernel, figures before and after
int8.tflite        where the last step quantized: the file that was trained for int8
compress.log       what the tools of a quantization or pruning had to say
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepilot_export.compress import distill, slim, tfmot
from sepilot_export.compress.evaluation import judge_int8, judge_net
from sepilot_export.compress.recipe import Compression, Distill
from sepilot_export.compress.step import StepOutcome, Work, WorkFailed, training_settings
from sepilot_export.compress.step_order import INT8_NAME, require_order
from sepilot_export.record.compressions import COMPRESSION_NAME, CompressionRecord, Evaluation, LayerNote
from sepilot_export.record.exports import TOOLS
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import atomic_directory, require_new, sha256_of, write_json
from sepilot_runtime.device.conditions import versions
from sepilot_train.base.frame_set import Answers, only
from sepilot_train.fit.fit import fit
from sepilot_train.fit.settings import History
from sepilot_train.run.material import Material
from sepilot_train.run.net import build_net
from sepilot_train.run.recipe import Recipe, load_recipe
from sepilot_train.run.request import Request
from sepilot_train.run.run import Run, open_run
from sepilot_train.run.training import complete_run, start_run
from sepilot_train.run.validation import read_validation

__all__ = ["Compressed", "compress_run"]

LOG_NAME = "compress.log"

_NO_HISTORY = History(rows=(), kept_epoch=0, stopped_early=False)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Compressed:
    """What came of it.

    Attributes:
        figures: before, after, and of the int8 file where there is one; `mae_increase` is against the first.
        max_deviation: of the int8 file from its float net, in output values.
    """

    run: Run
    figures: tuple[Evaluation, ...]
    constant_mae: float
    layers: tuple[LayerNote, ...]
    max_deviation: float | None
    warnings: tuple[str, ...]
    seconds: float


def compress_run(
    run: Run,
    compressions: Sequence[Compression],
    out: Path,
    *,
    teachers: Sequence[Run] = (),
    moved_to: Sequence[Path] = (),
    command: str = "",
    progress: bool = False,
    step: Callable[[str], None] = lambda name: None,
) -> Compressed:
    """Apply compressions one after the other and write the new run directory `out`.

    Args:
        teachers: for a distill section, which alone asks them; the run itself where none is given.
        moved_to: where the run's drives are now, or folders that hold them, when not where they were.
        step: told the name of each step as it begins.

    Raises:
        UsageError, RunError: the run cannot be compressed this way; said before anything is trained.
        RunError: a step's process failed, with the cause and its log, which then lies beside `out`.
        OutputError: `out` exists or cannot be written.
    """
    require_new(out)
    begin = time.perf_counter()
    step("loading the run")
    model = run.load_model()
    require_order(run, model, compressions)
    _require_supported(model, compressions)
    before = run.predictions()
    material = _material(run, before, moved_to, progress=progress)
    request = _moved(run.request, material) if moved_to else run.request
    distilled = any(c.distill is not None for c in compressions)
    asked = list(teachers or [run]) if distilled else []
    task = _Task(
        run=run, request=request, teachers=asked, material=material, model=model, recipe=run.recipe,
        progress=progress, moved_to=moved_to,
    )  # fmt: skip
    if distilled:
        distill.require_fair(asked, material)
    constant_mae = read_validation(run.path).metrics.constant_mae
    with atomic_directory(out) as part, tempfile.TemporaryDirectory(prefix="sepilot-compress-") as scratch:
        layers: tuple[LayerNote, ...] = ()
        warnings: list[str] = []
        int8: bytes | None = None
        log = Path(scratch) / LOG_NAME
        for number, compression in enumerate(compressions):
            for name, apply in _steps(task, compression):
                step(name)
                with _keeping(log, out):
                    outcome = apply(task.work(Path(scratch) / f"{number}-{name}", log))
                task.model, int8 = outcome.model, outcome.int8
                layers, warnings = _merged(layers, outcome.layers), [*warnings, *outcome.warnings]
        name = "-".join([task.recipe.name, *(c.name for c in compressions)])
        recipe = dataclasses.replace(task.recipe, name=name, summary=_summary(task.recipe, compressions))
        step("judging")
        start_run(part, request, recipe, command)
        complete_run(part, recipe, task.material, task.model, task.history, time.perf_counter() - begin)
        made = open_run(part)
        figures = [judge_net(run.recipe.name, model, run), judge_net(name, task.model, made, before)]
        deviation = None
        if int8 is not None:
            pictures = task.material.frames("validation").pictures
            file = judge_int8(Path(scratch) / INT8_NAME, int8, made, pictures, before)
            (part / INT8_NAME).write_bytes(int8)
            figures.append(file.figures)
            deviation = file.max_deviation
        if (history := Path(scratch) / "0-distill" / "history.csv").exists():
            shutil.copy(history, part)
        if log.exists():
            shutil.copyfile(log, part / LOG_NAME)
        result = Compressed(
            run=dataclasses.replace(made, path=out),
            figures=tuple(figures),
            constant_mae=constant_mae,
            layers=layers,
            max_deviation=deviation,
            warnings=tuple(warnings),
            seconds=time.perf_counter() - begin,
        )
        write_json(part / COMPRESSION_NAME, dataclasses.asdict(_record(run, asked, compressions, command, result)))
    return result


@contextlib.contextmanager
def _keeping(log: Path, out: Path) -> Iterator[None]:
    """Within, a failure leaves the log beside `out`, under a name that nothing has yet, and says where."""
    try:
        yield
    except WorkFailed as e:
        raise RunError(f"{e}; log: {_copied(log, out)}") from e


def _copied(log: Path, out: Path) -> Path:
    number = 1
    while True:
        place = out.with_name(f"{out.name}{f'-{number}' if number > 1 else ''}.log")
        try:
            with place.open("xb") as file:
                file.write(log.read_bytes())
        except FileExistsError:
            # The shell made OUT.log for what this command prints, or an earlier failure left its own there.
            number += 1
        else:
            return place


@dataclass(slots=True, kw_only=True)
class _Task:
    """The net on its way through the steps. A distillation may change recipe and pictures as well."""

    run: Run
    request: Request
    teachers: Sequence[Run]
    material: Material
    model: Any
    recipe: Recipe
    progress: bool
    moved_to: Sequence[Path] = ()
    history: History = _NO_HISTORY

    def work(self, folder: Path, log: Path) -> Work:
        folder.mkdir()
        return Work(
            train=self.material.frames("train"),
            validation=self.material.frames("validation"),
            targets=self.recipe.targets,
            augmentation=self.recipe.augmentation,
            seed=self.request.seed,
            folder=folder,
            log=log,
            progress=self.progress,
        )


def _steps(task: _Task, compression: Compression) -> list[tuple[str, Callable[[Work], StepOutcome]]]:
    """The steps of one compression with their names. What tfmot does it does in one process."""
    found: list[tuple[str, Callable[[Work], StepOutcome]]] = []
    if compression.distill is not None:
        settings = compression.distill
        found.append(("distill", lambda work: _distill(task, settings, work)))
    if compression.slim is not None:
        slimming = compression.slim
        found.append(("slim", lambda work: slim.slim(task.model, slimming, work)))
    names = [n for n in ("prune", "cluster", "quantize") if n in compression.sections]
    if names:
        found.append((", ".join(names), lambda work: tfmot.compress(task.model, compression, work)))
    return found


def _distill(task: _Task, settings: Distill, work: Work) -> StepOutcome:
    import keras

    net, training = task.model, training_settings(settings.finetune, work.seed)
    if settings.student:
        student = load_recipe(settings.student)
        seeded = dataclasses.replace(student.training, seed=work.seed)
        task.recipe = dataclasses.replace(student, data=task.run.recipe.data, training=seeded)
        task.material = task.run.material(moved_to=task.moved_to, picture=student.picture, progress=task.progress)
        training = dataclasses.replace(student.training, epochs=settings.epochs, seed=work.seed)
        keras.utils.set_random_seed(work.seed)
        net = build_net(student)
    samples, validation = task.material.frames("train"), task.material.frames("validation")
    task.history = fit(
        net, samples, validation, task.recipe.targets, training, task.recipe.augmentation, work.folder,
        show_progress=task.progress, views=settings.views,
        told=distill.answers_of(task.teachers, samples, task.recipe, settings),
    )  # fmt: skip
    return StepOutcome(model=net)


def _require_supported(model: Any, compressions: Sequence[Compression]) -> None:
    """Whatever a step cannot handle is said before anything is trained."""
    earlier: list[str] = []
    for compression in compressions:
        if compression.distill is not None and compression.distill.student:
            recipe = load_recipe(compression.distill.student)
            model = build_net(recipe)
        if compression.slim is not None:
            slim.require_supported(model)
        if {"prune", "cluster", "quantize"} & set(compression.sections):
            tfmot.require_supported(model, compression, earlier)
        earlier += compression.sections


def _material(run: Run, before: Answers, moved_to: Sequence[Path], *, progress: bool) -> Material:
    """The run's frames, split as they were.

    Raises:
        RunError: a drive is gone or has changed since the training.
    """
    material = run.material(moved_to=moved_to, progress=progress)
    # A drive that is no longer known by its fingerprint is known by its name, which another one may have.
    held = material.frames("validation")
    if not np.array_equal(only(held.labels), only(before.frames.labels)):
        raise RunError(
            f"{run.path}: the labels of {', '.join(material.ids('validation'))} have changed since the training; "
            "train again"
        )
    return material


def _moved(request: Request, material: Material) -> Request:
    """The request with the places where the drives are now."""
    places = {drive.id: str(drive.path.resolve()) for drive in material.drives}
    judging = set(material.ids("validation")) if request.validation_drives else set()
    return dataclasses.replace(
        request,
        drives=tuple(dict.fromkeys(p for name, p in places.items() if name not in judging)),
        validation_drives=tuple(dict.fromkeys(p for name, p in places.items() if name in judging)),
    )


def _merged(old: tuple[LayerNote, ...], new: tuple[LayerNote, ...]) -> tuple[LayerNote, ...]:
    """Notes of an earlier step where the later one says nothing about a layer, the actions joined where both do."""
    later = {(n.layer, n.kind): n for n in new}
    first = {(n.layer, n.kind): n for n in old}
    found = [
        dataclasses.replace(
            later[key], action=f"{note.action}; {later[key].action}", weights_before=note.weights_before
        )
        if key in later
        else note
        for key, note in first.items()
    ]
    return (*found, *(note for key, note in later.items() if key not in first))


def _summary(recipe: Recipe, compressions: Sequence[Compression]) -> str:
    return f"{recipe.name}, then " + ", then ".join(c.name for c in compressions)


def _record(
    run: Run, teachers: Sequence[Run], compressions: Sequence[Compression], command: str, result: Compressed
) -> CompressionRecord:
    return CompressionRecord(
        name=result.run.recipe.name,
        summary=result.run.recipe.summary,
        parent=str(run.path.resolve()),
        parent_model_sha256=sha256_of(run.model_path),
        teachers=tuple(str(t.path.resolve()) for t in teachers),
        command=command,
        sections=tuple(s for c in compressions for s in c.sections),
        recipes=tuple({k: v for k, v in dataclasses.asdict(c).items() if v is not None} for c in compressions),
        tools=versions(TOOLS),
        seconds=round(result.seconds, 1),
        constant_mae=result.constant_mae,
        figures=result.figures,
        max_deviation=result.max_deviation,
        layers=result.layers,
        warnings=result.warnings,
    )
