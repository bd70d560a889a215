"""How points are learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from sepilot_runtime.base.errors import DriveError, RecipeError
from sepilot_runtime.contract.outputs.points.output import Points, require_pairs
from sepilot_runtime.contract.outputs.points.task import PointsTask, visible
from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.plots import Plot
from sepilot_train.base.ranges import require_in
from sepilot_train.fit.outputs.points.metrics import PointsMetrics, points_metrics
from sepilot_train.fit.outputs.points.plots import plots_of
from sepilot_train.fit.outputs.protocol import Labels, Motion
from sepilot_train.fit.settings import TrainingSettings

__all__ = ["PointsTarget"]

STAND_INS = tuple(f"point {number}" for number in range(5))
"""Names that stand for points before the recordings are known: for `inspect`, and for checking a recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsTarget:
    """The points of one thing per picture, each known or not; where none is, the picture holds nothing.

    Attributes:
        label: the recordings' label that it learns.
        names: of the points, in the order of the net's numbers; none takes all that the training recordings have.
        weight: of its losses in the sum of all.
        presence: does it learn whether the thing is there? Where nothing is said, if a training picture holds nothing.
        presence_from, skeleton: as in the contract.
        flip_pairs: points that a mirrored picture turns into each other, such as the left and the right eye; an empty
            list where there are none. Where nothing is said, pictures cannot be mirrored.
        normalize_by: as in the contract; "" is the "box" of three points or more, and the "picture" of fewer.
    """

    kind: ClassVar[Literal["points"]] = "points"
    sideways: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    label: str = "points"
    names: tuple[str, ...] = ()
    weight: float = 1.0
    presence: bool | None = None
    presence_from: float = 0.5
    flip_pairs: tuple[tuple[str, str], ...] | None = None
    skeleton: tuple[tuple[str, str], ...] = ()
    normalize_by: Literal["", "box", "picture"] | tuple[str, str] = ""

    def __post_init__(self) -> None:
        require_in("weight", self.weight, 0, 1e6)
        try:
            require_pairs(self._names, self.flip_pairs or (), self.skeleton, self.normalize_by)
        except ValueError as e:
            raise RecipeError(str(e)) from e

    @property
    def mirrors(self) -> bool:
        return self.flip_pairs is not None

    def fitted(self, picture: Picture) -> Self:
        return self

    def settled(self, name: str, drives: Sequence[Drive], picture: Picture) -> Self:
        known = [drive for drive in drives if self.label in drive.label_names]
        if not known:
            return self  # Who opens them says that they have no such label.
        names = self.names or known[0].label_names[self.label]
        for drive in known:
            found = drive.label_names[self.label]
            if missing := [n for n in names if n not in found]:
                raise DriveError(f"{drive.path}: the point {missing[0]} expected, found {', '.join(found)[:200]}")
            if not self.names and len(found) > len(names):
                more = next(n for n in found if n not in names)
                raise DriveError(f"{drive.path}: the points of {known[0].path} expected, found {more} as well")
        try:
            require_pairs(names, self.flip_pairs or (), self.skeleton, self.normalize_by)
        except ValueError as e:
            raise DriveError(f"{known[0].path}: outputs.{name}.{e}") from e
        empty = any(not np.isfinite(drive.labels[self.label]).any(axis=(1, 2)).all() for drive in known)
        return dataclasses.replace(self, names=names, presence=empty if self.presence is None else self.presence)

    def output(self, name: str, full_scale_deg: float) -> Points:
        return Points(
            name=name,
            names=self._names,
            presence=bool(self.presence),
            presence_from=self.presence_from,
            flip_pairs=self.flip_pairs or (),
            skeleton=self.skeleton,
            normalize_by=self.normalize_by or ("box" if len(self._names) > 2 else "picture"),
        )

    def remarks(self, train: Labels, validation: Labels) -> Sequence[str]:
        """Points that one side never shows."""
        shown = [np.asarray(visible(labels).any(axis=0)) for labels in (train, validation)]
        return [
            f"{', '.join(n for n, s in zip(self._names, seen, strict=True) if not s)[:200]}: in no picture {what}"
            for seen, what in zip(shown, ("to train on", "to judge on"), strict=True)
            if not seen.all()
        ]

    def losses(self, name: str, settings: TrainingSettings) -> Mapping[str, Any]:
        from sepilot_train.fit.outputs.points.loss import Presence, Wing

        if not self.presence:
            return {name: Wing()}
        return {f"{name}.places": Wing(), f"{name}.presence": Presence()}

    def moved(self, labels: Labels, motion: Motion) -> Labels:
        """NaN where a point is moved out of the picture; pairs change places where it is seen in a mirror."""
        matrix = motion.matrix
        moved = labels @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]
        mirrored = (motion.sign < 0) != motion.vertical
        moved = np.where(mirrored[..., None, None], moved[..., self._mirrored(), :], moved)
        inside = ((moved >= 0) & (moved <= 1)).all(axis=-1, keepdims=True)
        return np.where(inside, moved, np.float32(np.nan))

    def wanted(self, name: str, labels: Labels) -> Mapping[str, Labels]:
        """Places (batch, numbers), NaN where unknown, and whether any is known (batch, 1)."""
        there = np.asarray(visible(labels).any(axis=-1, keepdims=True), np.float32)
        return self._by_tensor(name, labels.reshape(len(labels), -1), there)

    def taught(self, name: str, said: Mapping[str, Labels]) -> Mapping[str, Labels]:
        if not self.presence:
            return said
        logits = said[f"{name}.presence"]
        present = PointsTask(self.output(name, 1.0)).presence(logits).astype(np.float32).reshape(-1, 1)
        places = np.asarray(np.where(present >= self.presence_from, said[f"{name}.places"], np.nan), np.float32)
        return self._by_tensor(name, places, present)

    def mae(self, labels: Labels, answers: Labels) -> float:
        """Normalized mean error."""
        return float(self._task.error(answers, labels).mean())

    def metrics(self, labels: Labels, answers: Labels, constant: Any) -> PointsMetrics:
        return points_metrics(labels, answers, constant, self._task)

    def plots(self, labels: Array, answers: Array, metrics: PointsMetrics, output: Points) -> tuple[Plot, ...]:
        return plots_of(labels, answers, metrics, output)

    @property
    def _names(self) -> tuple[str, ...]:
        """Of the points, or what stands for them: those that pairs name."""
        by = () if isinstance(self.normalize_by, str) else (self.normalize_by,)
        named = dict.fromkeys(n for pair in (*(self.flip_pairs or ()), *self.skeleton, *by) for n in pair)
        return self.names or tuple(named) or STAND_INS

    @property
    def _task(self) -> PointsTask:
        return PointsTask(self.output("", 1.0))

    def _mirrored(self) -> list[int]:
        order = list(range(len(self._names)))
        for pair in self.flip_pairs or ():
            a, b = (self._names.index(name) for name in pair)
            order[a], order[b] = b, a
        return order

    def _by_tensor(self, name: str, places: Labels, presence: Labels) -> Mapping[str, Labels]:
        return {f"{name}.places": places, f"{name}.presence": presence} if self.presence else {name: places}
