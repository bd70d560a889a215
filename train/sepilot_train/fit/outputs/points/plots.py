"""Figures of points: how many pictures are how wrong, which points are, and what that looks like."""

from __future__ import annotations

from typing import Any

import numpy as np

from sepilot_runtime.contract.outputs.points.output import Points
from sepilot_runtime.contract.outputs.points.task import PointsTask, visible
from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_train.base.plots import ACCENT, FAINT, GRID, INK, SECOND, Plot
from sepilot_train.fit.outputs.points.metrics import AUC_TO, PointsMetrics, measure

__all__ = ["plots_of"]

NAMED = 5
"""So many of the weakest points are named in the figure."""

EXAMPLES = 12
"""In rows of four: the best, those in the middle, the worst."""

FRAME = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])


def plots_of(labels: Array, said: Array, metrics: PointsMetrics, output: Points) -> tuple[Plot, ...]:
    """Of held-out pictures: labels (n, points, 2) and answers (n, numbers)."""
    task = PointsTask(output)
    nothing = f"{output.name}: no held-out picture of it"
    shown = visible(labels).any(axis=1)
    return (
        Plot(
            name="errors",
            title="Pictures by error",
            x=f"error [% of the {measure(output)}]",
            y="share of pictures with at most this error",
            label=f"{output.name}: cumulative errors of {metrics.count:,} held-out pictures",
            draw=lambda ax: _curves(ax, labels, said, metrics, task),
            shape="square",
            key=(("model", ACCENT), ("mean shape", SECOND)),
            note=f"NME {metrics.mae:.2%}\nmean shape {metrics.constant_mae:.2%}",
        ),
        Plot(
            name="points",
            title="Error by point, at its mean place",
            x="share of the picture's width",
            y="of its height",
            label=f"{output.name}: mean error of each point" if shown.any() else nothing,
            draw=lambda ax: _by_point(ax, labels[shown], metrics, output),
            shape="square",
            key=((f"area: error; the weakest {NAMED} named", ACCENT),),
        ),
        Plot(
            name="examples",
            title="Best, middling and worst held-out pictures",
            x="",
            y="",
            label=f"{output.name}: points of label and model" if shown.any() else nothing,
            draw=lambda ax: _examples(ax, labels[shown], said[shown], task),
            shape="square",
            key=(("label", SECOND), ("model", ACCENT)),
        ),
    )


def _curves(ax: Any, labels: Array, said: Array, metrics: PointsMetrics, task: PointsTask) -> None:
    error = task.error(said, labels)
    still = task.error(np.broadcast_to(np.asarray(metrics.constant), said.shape), labels)
    reach = 100 * max(float(np.quantile(error, 0.98)), 0.5 * float(np.median(still)), 1e-3)
    for errors, color in ((still, SECOND), (error, ACCENT)):
        ax.step([0, *np.sort(100 * errors)], np.arange(len(errors) + 1) / len(errors), where="post", color=color)
    ax.axvline(100 * AUC_TO, color=FAINT, linewidth=1, linestyle=(0, (3, 2)))
    ax.set_xlim(0, reach)
    ax.set_ylim(0, 1.02)


def _by_point(ax: Any, labels: Array, metrics: PointsMetrics, output: Points) -> None:
    known = np.isfinite(labels)
    mean = np.where(known, labels, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    errors = np.array([np.nan if e is None else e for e in metrics.by_point])
    ax.scatter(*mean.T, s=4 + 120 * errors / max(np.nanmax(errors, initial=0), 1e-9), color=ACCENT, alpha=0.7)
    for place in np.argsort(-np.nan_to_num(errors), kind="stable")[:NAMED]:
        words = f"{output.names[place]} {errors[place]:.1%}"
        ax.annotate(words, mean[place], (0, 6), textcoords="offset points", fontsize=8, color=INK, ha="center")
    _as_picture(ax, 1, 1)


def _examples(ax: Any, labels: Array, said: Array, task: PointsTask) -> None:
    error = task.error(said, labels)
    order, third = np.argsort(error, kind="stable"), EXAMPLES // 3
    middle = max(0, len(order) // 2 - third // 2)
    chosen = [order[:third], order[middle : middle + third], order[-third:]]
    for row, places in enumerate(chosen):
        for column, place in enumerate(places):
            corner = np.array([1.1 * column, 1.3 * row])
            ax.plot(*(corner + FRAME).T, color=GRID, linewidth=1)
            _shape(ax, labels[place] + corner, SECOND, task.output)
            if task.present(said[place : place + 1])[0]:
                _shape(ax, task.places(said[place : place + 1])[0] + corner, ACCENT, task.output)
            ax.text(corner[0] + 0.5, corner[1] + 1.2, f"{error[place]:.1%}", ha="center", fontsize=8, color=INK)
    # Below the rows there is room for the key.
    _as_picture(ax, 4.3, 4.4)
    ax.axis("off")


def _shape(ax: Any, points: Array, color: str, output: Points) -> None:
    for pair in output.skeleton:
        ax.plot(*points[list(output.pair(pair))].T, color=color, linewidth=0.8)
    ax.scatter(*points.T, s=3 if len(points) > 10 else 12, color=color, linewidths=0)


def _as_picture(ax: Any, width: float, height: float) -> None:
    """Rows go down, and a picture's sides are drawn as long as each other, whatever its shape."""
    ax.set_aspect("equal")
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
