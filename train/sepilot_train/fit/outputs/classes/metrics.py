"""How good a classifier is on pictures that it was not trained on, beside always saying the most frequent class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.classes.task import ClassesTask
from sepilot_runtime.contract.outputs.protocol import Array, Output
from sepilot_train.fit.outputs.protocol import Told

__all__ = ["ClassesMetrics", "classes_metrics"]

CONFUSION_CLASSES = 100
"""Of more classes the confusion matrix is left out: nobody reads a million numbers."""

SURENESS_BINS = 15
"""Of the calibration error, as Guo et al. 2017 (arXiv 1706.04599) have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassesMetrics:
    """Attributes:
    mae: share of wrong answers, 1 - accuracy.
    constant: logits of the training labels' shares; its answer is the most frequent class.
    macro_f1: mean over the classes of the harmonic mean of precision and recall; classes without pictures left out.
    top5: share of pictures whose class is among the five most probable; None with five classes or fewer.
    calibration_error: expected difference of probability and accuracy.
    counts: pictures of each class, in the order of the classes; recall and precision go with it, None where a class
        has no pictures or is never said.
    confusion: pictures by class (rows) and by answer (columns); nothing with over 100 classes.
    """

    kind: ClassVar[str] = "classes"
    r2: ClassVar[None] = None
    constant_r2: ClassVar[None] = None

    count: int
    mae: float
    constant: tuple[float, ...]
    constant_mae: float
    macro_f1: float
    top5: float | None
    calibration_error: float
    counts: tuple[int, ...]
    recall: tuple[float | None, ...]
    precision: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def figures(self) -> Mapping[str, float]:
        found = {"accuracy": 1 - self.mae, "constant_accuracy": 1 - self.constant_mae, "macro_f1": self.macro_f1}
        return found | ({"top5": self.top5} if self.top5 is not None else {}) | {"frames": float(self.count)}

    def told(self, output: Output) -> tuple[Told, ...]:
        names: tuple[str, ...] = getattr(output, "names", ())
        found = [(recall, name) for recall, name in zip(self.recall, names, strict=False) if recall is not None]
        worst = min(found, default=None)
        return (
            Told(name="Accuracy", value=f"{1 - self.mae:.1%}", remark=f"of {self.count:,} pictures", plain=True),
            Told(
                name="Most frequent class",
                value=f"{1 - self.constant_mae:.1%}",
                remark="said to every picture",
                plain=True,
            ),
            *(
                [Told(name="Top 5", value=f"{self.top5:.1%}", remark="among the five surest")]
                if self.top5 is not None
                else ()
            ),
            *([Told(name="Weakest class", value=f"{worst[0]:.1%}", remark=f"found of {worst[1]}")] if worst else ()),
            Told(name="Macro F1", value=f"{self.macro_f1:.3f}", remark="every class counts the same"),
            Told(name="Calibration error", value=f"{self.calibration_error:.1%}", remark="of the probabilities"),
        )


def classes_metrics(labels: Array, answers: Array, constant: Any, task: ClassesTask) -> ClassesMetrics:
    """Answers (n, classes) against labels (n,), places of the classes, n >= 1."""
    count, still = len(task.output.names), np.broadcast_to(np.asarray(constant, np.float64), answers.shape)
    right, said = labels.astype(np.int64), answers.argmax(axis=1)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (right, said), 1)
    hits, has, says = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        recall, precision, f1 = hits / has, hits / says, 2 * hits / (has + says)
    ahead = (answers > np.take_along_axis(answers, right[:, None], axis=1)).sum(axis=1)
    return ClassesMetrics(
        count=len(labels),
        mae=float(task.error(answers, labels).mean()),
        constant=tuple(float(value) for value in constant),
        constant_mae=float(task.error(still, labels).mean()),
        macro_f1=float(f1[has > 0].mean()),
        top5=float((ahead < 5).mean()) if count > 5 else None,
        calibration_error=_calibration_error(task.reading(answers), said == right),
        counts=tuple(has.tolist()),
        recall=_known(recall, has),
        precision=_known(precision, says),
        confusion=tuple(tuple(row) for row in confusion.tolist()) if count <= CONFUSION_CLASSES else (),
    )


def _known(shares: NDArray[np.float64], of: NDArray[np.int64]) -> tuple[float | None, ...]:
    return tuple(float(share) if n else None for share, n in zip(shares, of, strict=True))


def _calibration_error(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    bins = np.minimum((sure * SURENESS_BINS).astype(np.int64), SURENESS_BINS - 1)
    gaps = np.abs(np.bincount(bins, sure - right, SURENESS_BINS))
    return float(gaps.sum() / len(sure))
