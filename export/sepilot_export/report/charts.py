"""Plots as inline SVG, coloured by the page's CSS variables so that they follow its light or dark scheme.

One unit of a plot is one CSS pixel, and every plot that fills its column is drawn twice, for a desktop's column and for
a phone: shrinking one drawing to both would leave its letters unreadable on one of them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sepilot_export.record.checks import ErrorHistogram
from sepilot_runtime.contract.outputs.kinds import Output
from sepilot_runtime.contract.outputs.units import mark_of
from sepilot_train.base import plots
from sepilot_train.base.plots import ACCENT, BAD, FAINT, GOOD, GRID, INK, SECOND, Plot, axes
from sepilot_train.closed_loop.evaluation import ClosedLoopResult
from sepilot_train.closed_loop.tables import ClosedLoop

__all__ = [
    "Chart",
    "draw_delay",
    "draw_histogram",
    "draw_history",
    "draw_plot",
    "draw_twice",
    "log_scale",
]

_VARIABLES = {
    INK: "--ink", ACCENT: "--accent", SECOND: "--second", FAINT: "--faint", GRID: "--grid", GOOD: "--good", BAD: "--bad"
}  # fmt: skip

COLUMN, FULL, PHONE, SMALL = (520, 300), (1080, 260), (330, 240), (250, 130)
"""Width and height in CSS pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """SVG elements.

    Attributes:
        label: what they show, in words.
        narrow: "" where one drawing serves all widths.
        title, key: above it; what is drawn in which of the page's colours.
    """

    label: str
    wide: str
    narrow: str = ""
    title: str = ""
    key: tuple[tuple[str, str], ...] = ()


def draw_history(history: Mapping[str, Sequence[float]], kept_epoch: int) -> Chart:
    """Loss by epoch, training and held out, and the learning rate; a dot at the epoch whose weights were kept."""

    def draw(fig: Any) -> None:
        ax = axes(fig, "", "epoch", "loss")
        right = plots.draw_history(ax, history, kept_epoch)
        log_scale(ax.yaxis)
        if right is not None:
            right.yaxis.set_major_formatter("{x:g}")
            right.locator_params(axis="y", nbins=4)
            right.spines[["bottom", "right"]].set_visible(False)

    return draw_twice("history", f"loss over {len(history['loss'])} epochs", draw, COLUMN)


def draw_plot(plot: Plot, output: str) -> Chart:
    """A figure of what an output says to held-out frames; `output` stands behind the title, "" for nothing."""

    def draw(fig: Any) -> None:
        plot.draw(axes(fig, "", plot.x, plot.y))

    return draw_twice(
        f"{plot.name} {output}", plot.label, draw, FULL if plot.shape == "row" else COLUMN,
        title=plot.title if output in plot.title else f"{plot.title}: {output}",
        key=tuple((words, _VARIABLES[color].removeprefix("--")) for words, color in plot.key),
    )  # fmt: skip


def draw_histogram(histogram: ErrorHistogram, name: str, limit: float, output: Output) -> Chart:
    """Frames by absolute error, for one file, on the same logarithmic axis for all; a line where its gate stands."""
    edges, counts = np.array(histogram.edges_deg), np.array(histogram.counts, np.float64)

    def draw(fig: Any) -> None:
        ax = axes(fig, "", f"error [{mark_of(output).strip()}]" if output.unit else "error", "frames")
        ax.stairs(counts, edges, fill=True, color=ACCENT)
        ax.axvline(limit, color=SECOND, linewidth=1.4)
        log_scale(ax.xaxis, every=2)
        ax.set_xlim(edges[0], edges[-1])
        ax.set_ylim(0, max(counts.max(), 1) * 1.08)
        ax.locator_params(axis="y", nbins=4)

    return Chart(
        label=f"frames by error of {name}", wide=_drawn(f"error {name}", f"frames by error of {name}", draw, SMALL)
    )


def draw_delay(
    loop: ClosedLoop, color_of: Callable[[ClosedLoopResult], str], measure: Literal["survived", "off centre"]
) -> Chart | None:
    """Worlds survived, or mean metres off the centre, against added delay; one line per driver.

    Returns:
        None where fewer than two delays were driven.
    """
    if len(loop.delays_ms) < 2:
        return None

    y = "worlds survived [%]" if measure == "survived" else "mean off centre [m]"

    def draw(fig: Any) -> None:
        ax = axes(fig, "", "added delay [ms]", y)
        for driver in loop.drivers:
            rows = sorted((row for row in loop.results if row.driver == driver), key=lambda row: row.delay_ms)
            delays = [row.delay_ms for row in rows]
            values = [100 * row.survived / row.worlds if measure == "survived" else row.mean_cte_m for row in rows]
            style: dict[str, Any] = {"color": color_of(rows[0]), "linewidth": 2, "marker": "o", "markersize": 4}
            if rows[0].kind == "model":
                # Dashed and on top, as its files lie upon it.
                style |= {"linestyle": (0, (3, 2)), "zorder": 3}
            ax.plot(delays, values, **style)
        ax.set_ylim(*((-4, 104) if measure == "survived" else (0, None)))

    return draw_twice(measure, f"worlds {measure} by added delay", draw, COLUMN)


def draw_twice(name: str, label: str, draw: Callable[[Any], None], wide: tuple[int, int], **words: Any) -> Chart:
    """A plot for a desktop's column, `wide` pixels, and for a phone; `draw` puts it into an empty figure."""
    return Chart(
        **words,
        label=label,
        wide=_drawn(f"{name} wide", label, draw, wide),
        narrow=_drawn(f"{name} narrow", label, draw, PHONE),
    )


def _drawn(salt: str, label: str, draw: Callable[[Any], None], pixels: tuple[int, int]) -> str:
    """One SVG element. `salt` keeps the ids inside apart from those of the page's other plots."""
    import matplotlib as mpl
    from markupsafe import escape
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 11}
    with mpl.rc_context(settings):
        fig = Figure(figsize=(pixels[0] / 72, pixels[1] / 72), layout="constrained")
        fig.patch.set_visible(False)
        draw(fig)
        for ax in fig.axes:
            ax.patch.set_visible(False)
            ax.tick_params(labelsize=11, length=0)
        text = io.StringIO()
        fig.savefig(text, format="svg", dpi=144, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # Groups are named alike in every plot ("axes_1"), and nothing refers to them.
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def log_scale(axis: Any, every: int = 0) -> None:
    """A logarithmic axis with words that SVG text can show: 1-2-5 steps, or each `every`th power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    if every:
        axis.set_major_locator(LogLocator(base=10.0**every, numticks=20))
        axis.set_major_formatter(FuncFormatter(lambda x, _: "10" + str(round(np.log10(x))).translate(_RAISED)))
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
