"""The style of every figure, and those of a run: training curves, predictions against labels, driving, error by value.

What a plot shows is drawn once, `draw_*`, into axes that a saver has made: the ones here for the PNGs of a run, the
report's for its SVGs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.files import atomic_file
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_train.base.metrics import ScalarMetrics

__all__ = ["ACCENT", "BAD", "FAINT", "GOOD", "GRID", "INK", "SECOND", "axes", "direction_of", "draw_bins",
           "draw_driving", "draw_history", "draw_scatter", "figure", "mark_of", "save", "save_bins", "save_driving",
           "save_history", "save_scatter"]  # fmt: skip

INK, ACCENT, SECOND, FAINT, GRID = "#1b2733", "#0b6bcb", "#e07a1f", "#b8c4ce", "#e8edf1"
GOOD, BAD = "#19764a", "#b3261e"
"""The colours of every figure and of the report."""

Values = NDArray[np.floating]


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
    ax.grid(True, color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(colors=INK, labelsize=9)
    return ax


def save(fig: Any, path: Path) -> None:
    """Write a PNG, atomically."""
    with atomic_file(path) as part:
        fig.savefig(part, format="png")


def draw_history(ax: Any, history: Mapping[str, Sequence[float]], dot: int) -> Any:
    """Loss by epoch, training and held out, and the learning rate.

    Args:
        history: columns of history.csv; "loss" among them.
        dot: epoch of the held-out loss that is marked; none where there is no such epoch.

    Returns:
        The learning rate's axes; None without any.
    """
    epochs = np.arange(1, len(history["loss"]) + 1)
    # A line of one epoch is invisible.
    marker = "o" if len(epochs) < 3 else ""
    ax.plot(epochs, history["loss"], color=FAINT, linewidth=2, marker=marker, label="training (augmented)")
    if held := history.get("val_loss"):
        ax.plot(epochs, held, color=ACCENT, linewidth=2, marker=marker, label="held out")
        if 1 <= dot <= len(held):
            ax.plot(dot, held[dot - 1], "o", color=ACCENT, markersize=7, label=f"lowest: epoch {dot}")
    ax.set_yscale("log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if not (rates := history.get("learning_rate")):
        return None
    right = ax.twinx()
    right.plot(epochs, rates, color=SECOND, linewidth=1.2, linestyle=(0, (2, 2)))
    right.set_ylabel("learning rate", color=SECOND)
    right.tick_params(colors=SECOND, labelsize=9)
    right.spines[["top", "left"]].set_visible(False)
    return right


def draw_scatter(ax: Any, labels: Values, predictions: Values, output: Scalar) -> None:
    """Prediction against label in the output's unit, one dot per frame."""
    scale, margin = output.scale, (output.high - output.low) * 0.025
    ends = ((output.low - margin) * scale, (output.high + margin) * scale)
    ax.plot(ends, ends, color=SECOND, linewidth=1)
    # Thousands of dots as one picture inside an SVG: as elements they would weigh megabytes.
    ax.scatter(labels * scale, predictions * scale, s=5, alpha=0.3, color=ACCENT, linewidths=0, rasterized=True)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal")


def draw_driving(ax: Any, labels: Values, predictions: Values, output: Scalar, *, frames: int = 600) -> int:
    """Label and prediction over the stretch of `frames` where the driver moved most; how many frames it has."""
    start = _liveliest(labels, frames)
    part = slice(start, start + frames)
    x = np.arange(len(labels[part])) + start
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.plot(x, labels[part] * output.scale, color=SECOND, linewidth=1.3, label="driver")
    ax.plot(x, predictions[part] * output.scale, color=ACCENT, linewidth=1.6, label="model")
    ax.margins(x=0.01)
    return len(x)


def draw_bins(ax: Any, metrics: ScalarMetrics, output: Scalar, *, counted: str = "{:,}") -> None:
    """Mean absolute error by the driver's value, in the output's unit; above each bar its frames, written so."""
    bins, scale = metrics.bins, output.scale
    edges, places = [bins[0].low, *(b.high for b in bins)], np.arange(len(bins))
    bars = ax.bar(places + 0.5, [(b.mae or 0.0) * scale for b in bins], color=ACCENT, width=0.8)
    ax.bar_label(bars, [counted.format(b.count) for b in bins], fontsize=9, color=INK, padding=2)
    ax.axhline(metrics.constant_mae * scale, color=SECOND, linewidth=1.2, label="constant prediction, all frames")
    # The bins may be of unequal width; drawn equally wide, with their edges between them.
    ax.set_xticks(range(len(edges)), [f"{edge * scale:.3g}".replace("-", "\N{MINUS SIGN}") for edge in edges])
    ax.grid(False, axis="x")
    ax.margins(y=0.15)


def save_history(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """`draw_history` as a PNG, the lowest held-out loss marked."""
    fig = figure()
    ax = axes(fig, "Training", "epoch", "loss")
    held = history.get("val_loss")
    draw_history(ax, history, int(np.argmin(held)) + 1 if held else 0)
    ax.legend(frameon=False, fontsize=9)
    save(fig, path)


def save_scatter(labels: Values, predictions: Values, metrics: ScalarMetrics, output: Scalar, path: Path) -> None:
    """`draw_scatter` of held-out frames as a PNG."""
    fig = figure(4.8, 4.6)
    scale, unit, mark = output.scale, _unit(output), mark_of(output)
    ax = axes(fig, "Held-out frames", f"label{unit}{direction_of(output)}", f"prediction{unit}")
    draw_scatter(ax, labels, predictions, output)
    r2 = "n/a" if metrics.r2 is None else f"{metrics.r2:.3f}"
    ax.text(
        0.03, 0.97,
        f"R² {r2}\nMAE {metrics.mae * scale:.2f}{mark}\n"
        f"constant {metrics.constant_mae * scale:.2f}{mark}\nn {metrics.count:,}",
        transform=ax.transAxes, va="top", fontsize=9, color=INK,
    )  # fmt: skip
    save(fig, path)


def save_driving(labels: Values, predictions: Values, output: Scalar, path: Path) -> None:
    """`draw_driving` as a PNG."""
    fig = figure()
    ax = axes(fig, "A stretch of held-out driving", "frame", f"{output.name}{_unit(output)}{direction_of(output)}")
    draw_driving(ax, labels, predictions, output)
    ax.legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
    save(fig, path)


def save_bins(metrics: ScalarMetrics, output: Scalar, path: Path) -> None:
    """`draw_bins` as a PNG."""
    fig = figure()
    unit, sides = _unit(output), ", left to right" if output.positive == "right" else ""
    ax = axes(fig, f"Error by {output.name}", f"driver's {output.name}{unit}{sides}", f"MAE{unit}")
    draw_bins(ax, metrics, output, counted="n {:,}")
    ax.legend(frameon=False, fontsize=9)
    save(fig, path)


def mark_of(output: Scalar) -> str:
    """The unit, as it stands behind a number: "°", " m/s", or nothing."""
    return "°" if output.unit == "deg" else f" {output.unit}".rstrip()


def direction_of(output: Scalar) -> str:
    """Which way is positive, for the end of an axis' name."""
    return f", + = {output.positive}" if output.positive else ""


def _unit(output: Scalar) -> str:
    return f" [{output.unit}]" if output.unit else ""


def _liveliest(labels: NDArray[np.floating], frames: int) -> int:
    if len(labels) <= frames:
        return 0
    change = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(labels)))])
    gained = change[frames:] - change[:-frames]
    return int(gained.argmax())
