"""The pictures of a run: training curves, predictions against labels, a stretch of driving, error by steering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.files import atomic_file
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_train.base.metrics import ScalarMetrics

__all__ = ["draw_bins", "draw_driving", "draw_history", "draw_scatter", "figure", "save"]

INK, ACCENT, SECOND, FAINT = "#1b2733", "#0b6bcb", "#e07a1f", "#b8c4ce"
"""The colours of every figure and of the report."""


def figure(width: float = 7.2, height: float = 3.6) -> Any:
    """A figure in the project's style, size in inches, not attached to any window system."""
    from matplotlib.figure import Figure

    result = Figure(figsize=(width, height), dpi=144, layout="constrained")
    result.set_facecolor("white")
    return result


def axes(fig: Any, title: str, x: str, y: str, position: int = 111) -> Any:
    """One plot with a title and named axes."""
    ax = fig.add_subplot(position)
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK)
    ax.grid(True, color="#e8edf1", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(colors=INK, labelsize=9)
    return ax


def save(fig: Any, path: Path) -> None:
    """Write a PNG, atomically."""
    with atomic_file(path) as part:
        fig.savefig(part, format="png")


def draw_history(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Loss and learning rate by epoch. `history` maps a column of history.csv to its values."""
    fig = figure()
    ax = axes(fig, "Training", "epoch", "loss")
    epochs = np.arange(1, len(history["loss"]) + 1)
    ax.plot(epochs, history["loss"], color=FAINT, linewidth=2, label="training (augmented)")
    if "val_loss" in history:
        ax.plot(epochs, history["val_loss"], color=ACCENT, linewidth=2, label="held out")
        best = int(np.argmin(history["val_loss"]))
        ax.plot(epochs[best], history["val_loss"][best], "o", color=ACCENT, label=f"lowest: epoch {epochs[best]}")
    ax.set_yscale("log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = ax.get_legend_handles_labels()
    if "learning_rate" in history:
        rate = ax.twinx()
        rate.plot(epochs, history["learning_rate"], color=SECOND, linewidth=1, linestyle=":")
        rate.set_ylabel("learning rate", color=SECOND)
        rate.tick_params(colors=SECOND, labelsize=9)
        rate.spines[["top", "left"]].set_visible(False)
    ax.legend(handles, labels, frameon=False, fontsize=9)
    save(fig, path)


def draw_scatter(
    labels: NDArray[np.floating],
    predictions: NDArray[np.floating],
    metrics: ScalarMetrics,
    output: Scalar,
    path: Path,
) -> None:
    """Prediction against label on held-out frames, in the output's unit."""
    fig = figure(4.8, 4.6)
    scale, unit = output.scale, _unit(output)
    ax = axes(fig, "Held-out frames", f"label{unit}{_direction(output)}", f"prediction{unit}")
    margin = (output.high - output.low) * 0.025
    ends = ((output.low - margin) * scale, (output.high + margin) * scale)
    ax.plot(ends, ends, color=SECOND, linewidth=1)
    ax.scatter(labels * scale, predictions * scale, s=4, alpha=0.25, color=ACCENT, linewidths=0)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal")
    mark = _mark(output)
    r2 = "n/a" if metrics.r2 is None else f"{metrics.r2:.3f}"
    ax.text(
        0.03, 0.97,
        f"R² {r2}\nMAE {metrics.mae * scale:.2f}{mark}\n"
        f"constant {metrics.constant_mae * scale:.2f}{mark}\nn {metrics.count:,}",
        transform=ax.transAxes, va="top", fontsize=9, color=INK,
    )  # fmt: skip
    save(fig, path)


def draw_driving(
    labels: NDArray[np.floating], predictions: NDArray[np.floating], output: Scalar, path: Path, *, frames: int = 600
) -> None:
    """Label and prediction over the liveliest stretch of held-out frames."""
    fig = figure()
    ax = axes(fig, "A stretch of held-out driving", "frame", f"{output.name}{_unit(output)}{_direction(output)}")
    start = _liveliest(labels, frames)
    part = slice(start, start + frames)
    x = np.arange(len(labels[part])) + start
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.plot(x, labels[part] * output.scale, color=SECOND, linewidth=1.2, label="driver")
    ax.plot(x, predictions[part] * output.scale, color=ACCENT, linewidth=1.4, label="model")
    ax.legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
    save(fig, path)


def draw_bins(metrics: ScalarMetrics, output: Scalar, path: Path) -> None:
    """Mean absolute error by the driver's value, with the number of frames."""
    fig = figure()
    scale, unit = output.scale, _unit(output)
    sides = ", left to right" if output.positive == "right" else ""
    ax = axes(fig, f"Error by {output.name}", f"driver's {output.name}{unit}{sides}", f"MAE{unit}")
    digits = 0 if (output.high - output.low) * scale > len(metrics.bins) else 2
    names = [f"{b.low * scale:.{digits}f}…{b.high * scale:.{digits}f}" for b in metrics.bins]
    heights = [(b.mae or 0.0) * scale for b in metrics.bins]
    bars = ax.bar(names, heights, color=ACCENT, width=0.7)
    ax.bar_label(bars, [f"n {b.count:,}" for b in metrics.bins], fontsize=8, color=INK, padding=2)
    ax.axhline(metrics.constant_mae * scale, color=SECOND, linewidth=1, label="constant prediction, all frames")
    ax.grid(False, axis="x")
    ax.legend(frameon=False, fontsize=9)
    save(fig, path)


def _unit(output: Scalar) -> str:
    return f" [{output.unit}]" if output.unit else ""


def _direction(output: Scalar) -> str:
    return f", + = {output.positive}" if output.positive else ""


def _mark(output: Scalar) -> str:
    return "°" if output.unit == "deg" else f" {output.unit}".rstrip()


def _liveliest(labels: NDArray[np.floating], frames: int) -> int:
    if len(labels) <= frames:
        return 0
    change = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(labels)))])
    gained = change[frames:] - change[:-frames]
    return int(gained.argmax())
