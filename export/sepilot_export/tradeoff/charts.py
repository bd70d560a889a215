"""Error against cost: one drawing for the page's SVG and for the PNG.

Every dot is a file. The thin whisker is the 95 % interval of its error over the frames; the thick one, that of its
difference from the lowest error, frame by frame, is what tells two files apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepilot_export.report.charts import Chart, draw_twice, log_scale
from sepilot_export.tradeoff.candidate import Entry
from sepilot_export.tradeoff.chart_labels import Label, write_labels
from sepilot_export.tradeoff.job import Comparison
from sepilot_export.tradeoff.pareto import cost_gzip, cost_raw, cost_us, grouped, pareto
from sepilot_export.tradeoff.table import letters_of
from sepilot_train.base import plots
from sepilot_train.base.plots import ACCENT, BAD, FAINT, INK, SECOND

__all__ = ["COSTS", "Cost", "beyond", "draw_chart", "draw_png"]

MARKERS = {"float32": "o", "float16": "s", "dynamic": "D", "int8": "^"}
OTHER_MARKER = "v"

WIDE = {"us": (1080, 420), "gzip": (520, 360), "raw": (520, 360)}

KEYS = 30
"""Files that the PNG's key has room for."""


LOG_FROM = 4
"""Ratio of the largest to the smallest cost from which the axis is logarithmic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What is paid. `per_unit` turns it into the axis' unit."""

    name: str
    title: str
    axis: str
    of: Callable[[Entry], float]
    per_unit: float = 1.0

    def value(self, entry: Entry) -> float:
        return self.of(entry) / self.per_unit


COSTS = (
    Cost(name="us", title="Error against time", axis="frame to angle on this machine [µs]", of=cost_us),
    Cost(name="gzip", title="Error against size after gzip", axis="size after gzip [kB]", of=cost_gzip, per_unit=1000),
    Cost(name="raw", title="Error against size", axis="size [kB]", of=cost_raw, per_unit=1000),
)


def draw_chart(comparison: Comparison, cost: Cost) -> Chart:
    """One cost's chart for the page."""

    def draw(fig: Any) -> None:
        ax = plots.axes(fig, "", cost.axis, _error_axis(comparison))
        write_labels(ax, _draw(ax, comparison, cost))

    return draw_twice(f"tradeoff {cost.name}", f"mean error against {cost.axis}", draw, WIDE[cost.name])


def _error_axis(comparison: Comparison) -> str:
    mark = comparison.common.mark.strip()
    return f"mean error [{mark}]" if mark else "mean error"


def draw_png(comparison: Comparison, path: Path) -> None:
    """All charts, and what their numbers stand for."""
    fig = plots.figure(15.0, 11.0)
    common, constant = comparison.common, f"{comparison.constant_mae_deg:.2f}{comparison.common.mark}"
    title = f"{len(comparison.entries)} files on {common.count:,} held-out frames; constant answer {constant}"
    named = (f"{', '.join(p.letter for p in picks)}: {picks[0].entry.name}" for picks in grouped(comparison.picks))
    fig.suptitle(f"{title}\n{'      '.join(named)}", x=0.01, ha="left", fontsize=12, color=INK)
    places = [plots.axes(fig, cost.title, cost.axis, _error_axis(comparison), 221 + i) for i, cost in enumerate(COSTS)]
    _write_key(fig.add_subplot(224), comparison)
    labels = [_draw(ax, comparison, cost) for ax, cost in zip(places, COSTS, strict=True)]
    # Last, as each plot moves the others.
    for ax, found in zip(places, labels, strict=True):
        write_labels(ax, found, names=False)
    plots.save(fig, path)


def _write_key(ax: Any, comparison: Comparison) -> None:
    ax.set_axis_off()
    shown = comparison.entries[:KEYS]
    lines = [f"{'':>3} {'':<32}{f'error {comparison.common.mark.strip()}':>8}{'µs':>8}{'kB':>8}{'gzip kB':>9}"]
    for e in shown:
        error = f"{e.mae_deg.mean:.3f}" if e.mae_deg else "-"
        time = f"{e.timing.median_us:.1f}" if e.timing else "-"
        sizes = f"{e.bytes / 1000:>8.1f}{e.gzip_bytes / 1000:>9.1f}"
        verdict = ", ".join(letters_of(comparison, e)) if e.passed else "FAIL"
        lines.append(f"{e.number:>3} {e.name[-31:]:<32}{error:>8}{time:>8}{sizes}  {verdict}")
    if more := len(comparison.entries) - len(shown):
        lines.append(f"    and {more} more in report.html")
    ax.text(0, 1, "\n".join(lines), transform=ax.transAxes, va="top", family="monospace", fontsize=9, color=INK)


def beyond(comparison: Comparison) -> list[Entry]:
    """Files whose error lies above the charts."""
    _, top = _reach(_drawable(comparison))
    return [e for e in _drawable(comparison) if e.mae_deg is not None and e.mae_deg.mean > top]


def _drawable(comparison: Comparison) -> list[Entry]:
    return [e for e in comparison.entries if e.mae_deg is not None and e.timing is not None]


def _reach(entries: Sequence[Entry]) -> tuple[float, float]:
    """Ends of the error axis: the files that pass, or all where none does."""
    intervals = [e.mae_deg for e in entries if e.passed and e.mae_deg] or [e.mae_deg for e in entries if e.mae_deg]
    if not intervals:
        return 0.0, 1.0
    low, high = min(i.low for i in intervals), max(i.high for i in intervals)
    span = (high - low) or high or 1.0
    # Room for the names above the whiskers and the numbers below.
    return max(low - 0.16 * span, 0.0), high + 0.4 * span


def _draw(ax: Any, comparison: Comparison, cost: Cost) -> list[Label]:
    """Dots, whiskers and front; what is to be written at them."""
    low, high = _reach(_drawable(comparison))
    shown = [e for e in _drawable(comparison) if e.mae_deg is not None and e.mae_deg.mean <= high]
    ax.set_ylim(low, high)
    if not shown:
        return []
    values = [cost.value(e) for e in shown]
    _scale(ax, min(values), max(values))
    front = pareto(shown, cost.of)
    if len(front) > 1:
        places = [(cost.value(e), e.mae_deg.mean) for e in front if e.mae_deg]
        ax.step(*zip(*places, strict=True), where="post", color=ACCENT, linewidth=1.2, alpha=0.6, zorder=1)
    if low <= comparison.constant_mae_deg <= high:
        ax.axhline(comparison.constant_mae_deg, color=SECOND, linewidth=1.2)
    for entry in shown:
        _draw_dot(ax, comparison, cost, entry, on_front=entry in front)
    return [_label(comparison, cost, entry, on_front=entry in front) for entry in shown]


def _scale(ax: Any, low: float, high: float) -> None:
    """The cost axis, with room for labels."""
    if high > LOG_FROM * low:
        from matplotlib.ticker import LogLocator

        log_scale(ax.xaxis)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0), numticks=20))
        ax.set_xlim(low / 1.2, high * 1.3)
    else:
        span = high - low or high
        ax.set_xlim(low - 0.12 * span, high + 0.16 * span)


def _label(comparison: Comparison, cost: Cost, entry: Entry, *, on_front: bool) -> Label:
    mae, letters = entry.mae_deg, ", ".join(letters_of(comparison, entry))
    assert mae is not None
    number = str(entry.number)
    return Label(
        x=cost.value(entry),
        y=mae.mean,
        low=mae.low,
        high=mae.high,
        long=f"{letters}  {entry.name}" if letters else entry.name if on_front else number,
        short=letters or number,
        color=INK if entry.passed else BAD,
        bold=bool(letters),
        upwards=bool(letters) or on_front,
        rank=(not letters, not on_front, entry.number),
    )


def _draw_dot(ax: Any, comparison: Comparison, cost: Cost, entry: Entry, *, on_front: bool) -> None:
    mae, timing = entry.mae_deg, entry.timing
    assert mae is not None and timing is not None
    x, color = cost.value(entry), ACCENT if on_front else INK if entry.passed else BAD
    ax.plot([x, x], [mae.low, mae.high], color=FAINT, linewidth=1, zorder=1)
    if entry is not comparison.best:
        above = comparison.above[entry.name]
        ends = [mae.mean + above.low - above.mean, mae.mean + above.high - above.mean]
        ax.plot([x, x], ends, color=color, linewidth=3, solid_capstyle="butt", zorder=2)
    if cost.of is cost_us:
        ax.plot([timing.low_us, timing.high_us], [mae.mean] * 2, color=color, linewidth=1, zorder=2)
    marker = MARKERS.get(entry.precision, OTHER_MARKER)
    if entry.passed:
        ax.plot(x, mae.mean, marker, color=color, markersize=8, zorder=3)
    else:
        ax.plot(x, mae.mean, marker, markerfacecolor="none", markeredgecolor=color, markersize=8, zorder=3)
        ax.plot(x, mae.mean, "x", color=color, markersize=11, zorder=3)
    if letters_of(comparison, entry):
        ax.plot(x, mae.mean, "o", markerfacecolor="none", markeredgecolor=SECOND, markersize=16, markeredgewidth=2)
