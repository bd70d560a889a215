"""The page: one HTML file with its style, plots and pictures inside. It loads nothing and runs no script."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sepilot_export.record.checks import Check, CheckedFile
from sepilot_export.record.exports import Export
from sepilot_export.report import charts
from sepilot_export.report.formatting import count, degrees, fixed, kilobytes, microseconds, span, words
from sepilot_export.report.material import PageContent
from sepilot_export.report.rendering import render_page
from sepilot_runtime.bench.record import Benchmark
from sepilot_runtime.contract.contract import Output
from sepilot_train.base.plots import ACCENT, FAINT, INK, SECOND
from sepilot_train.closed_loop.evaluation import ClosedLoopResult
from sepilot_train.closed_loop.tables import ClosedLoop
from sepilot_train.run.validation import Validation

__all__ = ["Stage", "render", "stages_of"]

LOOP_SETTINGS = ("simulator", "worlds", "first_seed", "steps", "rate_hz", "speed_mps")

EXPERT = "expert"
"""The driver of the closed loop that knows the track."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One card of the pipeline strip: its key figure, a line about it, and whether it was reached."""

    title: str
    anchor: str
    figure: str
    detail: str
    done: bool = True
    failed: bool = False


def render(material: PageContent) -> str:
    """The HTML document. Every text that came from a file is escaped."""
    return render_page(
        "page.html",
        ("sepilot_export.report",),
        m=material,
        v=material.validation,
        outputs=material.run.contract.outputs,
        skipped=sum(frames for reasons in material.validation.skipped.values() for frames in reasons.values()),
        conditions=_conditions(material),
        provenance=material.run.contract.provenance,
        stages=stages_of(material),
        charts=_charts(material),
        bench_end=max((row.us_p50 for row in material.bench.rows), default=1.0) if material.bench else 1.0,
    )


def stages_of(material: PageContent) -> list[Stage]:
    """The pipeline strip, from drives to closed loop."""
    return [
        _drives(material.validation),
        _train(material.validation),
        _export(material.export),
        _check(material.check),
        _bench(material.bench, material.check),
        _closed_loop(material.closed_loop),
    ]


def _drives(v: Validation) -> Stage:
    drives = len({*v.train_drives, *v.validation_drives})
    return Stage(
        title="Drives",
        anchor="training",
        figure=f"{count(v.train_frames + v.validation_frames)}",
        detail=f"frames of {drives} drive{'s' if drives > 1 else ''}, {count(v.validation_frames)} held out",
    )


def _train(v: Validation) -> Stage:
    mae, constant = (degrees(error * v.full_scale_deg, 2) for error in (v.metrics.mae, v.metrics.constant_mae))
    return Stage(
        title="Train",
        anchor="training",
        figure=f"R² {fixed(v.metrics.r2)}",
        detail=f"mean error {mae}, constant answer {constant}",
    )


def _missing(title: str, anchor: str) -> Stage:
    return Stage(title=title, anchor=anchor, figure="–", detail="not run", done=False)


def _export(export: Export | None) -> Stage:
    if export is None:
        return _missing("Export", "files")
    sizes = [f.bytes for f in export.files]
    number = len(sizes)
    lost = f"; not made: {', '.join(f.format for f in export.failed)}" if export.failed else ""
    return Stage(
        title="Export",
        anchor="files",
        figure=f"{number} file{'s' if number != 1 else ''}",
        detail=(f"{span(min(sizes), max(sizes), kilobytes)} kB" if sizes else "") + lost,
        failed=bool(export.failed),
    )


def _check(check: Check | None) -> Stage:
    if check is None:
        return _missing("Check", "files")
    failed = [f.file for f in check.files if not f.passed]
    worst = max((f.max_error_deg for f in check.files if f.max_error_deg is not None), default=None)
    return Stage(
        title="Check",
        anchor="files",
        figure=f"{len(check.files) - len(failed)} of {len(check.files)} pass",
        detail=f"largest error {degrees(worst, 2)} in {count(check.reference.frames)} frames"
        + (f"; failed: {', '.join(failed)}" if failed else ""),
        failed=bool(failed),
    )


def _bench(bench: Benchmark | None, check: Check | None) -> Stage:
    if bench is None or not bench.rows:
        return _missing("Bench", "latency")
    failed = {f.file for f in check.files if not f.passed} if check else set()
    # The time of a file that steers wrong is none to show, unless there is no other.
    best = min(bench.rows, key=lambda row: (row.file in failed, row.us_p50))
    return Stage(
        title="Bench",
        anchor="latency",
        figure=f"{microseconds(best.us_p50)} µs",
        detail=f"frame to angle, median, {best.file}" + (", which failed its check" if best.file in failed else ""),
    )


def _closed_loop(loop: ClosedLoop | None) -> Stage:
    if loop is None or not loop.results:
        return _missing("Closed loop", "closed-loop")
    rows = loop.at(loop.delays_ms[0])
    shown = [row for row in rows if row.kind == "file"] or list(rows)
    others = ", ".join(f"{row.driver} ({row.survived})" for row in rows if row.kind == "control" and row not in shown)
    survived = [row.survived for row in shown]
    return Stage(
        title="Closed loop",
        anchor="closed-loop",
        figure=f"{span(min(survived), max(survived), count)} of {shown[0].worlds}",
        detail=f"unseen worlds survived{f'; {others}' if others else ''}",
    )


def _charts(material: PageContent) -> dict[str, Any]:
    v, loop = material.validation, material.closed_loop
    check = material.check
    return {
        "history": charts.draw_history(material.history, v.kept_epoch) if material.history.get("loss") else None,
        "outputs": [_output_charts(material, output) for output in material.run.contract.outputs],
        "errors": _error_charts(check) if check else [],
        "survived": charts.draw_delay(loop, _color_of, "survived") if loop else None,
        "off_centre": charts.draw_delay(loop, _color_of, "off centre") if loop else None,
    }


def _output_charts(material: PageContent, output: Output) -> dict[str, charts.Chart]:
    said, labels = material.predictions.values[output.name], material.predictions.frames.labels[output.name]
    return {
        "scatter": charts.draw_scatter(labels, said, output),
        "driving": charts.draw_driving(labels, said, output),
        "bins": charts.draw_bins(material.validation.of(output.name), output),
    }


def _error_charts(check: Check) -> list[tuple[CheckedFile, charts.Chart]]:
    scale = check.reference.full_scale_deg
    return [
        (f, charts.draw_histogram(f.error_histogram, f.file, f.limits["max_error"] * scale))
        for f in check.files
        if f.error_histogram
    ]


def _conditions(material: PageContent) -> list[tuple[str, dict[str, str]]]:
    """Under what the figures were measured, in words."""
    bench, loop = material.bench, material.closed_loop
    found: list[tuple[str, dict[str, str]]] = []
    if bench:
        found.append(("Benchmark", words(bench.settings) | words(dataclasses.asdict(bench.conditions))))
    if loop:
        settings = {key: getattr(loop, key) for key in LOOP_SETTINGS}
        found.append(("Closed loop", words(settings) | words(loop.conditions)))
    return found


def _color_of(row: ClosedLoopResult) -> str:
    """Expert, control and training model stand apart; the files share a colour, as their lines lie upon each other."""
    if row.kind == "control":
        return SECOND if row.driver == EXPERT else FAINT
    return INK if row.kind == "model" else ACCENT
