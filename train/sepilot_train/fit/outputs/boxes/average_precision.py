"""Average precision of boxes as COCO defines it, by faster-coco-eval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.boxes.geometry import boxes_of
from sepilot_runtime.contract.outputs.boxes.task import BoxesTask
from sepilot_runtime.contract.outputs.protocol import Array

__all__ = ["CONFIDENCE", "MOST", "AveragePrecision", "average_precision", "detections", "ground_truth"]

CONFIDENCE, MOST = 0.001, 100
"""From what confidence on boxes count, and how many to a picture: precision moves with both, so they are COCO's."""

SIZE = 1000.0
"""Boxes are given in thousandths of the picture's sides; what size means to COCO is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AveragePrecision:
    """Attributes:
    at_50, at_50_95: mean over the classes that there are, at an IoU of .5, and over .5 to .95 in steps of .05.
    by_class: at an IoU of .5; NaN for a class without boxes.
    curves: (classes, 101) precision at an IoU of .5 by recall from 0 to 1; NaN for a class without boxes.
    """

    at_50: float
    at_50_95: float
    by_class: NDArray[np.float64]
    curves: NDArray[np.float64]


def average_precision(labels: Array, answers: Array, task: BoxesTask) -> AveragePrecision:
    """Of answers (n, numbers) against labels (n, most, 5), all of them known."""
    from faster_coco_eval import COCO, COCOeval_faster

    # It goes through its options by a name of the file that there is none of, and tells what it does.
    truth = COCO(ground_truth(labels, task.output.names), print_function=_silent)
    found = detections(answers, task)
    count = len(task.output.names)
    if not len(found) or not truth.dataset["annotations"]:
        return AveragePrecision(
            at_50=0.0, at_50_95=0.0, by_class=np.full(count, np.nan), curves=np.full((count, 101), np.nan)
        )
    judge = COCOeval_faster(truth, truth.loadRes(found), "bbox", print_function=_silent)
    judge.params.maxDets = [1, 10, MOST]
    judge.evaluate()
    judge.accumulate()
    # By IoU, recall, class, size (all) and number of boxes (the most).
    precision = np.asarray(judge.eval["precision"])[:, :, :, 0, -1]
    precision = np.where(precision < 0, np.nan, precision)
    there = np.isfinite(precision[0]).any(axis=0)
    return AveragePrecision(
        at_50=float(precision[0][:, there].mean()),
        at_50_95=float(precision[:, :, there].mean()),
        by_class=precision[0].mean(axis=0),
        curves=precision[0].T,
    )


def ground_truth(labels: Array, names: tuple[str, ...]) -> dict[str, Any]:
    """Labels (n, most, 5) as a COCO document."""
    pictures, rows = np.nonzero(labels[..., 0] >= 0)
    boxes = boxes_of(labels[pictures, rows]) * SIZE
    side = int(SIZE)
    return {
        "images": [{"id": i + 1, "width": side, "height": side} for i in range(len(labels))],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {
                "id": number, "image_id": picture + 1, "category_id": place + 1, "bbox": box, "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (picture, place, box) in enumerate(
                zip(pictures.tolist(), labels[pictures, rows, 0].astype(int).tolist(), boxes.tolist(), strict=True), 1
            )
        ],
    }  # fmt: skip


def detections(answers: Array, task: BoxesTask) -> NDArray[np.float64]:
    """(k, 7) picture, box, confidence and class of all boxes, numbered as `ground_truth` does."""
    parts = [np.zeros((0, 7))]
    for number, answer in enumerate(answers, start=1):
        found = task.found(answer, CONFIDENCE, MOST)
        columns = (np.full(len(found.places), number), found.boxes * SIZE, found.confidence, found.places + 1)
        parts.append(np.column_stack(columns))
    return np.concatenate(parts)


def _silent(*_words: object) -> None:
    pass
