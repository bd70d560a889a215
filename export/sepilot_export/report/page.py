"""The page: one HTML file with its style, plots and pictures inside. It loads nothing and runs no script."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sepilot_export.record.checks import Check, CheckedFile
from sepilot_export.record.exports import Export
from sepilot_export.report import charts
from sepilot_export.report.formatting import count, fixed, in_unit, kilobytes, microseconds, span, words
from sepilot_export.report.material import PageContent
from sepilot_export.report.rendering import render_page
from sepilot_export.report.samples import turns
from sepilot_runtime.bench.record import Benchmark
from sepilot_runtime.contract.contract import Output
from sepilot_train.base.plots import ACCENT, FAINT, INK, SECOND, Plot
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
    outputs = material.run.contract.outputs
    return render_page(
        "page.html",
        ("sepilot_export.report",),
        m=material,
        v=material.validation,
        outputs=outputs,
        steers=any(map(turns, outputs)),
        poor=[o for o in outputs if (found := material.validation.of(o.name)).constant_mae < found.mae],
        told=[material.validation.of(output.name).told(output) for output in outputs],
        skipped=sum(frames for reasons in material.validation.skipped.values() for frames in reasons.values()),
        conditions=_conditions(material),
        provenance=material.run.contract.provenance,
        stages=stages_of(material),
        charts=_charts(material),
        bench_end=max((row.us_p50 for row in material.bench.rows), default=1.0) if material.bench else 1.0,
    )


def stages_of(material: PageContent) -> list[Stage]:
    """The pipeline strip, from drives to closed loop; figures of the model are those of its first output."""
    first = material.run.contract.outputs[0]
    return [
        _drives(material.validation),
        _train(material.validation, first),
        _export(material.export),
        _check(material.check, first),
        _bench(material.bench, material.check),
        *([_closed_loop(material.closed_loop)] if any(map(turns, material.run.contract.outputs)) else []),
    ]


def _drives(v: Validation) -> Stage:
    drives = len({*v.train_drives, *v.validation_drives})
    return Stage(
        title="Drives",
        anchor="training",
        figure=f"{count(v.train_frames + v.validation_frames)}",
        detail=f"frames of {drives} drive{'s' if drives > 1 else ''}, {count(v.validation_frames)} held out",
    )


def _train(v: Validation, output: Output) -> Stage:
    mae, constant = (in_unit(e * output.scale, output, 2) for e in (v.metrics.mae, v.metrics.constant_mae))
    return Stage(
        title="Train",
        anchor="training",
        figure=f"mean error {mae}" if v.metrics.r2 is None else f"R² {fixed(v.metrics.r2)}",
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


def _check(check: Check | None, output: Output) -> Stage:
    if check is None:
        return _missing("Check", "files")
    failed = [f.file for f in check.files if not f.passed]
    worst = max((f.max_error_deg for f in check.files if f.max_error_deg is not None), default=None)
    return Stage(
        title="Check",
        anchor="files",
        figure=f"{len(check.files) - len(failed)} of {len(check.files)} pass",
        detail=f"largest error {in_unit(worst, output, 2)} in {count(check.reference.frames)} frames"
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
    check, outputs = material.check, material.run.contract.outputs
    drawn = [found for output in outputs for found in _output_charts(material, output)]
    return {
        "history": charts.draw_history(material.history, v.kept_epoch) if material.history.get("loss") else None,
        "columns": [chart for plot, chart in drawn if plot.shape != "row"],
        "rows": [chart for plot, chart in drawn if plot.shape == "row"],
        "errors": _error_charts(check, outputs[0]) if check else [],
        "survived": charts.draw_delay(loop, _color_of, "survived") if loop else None,
        "off_centre": charts.draw_delay(loop, _color_of, "off centre") if loop else None,
    }


def _output_charts(material: PageContent, output: Output) -> list[tuple[Plot, charts.Chart]]:
    said, labels = material.predictions.values[output.name], material.predictions.frames.labels[output.name]
    target, metrics = material.run.recipe.targets[output.name], material.validation.of(output.name)
    plots = target.plots(labels, said, metrics, output)
    several = len(material.run.contract.outputs) > 1
    return [(plot, charts.draw_plot(plot, output.name if several else "")) for plot in plots]


def _error_charts(check: Check, output: Output) -> list[tuple[CheckedFile, charts.Chart]]:
    """Of one output, where a gate goes by the error."""
    return [
        (f, charts.draw_histogram(f.error_histogram, f.file, f.limits["max_error"] * output.full_scale, output))
        for f in check.files
        if f.error_histogram and "max_error" in f.limits
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
