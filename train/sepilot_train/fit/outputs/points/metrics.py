"""How well points are found in pictures that were not trained on, beside always saying the mean shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.points.task import PointsTask, normalizers, visible
from sepilot_runtime.contract.outputs.protocol import Array, Output
from sepilot_train.fit.outputs.protocol import Told

__all__ = ["AUC_TO", "CORRECT", "PointsMetrics", "measure", "points_metrics"]

CORRECT = 0.1
"""A point this near, as a share of the normalizer, is found: PCK@0.1."""

AUC_TO = 0.08
"""A picture beyond this error is a failure: the field's AUC and failure rate of faces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsMetrics:
    """Shares, of what `Points.normalize_by` says where they are distances.

    Attributes:
        mae: mean error, with 1 for points where nothing is and for nothing where points are; without such mistakes it
            is the NME.
        constant: the mean shape of the training labels.
        nme: normalized mean error of the pictures whose thing was found, at most 1 each; None where none was.
        pck: share of these pictures' points that are found.
        auc: area under the curve of pictures by error, as a share of the best.
        failures: share of pictures of the thing beyond the curve.
        by_point: mean error of each point, None where it is never known.
        presence_accuracy: share of pictures of which it is rightly said whether they hold the thing; None where all do.
    """

    kind: ClassVar[str] = "points"
    r2: ClassVar[None] = None
    constant_r2: ClassVar[None] = None

    count: int
    mae: float
    constant: tuple[float, ...]
    constant_mae: float
    nme: float | None
    pck: float | None
    auc: float | None
    failures: float | None
    by_point: tuple[float | None, ...]
    presence_accuracy: float | None

    @property
    def figures(self) -> Mapping[str, float]:
        found = {"nme": self.nme, "pck": self.pck, "auc": self.auc, "failure_rate": self.failures}
        found |= {"presence_accuracy": self.presence_accuracy, "error": self.mae, "constant_error": self.constant_mae}
        return {key: value for key, value in found.items() if value is not None} | {"frames": float(self.count)}

    def told(self, output: Output) -> tuple[Told, ...]:
        names: tuple[str, ...] = getattr(output, "names", ())
        weakest = max(
            ((e, n) for e, n in zip(self.by_point, names, strict=False) if e is not None), default=None
        )  # fmt: skip
        return (
            Told(name="Error", value=f"{self.mae:.2%}", remark=f"NME, of the {measure(output)}"),
            Told(name="Mean shape", value=f"{self.constant_mae:.2%}", remark="said to every picture", plain=True),
            *_told("Points found", self.pck, f"within {CORRECT:.0%} (PCK)"),
            *_told("Area under the curve", self.auc, f"of pictures by error, to {AUC_TO:.0%} (AUC)"),
            *_told("Failures", self.failures, f"pictures beyond {AUC_TO:.0%}"),
            *_told("Presence", self.presence_accuracy, "rightly said"),
            *(_told("Weakest point", weakest[0], weakest[1]) if weakest and len(names) > 1 else ()),
        )


def measure(output: Output) -> str:
    """What errors are shares of, for people."""
    by = getattr(output, "normalize_by", "picture")
    return {"box": "root of the box's area", "picture": "picture"}.get(by) or f"distance of {' and '.join(by)}"


def points_metrics(labels: Array, answers: Array, constant: Any, task: PointsTask) -> PointsMetrics:
    """Answers (n, numbers) against labels (n, points, 2), n >= 1."""
    still = np.broadcast_to(np.asarray(constant, np.float64), (len(labels), len(constant)))
    error, present = task.error(answers, labels), task.present(answers)
    known = visible(labels)
    there = np.asarray(known.any(axis=1))
    found, holding = there & present, error[there]
    share = np.linalg.norm(task.places(answers) - labels, axis=2) / normalizers(labels, task.output)[:, None]
    counted = known & found[:, None]
    sums, counts = np.where(counted, share, 0).sum(axis=0), counted.sum(axis=0)
    return PointsMetrics(
        count=len(labels),
        mae=float(error.mean()),
        constant=tuple(float(value) for value in constant),
        constant_mae=float(task.error(still, labels).mean()),
        nme=_mean(error[found]),
        pck=_mean(share[counted] <= CORRECT),
        auc=_mean(np.maximum(0, 1 - holding / AUC_TO)),
        failures=_mean(holding > AUC_TO),
        by_point=tuple(float(s / n) if n else None for s, n in zip(sums, counts, strict=True)),
        presence_accuracy=float((present == there).mean()) if task.output.presence else None,
    )


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def _told(name: str, share: float | None, remark: str) -> tuple[Told, ...]:
    return () if share is None else (Told(name=name, value=f"{share:.1%}", remark=remark),)
