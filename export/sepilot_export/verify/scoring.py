"""Any model file with a contract on a labelled data set: what it answers, picture by picture, and how good that is.

The file is asked through the interpreter that will run it, of pictures as the car makes them. Needs no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.verify.raw_frames import resized
from sepilot_export.verify.set_labels import columns_beside, labels_in, numbers_beside, strangers
from sepilot_runtime.base.bootstrap import BLOCK, Interval, grouped_mean
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.contract.contract import Contract, Output
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.engine.names import EngineName
from sepilot_runtime.engine.pilot import Pilot, answers_to, load_pilot
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_train.base.cache import PictureSet, load_pictures
from sepilot_train.base.plots import Plot
from sepilot_train.fit.outputs.boxes.metrics import boxes_metrics
from sepilot_train.fit.outputs.boxes.plots import plots_of as plots_of_boxes
from sepilot_train.fit.outputs.classes.metrics import classes_metrics
from sepilot_train.fit.outputs.classes.plots import plots_of as plots_of_classes
from sepilot_train.fit.outputs.embedding.metrics import embedding_metrics
from sepilot_train.fit.outputs.embedding.plots import plots_of as plots_of_embedding
from sepilot_train.fit.outputs.points.metrics import points_metrics
from sepilot_train.fit.outputs.points.plots import plots_of as plots_of_points
from sepilot_train.fit.outputs.protocol import Metrics
from sepilot_train.fit.outputs.scalar.metrics import scalar_metrics

__all__ = ["DataSet", "OutputScore", "open_data", "plots_of", "score"]

Tick = Callable[[], None]

METRICS: Mapping[str, Callable[[Any, Any, Any, Any], Metrics]] = {
    "scalar": lambda labels, answers, constant, _task: scalar_metrics(labels, answers, constant),
    "classes": classes_metrics,
    "boxes": boxes_metrics,
    "points": points_metrics,
    "embedding": lambda labels, answers, constant, task: embedding_metrics(
        labels, answers, constant, task, task.output.false_accept_rate
    ),
}
"""By kind, further figures of labels, answers, the constant's answer and the task. Others have their error alone."""

PLOTS: Mapping[str, Callable[[Any, Any, Any, Any], Sequence[Plot]]] = {
    "classes": plots_of_classes,
    "boxes": plots_of_boxes,
    "points": plots_of_points,
    "embedding": plots_of_embedding,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataSet:
    """A labelled data set as one file sees it.

    Attributes:
        sets: recordings with a label of one of the outputs at least.
        labels: by output, of all pictures in a row, NaN where they say nothing to the file.
        vectors: by vector input, (n, size).
        groups: of each picture what is alike: the set's groups, or stretches of a recording.
        notes: what a user should know, a line each.
    """

    sets: tuple[PictureSet, ...]
    labels: Mapping[str, NDArray[np.float32]]
    vectors: Mapping[str, NDArray[np.float32]]
    groups: tuple[str, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutputScore:
    """How good one output is.

    Attributes:
        answers, labels: of the pictures that have a label, (n, ...) each.
        groups: how many of them were drawn for the interval.
        error: mean of `OutputTask.error`, in label units.
        constant_error: the same of the one answer that is right for most of these very labels.
        metrics: of its kind; None where that has none.
    """

    output: Output
    answers: NDArray[np.float32]
    labels: NDArray[np.float32]
    groups: int
    error: Interval
    constant_error: float
    metrics: Metrics | None


def open_data(
    contract: Contract, file: Path, paths: Sequence[Path], options: ReaderOptions, *, progress: bool
) -> DataSet:
    """Read and decode what a file is to be scored on, with the labels that its outputs are called by.

    Raises:
        DriveError: nothing there can be read.
        UsageError: no picture has a label that the file knows.
        RunError: what goes beside the pictures is lacking.
    """
    outputs, picture = contract.outputs, contract.picture
    columns = [column for vector in contract.vectors for column in columns_beside(vector, file)]
    asked = dict.fromkeys([*options.labels, *(o.name for o in outputs), *columns])
    reader = options.wishing(name for name in asked if name not in options.labels)
    drives, notes = _judging_part(open_drives(paths, reader))
    sets = [load_pictures(drive, picture, labels=(), progress=progress) for drive in drives]
    labels = {o.name: labels_in(sets, o, picture) for o in outputs}
    taken = [i for i in range(len(sets)) if any(_known(o, labels[o.name][i]).any() for o in outputs)]
    notes += [line for o in outputs for line in strangers(o, sets, picture)]
    if not taken:
        names = " or ".join(o.name for o in outputs)
        raise UsageError("; ".join([f"{paths[0]}: labels of {names} that {file} knows expected, found none", *notes]))
    notes += [f"{s.drive.path}: left out, no label that the file knows" for i, s in enumerate(sets) if i not in taken]
    notes += [f"{s.drive.path}: {n:,} left out: {reason}" for s in sets for reason, n in s.drive.skipped.items()]
    trained = {*contract.provenance.drives} & {s.drive.id for s in sets}
    notes += [f"{name}: the file was trained on a set of this name" for name in sorted(trained)]
    sets = [sets[i] for i in taken]
    return DataSet(
        sets=tuple(sets),
        labels={name: np.concatenate([of[i] for i in taken]) for name, of in labels.items()},
        vectors={vector.name: numbers_beside(sets, vector) for vector in contract.vectors},
        groups=tuple(group for s in sets for group in _groups(s.drive)),
        notes=tuple(notes),
    )


def score(
    data: DataSet, file: Path, *, engine: EngineName | None = None, tick: Tick = lambda: None
) -> tuple[Pilot, list[OutputScore]]:
    """Ask a file of every picture, and judge the outputs that have labels.

    Raises:
        ModelFileError, ContractError, UsageError: as `load_pilot`, or it answers with what is no number.
    """
    pilot = load_pilot(file, engine=engine)
    infer = pilot.infer_picture if pilot.contract.frame is None else pilot.infer
    answers = answers_to(infer, _inputs(pilot, data, tick))
    scores = []
    for output in pilot.contract.outputs:
        known = _known(output, data.labels[output.name])
        if known.any():
            groups = [group for group, k in zip(data.groups, known, strict=True) if k]
            scores.append(_scored(output, answers[output.name][known], data.labels[output.name][known], groups))
    return pilot, scores


def plots_of(scored: OutputScore) -> Sequence[Plot]:
    """The figures of its kind; none where that has none."""
    made = PLOTS.get(scored.output.kind)
    return made(scored.labels, scored.answers, scored.metrics, scored.output) if made else ()


def _scored(
    output: Output, answers: NDArray[np.float32], labels: NDArray[np.float32], groups: Sequence[str]
) -> OutputScore:
    task = task_of(output)
    constant = task.constant(labels)
    still = np.broadcast_to(np.asarray(constant, np.float32), answers.shape)
    made = METRICS.get(output.kind)
    errors = task.error(answers, labels)
    sure = np.isfinite(errors)  # A picture without another one of its kind has no error.
    if not sure.any():
        raise UsageError(f"{output.name}: labels that an error can be told of expected, found none")
    return OutputScore(
        output=output,
        answers=answers,
        labels=labels,
        groups=len(set(groups)),
        error=grouped_mean(errors[sure], [group for group, s in zip(groups, sure, strict=True) if s]),
        constant_error=float(np.nanmean(task.error(still, labels))),
        metrics=made(labels, answers, constant, task) if made else None,
    )


def _known(output: Output, labels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,): nothing where no set has the label, and so nobody knows its shape."""
    return task_of(output).known(labels) if np.isfinite(labels).any() else np.zeros(len(labels), bool)


def _inputs(pilot: Pilot, data: DataSet, tick: Tick) -> Iterator[NDArray[np.uint8]]:
    place = 0
    for found in data.sets:
        for i in range(len(found.drive)):
            for name, values in data.vectors.items():
                pilot.vectors[name][:] = values[place]
            size = pilot.contract.frame
            yield found.pictures[i] if size is None else resized(found.drive.read(i), size)
            tick()
            place += 1


def _judging_part(drives: Sequence[Drive]) -> tuple[list[Drive], list[str]]:
    """The test part alone, or else the val part, where other parts lie beside it: those were learned or chosen on."""
    sides = {drive.side for drive in drives}
    side = next((side for side in ("test", "val") if side in sides), "")
    if not side or len(sides) == 1:
        return list(drives), []
    left = " and ".join(sorted(other or "what is neither" for other in sides - {side}))
    taken = [drive for drive in drives if drive.side == side]
    return taken, [f"the {side} part alone is scored, {left} left out; name a folder to score that"]


def _groups(drive: Drive) -> list[str]:
    """Neighbouring frames of a recording are alike, so stretches of them are a group."""
    length = max(1, min(BLOCK, len(drive) // 20))
    own = drive.groups or [str(i // length) for i in range(len(drive))]
    return [f"{drive.id}\n{group}" for group in own]
