"""The style of every figure, and the training curves.

What a plot shows is drawn once, into axes that a saver has made: the ones here for the PNGs of a run, the report's for
its SVGs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sepilot_runtime.base.files import atomic_file

__all__ = ["ACCENT", "BAD", "FAINT", "GOOD", "GRID", "INK", "SECOND", "Plot", "axes", "draw_history", "figure",
           "save", "save_history", "save_plot"]  # fmt: skip

INK, ACCENT, SECOND, FAINT, GRID = "#1b2733", "#0b6bcb", "#e07a1f", "#b8c4ce", "#e8edf1"
GOOD, BAD = "#19764a", "#b3261e"
"""The colours of every figure and of the report."""

_INCHES = {"square": (4.8, 4.6), "column": (7.2, 3.6), "row": (7.2, 3.6)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plot:
    """One figure, drawn once for the PNG of a run and for the report's SVG.

    Attributes:
        name: of its file.
        title, x, y: of the figure and its axes.
        label: what it shows, for who cannot see it.
        draw: into axes.
        shape: "row" fills the page.
        key: words and colours of what is drawn.
        note: its figures, a line each.
    """

    name: str
    title: str
    x: str
    y: str
    label: str
    draw: Callable[[Any], None]
    shape: Literal["square", "column", "row"] = "column"
    key: tuple[tuple[str, str], ...] = ()
    note: str = ""


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


def save_plot(plot: Plot, path: Path) -> None:
    """A plot as a PNG."""
    from matplotlib.lines import Line2D

    fig = figure(*_INCHES[plot.shape])
    ax = axes(fig, plot.title, plot.x, plot.y)
    plot.draw(ax)
    if plot.note:
        ax.text(0.03, 0.97, plot.note, transform=ax.transAxes, va="top", fontsize=9, color=INK)
    if plot.key and not plot.note:
        lines = [Line2D([], [], color=color, label=words, linewidth=2) for words, color in plot.key]
        ax.legend(handles=lines, frameon=False, fontsize=9, loc="best")
    save(fig, path)


def save_history(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """`draw_history` as a PNG, the lowest held-out loss marked."""
    fig = figure()
    ax = axes(fig, "Training", "epoch", "loss")
    held = history.get("val_loss")
    draw_history(ax, history, int(np.argmin(held)) + 1 if held else 0)
    ax.legend(frameon=False, fontsize=9)
    save(fig, path)
