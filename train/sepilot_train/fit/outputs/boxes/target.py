"""How boxes are learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from sepilot_runtime.base.errors import ContractError, DriveError, RecipeError
from sepilot_runtime.base.images import natural_key
from sepilot_runtime.contract.outputs.boxes.geometry import Slots, moved_by
from sepilot_runtime.contract.outputs.boxes.output import Anchors, Boxes
from sepilot_runtime.contract.outputs.boxes.task import BoxesTask
from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.plots import Plot
from sepilot_train.base.ranges import require_in
from sepilot_train.fit.outputs.boxes.anchors import anchors_of, box_sizes
from sepilot_train.fit.outputs.boxes.assignment import assigned
from sepilot_train.fit.outputs.boxes.losses import box_loss, score_loss
from sepilot_train.fit.outputs.boxes.metrics import BoxesMetrics, boxes_metrics
from sepilot_train.fit.outputs.boxes.plots import plots_of
from sepilot_train.fit.outputs.protocol import Labels, Motion
from sepilot_train.fit.settings import TrainingSettings

__all__ = ["BoxesTarget"]

STAND_INS = ("class 0", "class 1", "class 2")
"""Names that stand for classes before the recordings are known: for `inspect`, and for checking a recipe."""

TEACHES = 0.1
"""How sure another net has to be of a slot that its box is asked of the one that learns from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxesTarget:
    """Things in a picture and the boxes around them, as `Boxes` says them.

    Attributes:
        label: the recordings' label that it learns.
        names: of the classes, in the order of the net's scores; none takes all that the training recordings have.
        weight: of its loss in the sum of all.
        strides: pixels of a picture to a cell, scale by scale, as the net has them.
        grid: rows and columns of cells, scale by scale, in place of strides: ((1, 1)) locates one thing.
        anchors: widths and heights in fractions of the picture, smallest first; each scale has as many of them, the
            first one the smallest. Each scale has one of two cells where none are given.
        anchor_count: so many are found in the training recordings, where none are given.
        box_weight: of the boxes' numbers against the scores.
        focus: exponent of the scores' loss; the higher, the less easy slots count; 0: cross-entropy.
        confidence, iou, max_boxes: as in the contract.
    """

    kind: ClassVar[Literal["boxes"]] = "boxes"
    sideways: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    mirrors: ClassVar[bool] = True

    label: str = "boxes"
    names: tuple[str, ...] = ()
    weight: float = 1.0
    strides: tuple[int, ...] = ()
    grid: tuple[tuple[int, int], ...] = ()
    anchors: tuple[tuple[float, float], ...] = ()
    anchor_count: int = 0
    box_weight: float = 1.0
    focus: float = 2.0
    confidence: float = 0.25
    iou: float = 0.5
    max_boxes: int = 100

    def __post_init__(self) -> None:
        for key, most in (("weight", 1e6), ("box_weight", 1e6), ("focus", 5), ("anchor_count", 64)):
            require_in(key, getattr(self, key), 0, most)
        scales = len(self.grid or self.strides)
        if not scales or min((1, *self.strides)) < 1:
            raise RecipeError("strides: pixels to a cell of each scale expected, such as [16, 32], or a grid")
        if (count := len(self.anchors) or self.anchor_count) % scales:
            raise RecipeError(f"anchors: as many for each of {scales} scales expected, found {count}")

    def fitted(self, picture: Picture) -> Self:
        if self.grid:
            return self
        cells = tuple((-(-picture.height // stride), -(-picture.width // stride)) for stride in self.strides)
        return dataclasses.replace(self, grid=cells)

    def settled(self, name: str, drives: Sequence[Drive], picture: Picture) -> Self:
        found = {n for drive in drives for n in drive.label_names.get(self.label, ())}
        if not found:
            return self  # Who opens them says that they have no such label.
        names = self.names or tuple(sorted(found, key=lambda name: natural_key(Path(name))))
        if missing := [n for n in names if n not in found]:
            raise DriveError(f"{drives[0].path}: boxes of the class {missing[0]} expected, found none")
        anchors = self.anchors
        if self.anchor_count and not anchors:
            sizes = box_sizes(drives, self.label, picture)
            if len(sizes) < self.anchor_count:
                raise DriveError(
                    f"{drives[0].path}: {self.anchor_count} boxes or more expected to find anchors in, "
                    f"found {len(sizes)}"
                )
            anchors = anchors_of(sizes, self.anchor_count)
        return dataclasses.replace(self, names=names, anchors=anchors)

    def output(self, name: str, full_scale_deg: float) -> Boxes:
        try:
            return Boxes(
                name=name, names=self.names or STAND_INS, grid=self.grid, anchors=self._anchors_by_scale(),
                confidence=self.confidence, iou=self.iou, max_boxes=self.max_boxes,
            )  # fmt: skip
        except ContractError as e:
            raise RecipeError(str(e)) from e

    def remarks(self, train: Labels, validation: Labels) -> Sequence[str]:
        found = []
        for where, labels in (("to train on", train), ("to judge on", validation)):
            counts = np.bincount(labels[..., 0][labels[..., 0] >= 0].astype(np.int64), minlength=len(self.names))
            if absent := [name for name, count in zip(self.names, counts, strict=True) if not count]:
                found.append(f"no box {where} of {len(absent)} of {len(counts)} classes: {', '.join(absent)[:200]}")
        slots = assigned(train, Slots.of(self.output("boxes", 1.0)))
        if crowded := int(((train[..., 0] >= 0) & (slots < 0)).sum()):
            found.append(f"{crowded:,} boxes to train on find no free anchor in their cells: not learned")
        return found

    def losses(self, name: str, settings: TrainingSettings) -> Mapping[str, Any]:
        return {f"{name}.boxes": box_loss(self.box_weight), f"{name}.scores": score_loss(self.focus)}

    def moved(self, labels: Labels, motion: Motion) -> Labels:
        return moved_by(labels, motion.matrix)

    def wanted(self, name: str, labels: Labels) -> Mapping[str, Labels]:
        """Of each slot that has to say a box its numbers, of others NaN; and 1 for the class that it has to say."""
        output = self.output(name, 1.0)
        slots, count = Slots.of(output), len(labels)
        boxes = np.full((count, output.slots, 4), np.nan, np.float32)
        scores = np.zeros((count, output.slots, len(output.names)), np.float32)
        at = assigned(labels, slots)
        picture, row = np.nonzero(at >= 0)
        slot = at[picture, row]
        boxes[picture, slot] = slots.encode(labels[picture, row, 1:], slot)
        scores[picture, slot, labels[picture, row, 0].astype(np.int64)] = 1
        return self._shaped(output, boxes, scores)

    def taught(self, name: str, said: Mapping[str, Labels]) -> Mapping[str, Labels]:
        scores = 1 / (1 + np.exp(-said[f"{name}.scores"]))
        sure = scores.max(axis=-1, keepdims=True) >= TEACHES
        return {f"{name}.boxes": np.where(sure, said[f"{name}.boxes"], np.nan), f"{name}.scores": scores}

    def mae(self, labels: Labels, answers: Labels) -> float:
        """Mean of 1 - F1."""
        return float(self._task.error(answers, labels).mean())

    def metrics(self, labels: Labels, answers: Labels, constant: Any) -> BoxesMetrics:
        return boxes_metrics(labels, answers, constant, self._task)

    def plots(self, labels: Array, answers: Array, metrics: BoxesMetrics, output: Boxes) -> tuple[Plot, ...]:
        return plots_of(labels, answers, metrics, output)

    @property
    def _task(self) -> BoxesTask:
        return BoxesTask(self.output("boxes", 1.0))

    def _anchors_by_scale(self) -> Anchors:
        if not (self.anchors or self.anchor_count):
            return tuple(((min(1.0, 2 / columns), min(1.0, 2 / rows)),) for rows, columns in self.grid)
        count = self.anchor_count
        anchors = self.anchors or tuple(((i + 1) / (count + 1), (i + 1) / (count + 1)) for i in range(count))
        each = len(anchors) // len(self.grid)
        return tuple(anchors[start : start + each] for start in range(0, len(anchors), each))

    def _shaped(self, output: Boxes, *parts: Labels) -> dict[str, Labels]:
        named = zip(output.tensors.items(), parts, strict=True)
        return {name: part.reshape(len(part), *shape) for (name, shape), part in named}
