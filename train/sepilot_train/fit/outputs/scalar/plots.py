"""Figures of a number: predictions against labels, a stretch of driving, the error by value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.contract.outputs.units import mark_of
from sepilot_train.base.plots import ACCENT, FAINT, INK, SECOND, Plot
from sepilot_train.fit.outputs.scalar.metrics import ScalarMetrics

__all__ = ["plots_of"]

STRETCH = 600
"""Frames of the driving plot."""


def plots_of(labels: Array, said: Array, metrics: ScalarMetrics, output: Scalar) -> tuple[Plot, ...]:
    """Of held-out frames, labels and answers (n,)."""
    unit = f" [{mark_of(output).strip()}]" if output.unit else ""
    direction = f", + = {output.positive}" if output.positive else ""
    angle = " angle" if output.unit == "deg" else ""
    r2 = "n/a" if metrics.r2 is None else f"{metrics.r2:.3f}"
    errors = [f"{mae * output.scale:.2f}{mark_of(output)}" for mae in (metrics.mae, metrics.constant_mae)]
    return (
        Plot(
            name="scatter",
            title="Model against driver, held-out frames",
            x=f"driver{unit}{direction}",
            y=f"model{unit}",
            label=f"{output.name}: model against driver on {len(labels):,} held-out frames",
            draw=lambda ax: _scatter(ax, labels * output.scale, said * output.scale, output),
            shape="square",
            key=(("one frame", ACCENT), ("perfect", SECOND)),
            note=f"R² {r2}\nMAE {errors[0]}\nconstant {errors[1]}\nn {metrics.count:,}",
        ),
        Plot(
            name="driving",
            title="The liveliest held-out stretch",
            x="held-out frame",
            y=f"{output.name}{unit}{direction}",
            label=f"{output.name} of driver and model over {min(len(labels), STRETCH)} held-out frames",
            draw=lambda ax: _driving(ax, labels * output.scale, said * output.scale),
            shape="row",
            key=(("driver", SECOND), ("model", ACCENT)),
        ),
        Plot(
            name="bins",
            title=f"Mean error by {output.name}{angle}",
            x=f"driver's {output.name}{unit}{direction}",
            y=f"mean error{unit}",
            label=f"{output.name}: mean error by what the driver did",
            draw=lambda ax: _bins(ax, metrics, output.scale),
            key=(("model; number of frames above", ACCENT), ("constant answer, all frames", SECOND)),
        ),
    )


def _scatter(ax: Any, labels: Array, said: Array, output: Scalar) -> None:
    """One dot per frame."""
    margin = (output.high - output.low) * 0.025
    ends = ((output.low - margin) * output.scale, (output.high + margin) * output.scale)
    ax.plot(ends, ends, color=SECOND, linewidth=1)
    # Thousands of dots as one picture inside an SVG: as elements they would weigh megabytes.
    ax.scatter(labels, said, s=5, alpha=0.3, color=ACCENT, linewidths=0, rasterized=True)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal")


def _driving(ax: Any, labels: Array, said: Array) -> None:
    """Over the stretch where the driver moved most."""
    start = _liveliest(labels)
    part = slice(start, start + STRETCH)
    x = np.arange(len(labels[part])) + start
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.plot(x, labels[part], color=SECOND, linewidth=1.3)
    ax.plot(x, said[part], color=ACCENT, linewidth=1.6)
    ax.margins(x=0.01)


def _bins(ax: Any, metrics: ScalarMetrics, scale: float) -> None:
    bins = metrics.bins
    edges, places = [bins[0].low, *(b.high for b in bins)], np.arange(len(bins))
    bars = ax.bar(places + 0.5, [(b.mae or 0.0) * scale for b in bins], color=ACCENT, width=0.8)
    ax.bar_label(bars, [f"{b.count:,}" for b in bins], fontsize=9, color=INK, padding=2)
    ax.axhline(metrics.constant_mae * scale, color=SECOND, linewidth=1.2)
    # The bins may be of unequal width; drawn equally wide, with their edges between them.
    ax.set_xticks(range(len(edges)), [f"{edge * scale:.3g}".replace("-", "\N{MINUS SIGN}") for edge in edges])
    ax.grid(False, axis="x")
    ax.margins(y=0.15)


def _liveliest(labels: NDArray[np.floating]) -> int:
    if len(labels) <= STRETCH:
        return 0
    change = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(labels)))])
    gained = change[STRETCH:] - change[:-STRETCH]
    return int(gained.argmax())
