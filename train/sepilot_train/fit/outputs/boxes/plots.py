"""Figures of boxes: what is found at what price, and how well a found box fits."""

from __future__ import annotations

from typing import Any

import numpy as np

from sepilot_runtime.contract.outputs.boxes.geometry import iou_matrix, real_boxes
from sepilot_runtime.contract.outputs.boxes.output import Boxes
from sepilot_runtime.contract.outputs.boxes.task import BoxesTask
from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_train.base.plots import ACCENT, BAD, FAINT, GOOD, INK, SECOND, Plot
from sepilot_train.fit.outputs.boxes.metrics import BoxesMetrics

__all__ = ["plots_of"]

COLORS = (ACCENT, SECOND, GOOD, BAD, INK, FAINT)

NAMED = len(COLORS)
"""Curves of so many classes can be told apart, those with the most boxes; more are drawn as one bundle."""


def plots_of(labels: Array, said: Array, metrics: BoxesMetrics, output: Boxes) -> tuple[Plot, ...]:
    """Of held-out pictures: labels (n, most, 5) and answers (n, numbers)."""
    usual = np.argsort(-np.array(metrics.counts), kind="stable")[:NAMED].tolist()
    key = tuple(
        (f"{output.names[i]} {metrics.average_precision[i]:.2f}", COLORS[number])
        for number, i in enumerate(usual)
        if metrics.curves[i]
    )
    return (
        Plot(
            name="precision",
            title="What is found, and at what price",
            x="share of all boxes that is found (recall)",
            y="share of what is said that is right (precision)",
            label=f"{output.name}: precision by recall of each class, at an IoU of .5",
            draw=lambda ax: _curves(ax, metrics, usual),
            shape="square",
            key=key,
        ),
        Plot(
            name="overlap",
            title="How well boxes fit",
            x="intersection over union with the nearest label",
            y="boxes that are said",
            label=f"{output.name}: how far boxes that are said overlap those of the labels",
            draw=lambda ax: _overlap(ax, labels, said, output),
            shape="square",
            note=f"mAP50 {metrics.map50:.3f}\nmAP50-95 {metrics.map50_95:.3f}\nn {metrics.boxes:,}",
        ),
    )


def _curves(ax: Any, metrics: BoxesMetrics, usual: list[int]) -> None:
    recall = np.linspace(0, 1, 101)
    for i, curve in enumerate(metrics.curves):
        if curve and i not in usual:
            ax.plot(recall, curve, color=FAINT, linewidth=0.8)
    for number, i in enumerate(usual):
        if metrics.curves[i]:
            ax.plot(recall, metrics.curves[i], color=COLORS[number], linewidth=2)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.05)


def _overlap(ax: Any, labels: Array, said: Array, output: Boxes) -> None:
    task, best = BoxesTask(output), list[float]()
    for answer, label in zip(said, labels, strict=True):
        found, (there, places) = task.found(answer), real_boxes(label)
        like = np.where(found.places[:, None] == places, iou_matrix(found.boxes, there), 0.0)
        best += like.max(axis=1, initial=0.0).tolist()
    ax.hist(best, bins=np.linspace(0, 1, 41), color=ACCENT)
    ax.axvline(0.5, color=SECOND, linewidth=1)
    ax.set_xlim(0, 1)
