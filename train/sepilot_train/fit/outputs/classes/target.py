"""How classes are learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from sepilot_runtime.base.errors import DriveError, RecipeError
from sepilot_runtime.base.images import natural_key
from sepilot_runtime.contract.outputs.classes.output import Classes
from sepilot_runtime.contract.outputs.classes.task import ClassesTask, probabilities
from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.plots import Plot
from sepilot_train.base.ranges import require_in
from sepilot_train.fit.outputs.classes.metrics import ClassesMetrics, classes_metrics
from sepilot_train.fit.outputs.classes.plots import plots_of
from sepilot_train.fit.outputs.protocol import Labels, Motion
from sepilot_train.fit.settings import TrainingSettings

__all__ = ["ClassesTarget"]

STAND_INS = tuple(f"class {number}" for number in range(10))
"""Names that stand for classes before the recordings are known: for `inspect`, and for checking a recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassesTarget:
    """One class per picture.

    Attributes:
        label: the recordings' label that it learns.
        names: of the classes, in the order of the net's numbers; none takes all that the training recordings have.
        weight: of its loss in the sum of all.
        label_smoothing: share of the certainty that is spread over all classes.
        mirror_pairs: classes that a mirrored picture turns into each other, such as turn-left and turn-right. Without
            them a mirrored picture is still of its class.
        reject_below: as in the contract.
    """

    kind: ClassVar[Literal["classes"]] = "classes"
    sideways: ClassVar[bool] = False
    mirrors: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    label: str = "class"
    names: tuple[str, ...] = ()
    weight: float = 1.0
    label_smoothing: float = 0.0
    mirror_pairs: tuple[tuple[str, str], ...] = ()
    reject_below: float = 0.0

    def __post_init__(self) -> None:
        require_in("weight", self.weight, 0, 1e6)
        require_in("label_smoothing", self.label_smoothing, 0, 0.9)
        paired = [name for pair in self.mirror_pairs for name in pair]
        if len(set(paired)) < len(paired):
            raise RecipeError(f"mirror_pairs: each class in one pair expected, found {', '.join(paired)}")
        if self.names and (strange := set(paired) - set(self.names)):
            raise RecipeError(f"mirror_pairs: classes among {', '.join(self.names)} expected, found {min(strange)}")

    def fitted(self, picture: Picture) -> Self:
        return self

    def settled(self, name: str, drives: Sequence[Drive], picture: Picture) -> Self:
        found = {n for drive in drives for n in drive.label_names.get(self.label, ())}
        if not found:
            return self  # Who opens them says that they have no such label.
        names = self.names or tuple(sorted(found, key=lambda name: natural_key(Path(name))))
        if len(names) < 2:
            raise DriveError(f"{drives[0].path}: two classes or more expected, found {', '.join(names)} alone")
        return dataclasses.replace(self, names=names)

    def output(self, name: str, full_scale_deg: float) -> Classes:
        return Classes(name=name, names=self.names or STAND_INS, reject_below=self.reject_below)

    def remarks(self, train: Labels, validation: Labels) -> Sequence[str]:
        sides = {"to train on": train, "to judge on": validation}
        absent = {
            where: [name for place, name in enumerate(self.names) if not (labels == place).any()]
            for where, labels in sides.items()
        }
        return [
            f"no picture {where} of {len(names)} of {len(self.names)} classes: {', '.join(names)[:200]}"
            for where, names in absent.items()
            if names
        ]

    def losses(self, name: str, settings: TrainingSettings) -> Mapping[str, Any]:
        import keras

        smoothing = self.label_smoothing
        return {name: keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)}

    def moved(self, labels: Labels, motion: Motion) -> Labels:
        if not self.mirror_pairs:
            return labels
        turned = np.arange(len(self.names), dtype=np.float32)
        for one, other in self.mirror_pairs:
            a, b = self.names.index(one), self.names.index(other)
            turned[[a, b]] = b, a
        return np.where(motion.sign < 0, turned[labels.astype(np.int64)], labels)

    def wanted(self, name: str, labels: Labels) -> Mapping[str, Labels]:
        """One-hot."""
        return {name: np.eye(len(self.names), dtype=np.float32)[labels.astype(np.int64)]}

    def taught(self, name: str, said: Mapping[str, Labels]) -> Mapping[str, Labels]:
        return {name: probabilities(said[name]).astype(np.float32)}

    def mae(self, labels: Labels, answers: Labels) -> float:
        """Share of wrong answers."""
        return float(self._task.error(answers, labels).mean())

    def metrics(self, labels: Labels, answers: Labels, constant: Any) -> ClassesMetrics:
        return classes_metrics(labels, answers, constant, self._task)

    def plots(self, labels: Array, answers: Array, metrics: ClassesMetrics, output: Classes) -> tuple[Plot, ...]:
        return plots_of(labels, answers, metrics, output)

    @property
    def _task(self) -> ClassesTask:
        return ClassesTask(self.output("", 1.0))
