"""The page: one HTML file with its style, plots and pictures inside. It loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sepilot_export.report import charts
from sepilot_export.report.charts import Chart
from sepilot_export.report.formatting import FILTERS, count, degrees, fixed, kilobytes, microseconds, span
from sepilot_export.report.inputs import Bench, BenchRow, Check, ClosedLoop, Export, LoopRow
from sepilot_export.report.material import Material, Validation

__all__ = ["Stage", "render", "stages_of"]

EXPERT, CONTROL = "expert", "steering = 0"
"""Drivers of the closed loop that are no files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One card of the pipeline strip: its key figure, a line about it, and whether it was reached."""

    title: str
    anchor: str
    figure: str
    detail: str
    done: bool = True
    failed: bool = False


def render(material: Material) -> str:
    """The HTML document. Every text that came from a file is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from sepilot_train import figures

    environment = Environment(
        loader=PackageLoader("sepilot_export.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template("page.html").render(
        m=material,
        v=material.validation,
        provenance=material.run.contract.provenance,
        stages=stages_of(material),
        charts=_charts(material),
        bench_end=max((row.us_p50 for row in material.bench.rows), default=1.0) if material.bench else 1.0,
        references=(EXPERT, CONTROL),
        ink=figures.INK,
        accent=figures.ACCENT,
        second=figures.SECOND,
        faint=figures.FAINT,
        grid=charts.GRID,
    )


def stages_of(material: Material) -> list[Stage]:
    """The pipeline strip, from drives to closed loop."""
    return [
        _drives(material.validation),
        _train(material.validation),
        _export(material.export),
        _check(material.check),
        _bench(material.bench),
        _closed_loop(material.closed_loop),
    ]


def _drives(v: Validation) -> Stage:
    drives = len({*v.train_drives, *v.drives})
    return Stage(
        title="Drives",
        anchor="training",
        figure=f"{count(v.train_frames + v.frames)}",
        detail=f"frames of {drives} drive{'s' if drives > 1 else ''}, {count(v.frames)} held out",
    )


def _train(v: Validation) -> Stage:
    return Stage(
        title="Train",
        anchor="training",
        figure=f"R² {fixed(v.r2)}",
        detail=f"mean error {degrees(v.mae * v.scale_deg, 2)}, constant answer {degrees(v.constant_mae * v.scale_deg, 2)}",
    )


def _missing(title: str, anchor: str) -> Stage:
    return Stage(title=title, anchor=anchor, figure="–", detail="not run", done=False)


def _export(export: Export | None) -> Stage:
    if export is None:
        return _missing("Export", "files")
    sizes = [f.bytes for f in export.files]
    number = len(sizes)
    return Stage(
        title="Export",
        anchor="files",
        figure=f"{number} file{'s' if number != 1 else ''}",
        detail=f"{span(min(sizes), max(sizes), kilobytes)} kB" if sizes else "",
    )


def _check(check: Check | None) -> Stage:
    if check is None:
        return _missing("Check", "files")
    passed = sum(f.passed for f in check.files)
    worst = max((f.max_error_deg for f in check.files if f.max_error_deg is not None), default=None)
    return Stage(
        title="Check",
        anchor="files",
        figure=f"{passed} of {len(check.files)} pass",
        detail=f"largest error {degrees(worst, 2)} in {count(check.frames)} frames",
        failed=passed < len(check.files),
    )


def _bench(bench: Bench | None) -> Stage:
    if bench is None or not bench.rows:
        return _missing("Bench", "latency")
    best: BenchRow = min(bench.rows, key=lambda row: row.us_p50)
    return Stage(
        title="Bench",
        anchor="latency",
        figure=f"{microseconds(best.us_p50)} µs",
        detail=f"frame to angle, median, {best.file}",
    )


def _closed_loop(loop: ClosedLoop | None) -> Stage:
    if loop is None or not loop.rows:
        return _missing("Closed loop", "closed-loop")
    rows = loop.at(loop.delays_ms[0])
    files = [row for row in rows if row.driver not in (EXPERT, CONTROL)]
    shown = files or list(rows)
    others = ", ".join(f"{row.driver}: {row.survived}" for row in rows if row.driver in (EXPERT, CONTROL))
    return Stage(
        title="Closed loop",
        anchor="closed-loop",
        figure=f"{span(min(r.survived for r in shown), max(r.survived for r in shown), count)} of {shown[0].worlds}",
        detail=f"unseen worlds survived by the model's files{f' ({others})' if others and files else ''}",
    )


def _charts(material: Material) -> dict[str, Chart | None | list[Chart | None]]:
    v = material.validation
    found: dict[str, Any] = {
        "history": charts.draw_history(material.history) if material.history.get("loss") else None,
        "scatter": charts.draw_scatter(material.predictions, v.scale_deg),
        "driving": charts.draw_driving(material.predictions, v.scale_deg),
        "bins": charts.draw_bins(v.bins, v.scale_deg, v.constant_mae),
        "errors": _histograms(material.check) if material.check else [],
        "delay": _delay(material.closed_loop) if material.closed_loop else None,
    }
    return found


def _histograms(check: Check) -> list[tuple[Any, Chart]]:
    return [(f, charts.draw_histogram(f.histogram, f.file, f.limit_deg)) for f in check.files if f.histogram]


def _delay(loop: ClosedLoop) -> Chart | None:
    if len(loop.delays_ms) < 2:
        return None
    drivers: Sequence[str] = list(dict.fromkeys(row.driver for row in loop.rows))
    return charts.draw_delay(loop, drivers, [color_of(driver) for driver in drivers])


def color_of(driver: str) -> str:
    """Expert and control stand apart; the files share a colour, as their lines lie upon each other."""
    from sepilot_train import figures

    return {EXPERT: figures.SECOND, CONTROL: figures.FAINT}.get(driver, figures.ACCENT)


def rows_of(loop: ClosedLoop, driver: str) -> list[LoopRow]:
    """A driver's rows, by delay."""
    return sorted((row for row in loop.rows if row.driver == driver), key=lambda row: row.delay_ms)
