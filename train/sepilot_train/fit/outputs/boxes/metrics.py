"""How good boxes are in pictures that were not trained on, beside saying nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sepilot_runtime.contract.outputs.boxes.geometry import Slots, matched, real_boxes
from sepilot_runtime.contract.outputs.boxes.task import RIGHT, BoxesTask
from sepilot_runtime.contract.outputs.protocol import Array, Output
from sepilot_train.fit.outputs.boxes.assignment import assigned
from sepilot_train.fit.outputs.boxes.average_precision import CONFIDENCE, MOST, average_precision
from sepilot_train.fit.outputs.protocol import Told

__all__ = ["BoxesMetrics", "boxes_metrics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxesMetrics:
    """Attributes:
    mae: mean of 1 - F1 of a picture, at the output's confidence; `constant_mae`, the same of saying nothing.
    map50, map50_95: mean average precision at an IoU of .5, and over .5 to .95; of boxes from a confidence of .001
        on, 100 to a picture, at 101 recalls, as COCO has it.
    precision, recall: of all boxes, at the output's confidence and an IoU of .5.
    boxes: that there are; `crowded`, those of them that had no slot left and no net of this grid could say.
    counts: boxes of each class, in the order of the classes; `average_precision` at .5 goes with it, None for a class
        without boxes.
    curves: by class, precision at recalls of 0, 0.01 to 1; nothing for a class without boxes.
    """

    kind: ClassVar[str] = "boxes"
    r2: ClassVar[None] = None
    constant_r2: ClassVar[None] = None

    count: int
    mae: float
    constant: float
    constant_mae: float
    map50: float
    map50_95: float
    precision: float
    recall: float
    boxes: int
    crowded: int
    counts: tuple[int, ...]
    average_precision: tuple[float | None, ...]
    curves: tuple[tuple[float, ...], ...]

    @property
    def figures(self) -> Mapping[str, float]:
        return {
            "map50": self.map50, "map50_95": self.map50_95, "precision": self.precision, "recall": self.recall,
            "f1_error": self.mae, "constant_f1_error": self.constant_mae, "frames": float(self.count),
            "boxes": float(self.boxes),
        }  # fmt: skip

    def told(self, output: Output) -> tuple[Told, ...]:
        names: tuple[str, ...] = getattr(output, "names", ())
        known = [(ap, name) for ap, name in zip(self.average_precision, names, strict=False) if ap is not None]
        worst, how = min(known, default=None), f"confidence {CONFIDENCE:g}, {MOST} to a picture"
        crowded = Told(
            name="Without a slot", value=f"{self.crowded:,}", remark="boxes in cells that have no anchor left for them"
        )
        return (
            Told(name="mAP50", value=f"{self.map50:.3f}", remark=f"of {self.boxes:,} boxes; {how}"),
            Told(name="mAP50-95", value=f"{self.map50_95:.3f}", remark="mean over overlaps of .5 to .95"),
            Told(name="Precision", value=f"{self.precision:.1%}", remark="of the boxes that are said"),
            Told(name="Recall", value=f"{self.recall:.1%}", remark="of the boxes that there are"),
            *([Told(name="Weakest class", value=f"{worst[0]:.3f}", remark=f"AP50 of {worst[1]}")] if worst else ()),
            *([crowded] if self.crowded else ()),
        )


def boxes_metrics(labels: Array, answers: Array, constant: Any, task: BoxesTask) -> BoxesMetrics:
    """Answers (n, numbers) against labels (n, most, 5), all of them known, n >= 1."""
    judged = average_precision(labels, answers, task)
    still = np.broadcast_to(np.float32(constant), answers.shape)
    places = labels[..., 0][labels[..., 0] >= 0].astype(np.int64)
    right, said = _hits(answers, labels, task)
    slots = assigned(np.asarray(labels, np.float32), Slots.of(task.output))
    return BoxesMetrics(
        count=len(labels),
        mae=float(task.error(answers, labels).mean()),
        constant=float(constant),
        constant_mae=float(task.error(still, labels).mean()),
        map50=judged.at_50,
        map50_95=judged.at_50_95,
        precision=right / said if said else 0.0,
        recall=right / len(places) if len(places) else 0.0,
        boxes=len(places),
        crowded=int(((labels[..., 0] >= 0) & (slots < 0)).sum()),
        counts=tuple(np.bincount(places, minlength=len(task.output.names)).tolist()),
        average_precision=tuple(float(ap) if np.isfinite(ap) else None for ap in judged.by_class),
        curves=tuple(
            tuple(curve.round(4).tolist()) if np.isfinite(curve).all() else () for curve in np.asarray(judged.curves)
        ),
    )


def _hits(answers: Array, labels: Array, task: BoxesTask) -> tuple[int, int]:
    """How many of the boxes that are said are one of the labels', and how many are said."""
    right = said = 0
    for answer, label in zip(answers, labels, strict=True):
        found = task.found(answer)
        right += int((matched(found.boxes, found.places, *real_boxes(label), RIGHT) >= 0).sum())
        said += len(found.places)
    return right, said
