"""Figures of a classifier: what is taken for what, what is found of each class, can probabilities be believed."""

from __future__ import annotations

from typing import Any

import numpy as np

from sepilot_runtime.contract.outputs.classes.output import Classes
from sepilot_runtime.contract.outputs.classes.task import ClassesTask
from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_train.base.plots import ACCENT, INK, SECOND, Plot
from sepilot_train.fit.outputs.classes.metrics import SURENESS_BINS, ClassesMetrics

__all__ = ["plots_of"]

NAMED = 25
"""So many names of classes can be read beside a figure."""


def plots_of(labels: Array, said: Array, metrics: ClassesMetrics, output: Classes) -> tuple[Plot, ...]:
    """Of held-out pictures: labels (n,) and answers (n, classes)."""
    accuracy = f"accuracy {1 - metrics.mae:.1%}\nmost frequent {1 - metrics.constant_mae:.1%}\nn {metrics.count:,}"
    confusion = Plot(
        name="confusion",
        title="What is taken for what",
        x="model",
        y="label",
        label=f"{output.name}: confusion matrix of {metrics.count:,} held-out pictures",
        draw=lambda ax: _confusion(ax, metrics, output),
        shape="square",
    )
    return (
        *([confusion] if metrics.confusion else ()),
        Plot(
            name="recall",
            title="Found of each class",
            x="share of the class's pictures",
            y="",
            label=f"{output.name}: share of each class's held-out pictures that is found",
            draw=lambda ax: _recall(ax, metrics, output),
            shape="square",
            note=accuracy,
        ),
        Plot(
            name="sureness",
            title="Can the probability be believed?",
            x="probability of the answer",
            y="share of right answers",
            label=f"{output.name}: share of right answers by the probability that the model gives them",
            draw=lambda ax: _sureness(ax, labels, said, output),
            shape="square",
            key=(("held-out pictures", ACCENT), ("perfect", SECOND)),
            note=f"calibration error {metrics.calibration_error:.1%}",
        ),
    )


def _confusion(ax: Any, metrics: ClassesMetrics, output: Classes) -> None:
    counts = np.array(metrics.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.grid(False)
    if len(counts) > NAMED:
        return
    places, size = range(len(counts)), 9 if len(counts) <= 12 else 6
    ax.set_xticks(places, output.names, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    ax.set_yticks(places, output.names, fontsize=size)
    for row, column in zip(*np.nonzero(counts), strict=True):
        ink = "white" if shares[row, column] > 0.55 else INK
        ax.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=size, color=ink)


def _recall(ax: Any, metrics: ClassesMetrics, output: Classes) -> None:
    known = [
        (recall, name, n) for recall, name, n in zip(metrics.recall, output.names, metrics.counts, strict=True) if n
    ]
    shown = sorted(known, reverse=True)[-NAMED:]
    bars = ax.barh([f"{name} ({n})" for _, name, n in shown], [recall for recall, _, _ in shown], color=ACCENT)
    ax.bar_label(bars, [f"{recall:.0%}" for recall, _, _ in shown], fontsize=9, color=INK, padding=2)
    ax.set_xlim(0, 1.12)
    ax.grid(False, axis="y")


def _sureness(ax: Any, labels: Array, said: Array, output: Classes) -> None:
    sure = ClassesTask(output).reading(said)
    right, bins = said.argmax(axis=1) == labels, np.minimum((sure * SURENESS_BINS).astype(int), SURENESS_BINS - 1)
    used = np.unique(bins)
    ax.plot((0, 1), (0, 1), color=SECOND, linewidth=1)
    ax.plot([sure[bins == b].mean() for b in used], [right[bins == b].mean() for b in used], color=ACCENT, marker="o")
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.05)
