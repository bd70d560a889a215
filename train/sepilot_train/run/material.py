"""What a net is trained and judged on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.contract.contract import Output, Picture
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import open_apart
from sepilot_runtime.recording.options import DriveFilter
from sepilot_train.base.cache import PictureSet, load_pictures
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.base.stored import StoredPictures
from sepilot_train.fit.outputs.protocol import Comparing
from sepilot_train.run import split
from sepilot_train.run.recipe import Recipe
from sepilot_train.run.request import Request, wanted_frames
from sepilot_train.run.split import Split

__all__ = ["Material", "Side", "alike", "columns_of", "gather", "input_columns_of", "labels_of", "load_sets",
           "material_of", "open_sides", "set_labels", "vectors_of"]  # fmt: skip

Side = Literal["train", "validation"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Material:
    """Drives decoded and split.

    Attributes:
        outputs: what is learned, as the contract will say it.
        columns: by output, the recordings' column that it learns.
        labels: by output, of each of `sets`, what its answers are held against.
        vectors: by input beside the picture, of each of `sets`, its values, (n, size).
        split: its index arrays go with `sets`.
    """

    outputs: tuple[Output, ...]
    columns: Mapping[str, str]
    sets: tuple[PictureSet, ...]
    labels: Mapping[str, tuple[NDArray[np.float32], ...]]
    split: Split
    vectors: Mapping[str, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)

    @property
    def drives(self) -> tuple[Drive, ...]:
        return tuple(s.drive for s in self.sets)

    def frames(self, side: Side) -> FrameSet:
        """The frames of one side in a row."""
        indices: tuple[NDArray[np.int64], ...] = getattr(self.split, side)
        parts = [(s, i) for s, i in zip(self.sets, indices, strict=True) if len(i)]
        return FrameSet(
            pictures=StoredPictures.joined([(s.pictures, i) for s, i in parts]),
            labels=_joined(self.labels, indices),
            vectors=_joined(self.vectors, indices),
            drives=tuple(s.drive.id for s, i in parts for _ in i),
            names=tuple(s.drive.names[j] for s, i in parts for j in i),
        )

    def ids(self, side: Side) -> tuple[str, ...]:
        """The drives that have frames on one side."""
        return tuple(s.drive.id for s, i in zip(self.sets, getattr(self.split, side), strict=True) if len(i))


ByDrive = Mapping[str, Sequence[NDArray[np.float32]]]
"""By output or input, of each drive (n, ...)."""


def _joined(values: ByDrive, indices: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
    return {
        name: np.concatenate([of_set[i] for of_set, i in zip(by_set, indices, strict=True) if len(i)])
        for name, by_set in values.items()
    }


def input_columns_of(recipe: Recipe) -> tuple[str, ...]:
    """The recordings' columns that the net is given beside its picture."""
    return tuple(dict.fromkeys(column for numbers in recipe.numbers.values() for column in numbers.columns))


def columns_of(recipe: Recipe) -> dict[str, str]:
    """By output, the recordings' column that it learns."""
    return {name: target.label or name for name, target in recipe.targets.items()}


def set_labels(output: Output, column: str, found: PictureSet, picture: Picture) -> NDArray[np.float32]:
    """What answers to the pictures of a set are held against, (n, ...) as the output's kind has labels."""
    drive = found.drive
    task, names = task_of(output), drive.label_names.get(column, ())
    return task.labels(drive.labels[column], names, found.windows(picture))


def gather(
    request: Request, recipe: Recipe, *, sides: tuple[list[Drive], list[Drive]] | None = None, progress: bool
) -> Material:
    """Read, filter, decode and split the drives of a request.

    Args:
        sides: as `open_sides` gave them, where the drives were opened before.

    Raises:
        DriveError: unreadable, without labels, of different full scales, or too short to split.
    """
    first, given = sides or open_sides(request)
    sets = load_sets([*first, *given], recipe, request.filter, progress=progress)
    _require_usable(sets, columns_of(recipe))
    _require_numbers(sets, recipe)
    sets, labels, vectors = _labelled(sets, recipe)
    compared = [target.label for target in recipe.targets.values() if isinstance(target, Comparing)]
    if compared:
        sets = [_grouped_by(compared[0], s) for s in sets]
        _require_others(sets[: len(first)], sets[len(first) :])
    if given:
        parts = split.by_drive("given", sets, range(len(first), len(sets)))
    else:
        data = recipe.data
        parts = split.split_frames(
            sets, fraction=data.validation_fraction, block_s=data.block_s, guard_s=data.guard_s, seed=request.seed,
            strata=() if compared else labels[next(iter(labels))],
        )  # fmt: skip
    # Side cameras widen what is trained on; the car drives by the centre one, so that one judges.
    judging = tuple(v[s.drive.camera[v] == 0] for s, v in zip(sets, parts.validation, strict=True))
    parts = dataclasses.replace(parts, validation=judging)
    return material_of(recipe, sets, labels, vectors, parts)


def material_of(
    recipe: Recipe, sets: Sequence[PictureSet], labels: ByDrive, vectors: ByDrive, parts: Split
) -> Material:
    """What a split makes of sets, their labels and what goes beside the pictures."""
    return Material(
        outputs=outputs_of(recipe, sets),
        columns=columns_of(recipe),
        sets=tuple(sets),
        labels={name: tuple(by_set) for name, by_set in labels.items()},
        vectors={name: tuple(by_set) for name, by_set in vectors.items()},
        split=parts,
    )


def outputs_of(recipe: Recipe, sets: Sequence[PictureSet]) -> tuple[Output, ...]:
    """What the contract says of what a recipe learns from these sets."""
    return tuple(target.output(name, sets[0].drive.full_scale_deg) for name, target in recipe.targets.items())


def labels_of(recipe: Recipe, sets: Sequence[PictureSet]) -> dict[str, list[NDArray[np.float32]]]:
    """By output, of each set, what answers are held against, (n, ...) as the output's kind has labels."""
    columns = columns_of(recipe)
    return {
        o.name: alike([set_labels(o, columns[o.name], s, recipe.picture) for s in sets])
        for o in outputs_of(recipe, sets)
    }


def alike(labels: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Labels (n, ...) of several sets, filled up with NaN to one shape: each has room for as many boxes as it needs."""
    most = max((found.shape[1] for found in labels if found.ndim > 1), default=0)
    return [
        np.pad(found, ((0, 0), (0, most - found.shape[1]), *((0, 0),) * (found.ndim - 2)), constant_values=np.nan)
        if found.ndim > 1
        else found
        for found in labels
    ]


def vectors_of(recipe: Recipe, sets: Sequence[PictureSet]) -> dict[str, list[NDArray[np.float32]]]:
    """By input beside the picture, of each set, its values (n, size), NaN where the recording does not tell."""
    vectors = {name: numbers.vector(name) for name, numbers in recipe.numbers.items()}
    return {name: [v.numbers(s.drive.labels, s.drive.before) for s in sets] for name, v in vectors.items()}


def _labelled(sets: Sequence[PictureSet], recipe: Recipe) -> tuple[list[PictureSet], ByDrive, ByDrive]:
    """The sets without pictures of which a label or an input is not known; labels and inputs of what is left."""
    labels, vectors = labels_of(recipe, sets), vectors_of(recipe, sets)
    tasks = {output.name: task_of(output) for output in outputs_of(recipe, sets)}
    known = [np.all([tasks[n].known(labels[n][i]) for n in labels], axis=0) for i in range(len(sets))]
    told = [
        np.all([np.ones(len(s.drive), bool), *(np.isfinite(v[i]).all(axis=1) for v in vectors.values())], axis=0)
        for i, s in enumerate(sets)
    ]
    kept = []
    for s, label, given in zip(sets, known, told, strict=True):
        part = s if label.all() else s.taken(np.flatnonzero(label), "label unknown to the training")
        left = given[label]
        kept.append(part if left.all() else part.taken(np.flatnonzero(left), "no number for an input"))
    both = [k & t for k, t in zip(known, told, strict=True)]
    labels, vectors = (
        {name: [y[k] for y, k in zip(by_set, both, strict=True)] for name, by_set in values.items()}
        for values in (labels, vectors)
    )
    return kept, labels, vectors


def _grouped_by(label: str, found: PictureSet) -> PictureSet:
    """A set of which no split parts what has the same label."""
    drive = found.drive
    groups = tuple(drive.label_names[label][int(place)] for place in drive.labels[label])
    return dataclasses.replace(found, drive=dataclasses.replace(drive, groups=groups))


def _require_others(train: Sequence[PictureSet], judge: Sequence[PictureSet]) -> None:
    """Raise DriveError where a label that judges is trained on."""
    seen = {name for s in train for name in s.drive.groups}
    for drive in (s.drive for s in judge):
        if both := sorted(seen.intersection(drive.groups)):
            raise DriveError(
                f"{drive.path}: identities that are not trained on expected, found {len(both)} that are, such as "
                f"{both[0]}; give the training's pictures alone, and whole identities are held out"
            )


def open_sides(request: Request, told: Callable[[str], None] = lambda line: None) -> tuple[list[Drive], list[Drive]]:
    """The drives to train on and those to judge on; named apart together, as every later verb opens them together.

    Args:
        told: gets a line for each recording that was left out.

    Where no drives to judge on were given and a data set has a part for that, it is taken; its test part is left out.

    Raises:
        DriveError: a recording cannot be read, or stands on both sides.
    """
    train, judge = ([Path(p) for p in paths] for paths in (request.drives, request.validation_drives))
    first, given = open_apart(train, judge, request.reader, told=told)
    if given or all(drive.side in ("", "train") for drive in first):
        return first, given
    for drive in (d for d in first if d.side == "test"):
        told(f"{drive.path}: the test part of a data set, which neither trains nor chooses")
    return [d for d in first if d.side in ("", "train")], [d for d in first if d.side == "val"]


def load_sets(drives: Sequence[Drive], recipe: Recipe, filter_: DriveFilter, *, progress: bool) -> list[PictureSet]:
    """Filter and decode drives."""
    kept = [wanted_frames(drive, filter_, recipe.data.min_throttle) for drive in drives]
    labels = tuple(columns_of(recipe).values())
    return [load_pictures(drive, recipe.picture, labels=labels, progress=progress) for drive in kept]


def _require_numbers(sets: Sequence[PictureSet], recipe: Recipe) -> None:
    for name, numbers in recipe.numbers.items():
        for drive, column in ((s.drive, column) for s in sets for column in numbers.columns):
            if not np.isfinite(drive.labels.get(column, np.empty(0))).any():
                raise DriveError(f"{drive.path}: column {column}: numbers expected for inputs.{name}, found none")


def _require_usable(sets: Sequence[PictureSet], columns: Mapping[str, str]) -> None:
    drives, known = [s.drive for s in sets], dict[str, Drive]()
    for drive, pictures in zip(drives, sets, strict=True):
        first = known.setdefault(pictures.fingerprint, drive)
        if first is not drive:
            raise DriveError(
                f"{drive.path}: a copy of {first.path}; a drive must not train and judge, give one of them"
            )
    for drive in drives:
        for column in columns.values():
            if not drive.has(column):
                raise DriveError(f"{drive.path}: has no {column} labels; it can be driven over but not trained on")
    scales = {drive.full_scale_deg for drive in drives}
    if len(scales) > 1:
        raise DriveError(
            f"{drives[0].path}: drives of different full-scale angles "
            f"({', '.join(f'{s:g}' for s in sorted(scales))} degrees) cannot be trained on together; "
            "give the one that is meant with --full-scale-deg"
        )
