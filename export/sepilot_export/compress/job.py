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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sepilot_export.compress import distill
from sepilot_export.compress.evaluation import judge_int8, judge_net
from sepilot_export.compress.recipe import Compression
from sepilot_export.compress.step import WorkFailed
from sepilot_export.compress.step_order import INT8_NAME, require_order
from sepilot_export.compress.steps import Net, Task, require_supported, steps_of
from sepilot_export.record.compressions import COMPRESSION_NAME, CompressedOutput, CompressionRecord, Evaluation
from sepilot_export.record.exports import TOOLS
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import atomic_directory, require_new, sha256_of, write_json
from sepilot_runtime.device.conditions import versions
from sepilot_train.run.material import Material
from sepilot_train.run.request import Request
from sepilot_train.run.run import Run, open_run
from sepilot_train.run.training import complete_run, start_run
from sepilot_train.run.validation import read_validation

__all__ = ["compress_run"]

LOG_NAME = "compress.log"


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
) -> CompressionRecord:
    """Apply compressions one after the other and write the new run directory `out`; what its compression.json says.

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
    net = before = _loaded(run, compressions, moved_to, progress=progress)
    asked = tuple(teachers or [run]) if any(c.distill for c in compressions) else ()
    distill.require_fair(asked, before.material)
    request = _moved(run.request, before.material) if moved_to else run.request
    task = Task(run=run, request=request, teachers=asked, moved_to=tuple(moved_to), progress=progress)
    with atomic_directory(out) as part, tempfile.TemporaryDirectory(prefix="sepilot-compress-") as scratch:
        log = Path(scratch) / LOG_NAME
        with _keeping(log, out):
            for number, compression in enumerate(compressions):
                for name, apply in steps_of(task, compression):
                    step(name)
                    net = apply(net, task.work(net, log.with_name(f"{number}-{name}"), log))
        step("judging")
        return _written(part, before, net, task, compressions, log, command, begin)


def _written(
    part: Path, before: Net, after: Net, task: Task, compressions: Sequence[Compression], log: Path, command: str,
    begin: float,
) -> CompressionRecord:  # fmt: skip
    """Fill the run directory `part`. `begin`: when the work began, as `time.perf_counter` had it."""
    names = [c.name for c in compressions]
    recipe = dataclasses.replace(
        after.recipe,
        name="-".join([after.recipe.name, *names]),
        summary=f"{after.recipe.name}, then {', then '.join(names)}",
    )
    start_run(part, task.request, recipe, command)
    complete_run(part, recipe, after.material, after.model, after.history, time.perf_counter() - begin)
    if after.int8 is not None:
        (part / INT8_NAME).write_bytes(after.int8)
    for kept in (log.parent / "0-distill" / "history.csv", log):
        if kept.exists():
            shutil.copy(kept, part)
    figures, outputs = _judged(before, after, task.run, open_run(part), log.parent)
    first = next(iter(outputs.values()))
    record = CompressionRecord(
        name=recipe.name,
        summary=recipe.summary,
        parent=str(task.run.path.resolve()),
        parent_model_sha256=sha256_of(task.run.model_path),
        teachers=tuple(str(t.path.resolve()) for t in task.teachers),
        command=command,
        sections=tuple(s for c in compressions for s in c.sections),
        recipes=tuple({k: v for k, v in dataclasses.asdict(c).items() if v is not None} for c in compressions),
        tools=versions(TOOLS),
        seconds=round(time.perf_counter() - begin, 1),
        constant_mae=first.constant_mae,
        max_deviation=first.max_deviation,
        outputs=outputs,
        figures=figures,
        layers=after.layers,
        warnings=after.warnings,
    )
    write_json(part / COMPRESSION_NAME, dataclasses.asdict(record))
    return record


def _judged(
    before: Net, after: Net, run: Run, made: Run, scratch: Path
) -> tuple[tuple[Evaluation, ...], dict[str, CompressedOutput]]:
    """The figures of the run and of what was made of it on the held-out frames, and what there is by output."""
    answers, validation = run.predictions(), read_validation(run.path)
    figures = [
        *judge_net(run.recipe.name, before.model, run),
        *judge_net(made.recipe.name, after.model, made, answers),
    ]
    deviation: Mapping[str, float] = {}
    if after.int8 is not None:
        pictures = after.material.frames("validation").pictures
        rows, deviation = judge_int8(scratch / INT8_NAME, after.int8, made, pictures, answers)
        figures += rows
    return tuple(figures), {
        name: CompressedOutput(constant_mae=validation.of(name).constant_mae, max_deviation=deviation.get(name))
        for name in answers.values
    }


def _loaded(run: Run, compressions: Sequence[Compression], moved_to: Sequence[Path], *, progress: bool) -> Net:
    """The run's net and frames, split as they were, if the compressions can be done to them.

    Raises:
        RunError: they cannot, or a drive is gone or has changed since the training.
    """
    model = run.load_model()
    require_order(run, model, compressions)
    require_supported(model, run.recipe, compressions)
    then = run.predictions().frames.labels
    material = run.material(moved_to=moved_to, progress=progress)
    # A drive that is no longer known by its fingerprint is known by its name, which another one may have.
    now = material.frames("validation").labels
    if any(not np.array_equal(now[name], labels) for name, labels in then.items()):
        raise RunError(
            f"{run.path}: the labels of {', '.join(material.ids('validation'))} have changed since the training; "
            "train again"
        )
    return Net(model=model, recipe=run.recipe, material=material)


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


def _moved(request: Request, material: Material) -> Request:
    """The request with the places where the drives are now."""
    places = {drive.id: str(drive.path.resolve()) for drive in material.drives}
    judging = set(material.ids("validation")) if request.validation_drives else set()
    return dataclasses.replace(
        request,
        drives=tuple(dict.fromkeys(p for name, p in places.items() if name not in judging)),
        validation_drives=tuple(dict.fromkeys(p for name, p in places.items() if name in judging)),
    )
