"""What `sepilot check` shows: check.json, a table for the terminal, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape

from sepilot_export.convert.failures import Failure, lines_of
from sepilot_export.record.checks import CheckedFile, ErrorHistogram, ReferenceFigures, Section, Witness
from sepilot_export.verify.file_check import FileCheck
from sepilot_export.verify.reference import Reference
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.contract.contract import Scalar

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["draw", "print_failures", "print_table", "section_of", "witnesses"]


ERROR_EDGES = np.logspace(-7, 2, 73)
"""Of the histogram in check.json: one axis on which float32 and int8 can be compared."""


def section_of(checks: Sequence[FileCheck], reference: Reference) -> Section:
    """The reference's own figures, one row per file, the witnesses, and the verdict."""
    output = reference.contract.outputs[0]
    task = reference.task(reference.predictions)
    return Section(
        reference=ReferenceFigures(
            source=reference.source,
            frames=len(reference.predictions),
            drives=tuple(dict.fromkeys(reference.drives)),
            full_scale_deg=output.scale,
            task_mae=task.mae if task else None,
            r2=task.r2 if task else None,
            constant_mae=task.constant_mae if task else None,
        ),
        files=tuple(_row(c, reference) for c in checks),
        witnesses=tuple(witnesses(checks, output)),
        passed=all(c.passed for c in checks),
    )


def _row(check: FileCheck, reference: Reference) -> CheckedFile:
    candidate, fidelity, task = check.candidate, check.fidelity, check.task
    return CheckedFile(
        file=candidate.path.name,
        format=candidate.form.name,
        precision=candidate.form.precision,
        engine=candidate.engine or candidate.form.engine,
        bytes=check.bytes,
        sha256=sha256_of(candidate.path) if candidate.path.is_file() else None,
        gzip_bytes=check.gzip_bytes,
        frames=len(check.answers),
        mean_error_deg=fidelity.mean_error if fidelity else None,
        p99_error_deg=fidelity.p99_error if fidelity else None,
        max_error_deg=fidelity.max_error if fidelity else None,
        sign_flips=fidelity.sign_flips if fidelity else None,
        saturated=fidelity.saturated if fidelity else None,
        task_mae=task.mae if task else None,
        r2=task.r2 if task else None,
        mae_increase=fidelity.mae_increase if fidelity else None,
        golden_error=check.golden_error,
        twin_steps=check.twin_steps,
        error_histogram=_histogram(check, reference) if check.answers.size else None,
        limits=candidate.limits,
        passed=check.passed,
        reasons=check.reasons,
        cause=check.advice.cause if check.advice else None,
        next_step=check.advice.next_step if check.advice else None,
        notes=check.notes,
    )


def _histogram(check: FileCheck, reference: Reference) -> ErrorHistogram:
    """An error below or beyond the edges counts at that end."""
    output = reference.contract.outputs[0]
    low, high = output.low, output.high
    said, expected = (np.clip(v.astype(np.float64), low, high) for v in (check.answers, reference.predictions))
    error = np.clip(np.abs(said - expected) * output.scale, ERROR_EDGES[0], ERROR_EDGES[-1])
    counts = np.histogram(error, ERROR_EDGES)[0]
    return ErrorHistogram(edges_deg=tuple(ERROR_EDGES.tolist()), counts=tuple(counts.tolist()))


def witnesses(checks: Sequence[FileCheck], output: Scalar) -> list[Witness]:
    """For each precision made for two engines, how far the two files are from each other, in the output's unit.

    Quantizer and interpreter of one have nothing in common with the other's: where they agree, both are right, or the
    calibration frames are wrong.
    """
    found = []
    done = [c for c in checks if c.answers.size]
    for i, a in enumerate(done):
        for b in done[i + 1 :]:
            forms = a.candidate.form, b.candidate.form
            if forms[0].precision == forms[1].precision and forms[0].suffix != forms[1].suffix and not _twins(a, b):
                gap = np.abs(a.answers.astype(np.float64) - b.answers) * output.scale
                found.append(
                    Witness(
                        files=(a.candidate.path.name, b.candidate.path.name),
                        precision=forms[0].precision,
                        mean_deg=float(gap.mean()),
                        max_deg=float(gap.max()),
                    )
                )
    return found


def _twins(a: FileCheck, b: FileCheck) -> bool:
    """Is one of the two made from the other? Then they prove nothing about each other."""
    return a.candidate.twin is not None or b.candidate.twin is not None


def print_table(checks: Sequence[FileCheck], reference: Reference, console: Console) -> None:
    """The table, 80 columns, with a line for every reason to fail."""
    from rich.table import Table

    output = reference.contract.outputs[0]
    console.print(_headline(reference, output))
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    # First, and never narrower: where the columns do not fit, figures are cut and not the verdict.
    grid.add_column("", no_wrap=True, min_width=4)
    grid.add_column("file", no_wrap=True)
    unit = "°" if output.unit == "deg" else f" {output.unit}"
    for name in ("kB", f"mean{unit}", f"p99{unit}", f"max{unit}", "flip", "sat.", "MAE change"):
        grid.add_column(name, justify="right", no_wrap=True)
    for check in checks:
        grid.add_row(*_cells(check))
    console.print(grid)
    for pair in witnesses(checks, output):
        if pair.precision.startswith("int8"):
            console.print(
                f"witness: {' and '.join(pair.files)} differ by {pair.mean_deg:.3f}{unit} in the mean, "
                f"{pair.max_deg:.3f}{unit} at most"
            )
    for check in checks:
        if check.twin_steps is not None and check.candidate.twin is not None:
            console.print(f"twin: {check.twin_steps:g} output steps from {check.candidate.twin.of} at most")
    for check in checks:
        for reason in check.reasons:
            console.print(f"[red]FAIL[/red] {check.candidate.path.name}: {escape(reason)}")
        if check.advice:
            console.print(f"     cause: {escape(check.advice.cause)}")
            console.print(f"     next: {escape(check.advice.next_step)}")
    for note in dict.fromkeys(note for check in checks for note in check.notes):
        about = [check.candidate.form.name for check in checks if note in check.notes]
        console.print(f"[yellow]note[/yellow] {', '.join(about)}: {escape(note)}")


def print_failures(failed: Sequence[Failure], console: Console) -> None:
    """The formats that the export could not make."""
    for names, reason, way in lines_of(failed):
        console.print(f"[red]FAIL[/red] {names}: was not exported: {escape(reason)}")
        console.print(f"     next: {escape(way)}")


def _headline(reference: Reference, output: Scalar) -> str:
    task = reference.task(reference.predictions)
    drives = list(dict.fromkeys(reference.drives))
    named = ", ".join(drives) if len(", ".join(drives)) <= 30 else f"{len(drives)} drives"
    text = f"{len(reference.predictions):,} frames of {named}, against {reference.source}"
    if task is None:
        return f"{text}; without labels"
    r2 = "n/a" if task.r2 is None else f"{task.r2:.3f}"
    return (
        f"{text}:\nR² {r2}, MAE {task.mae:.4f} ({task.mae * output.scale:.2f} {output.unit}); "
        f"constant prediction MAE {task.constant_mae:.4f}"
    )


def _cells(check: FileCheck) -> list[str]:
    verdict = "[green]pass[/green]" if check.passed else "[red]FAIL[/red]"
    fidelity = check.fidelity
    start = [verdict, check.candidate.form.name, _kilobytes(check.bytes)]
    if fidelity is None:
        return [*start, *["-"] * 6]
    increase = fidelity.mae_increase
    change = "-"
    if increase is not None:
        change = f"{increase.mean:+.4f}±{(increase.high - increase.low) / 2:.4f}"
    errors = (fidelity.mean_error, fidelity.p99_error, fidelity.max_error)
    counts = (fidelity.sign_flips, fidelity.saturated)
    return [*start, *map(_short, errors), *map(str, counts), change]


def _kilobytes(size: int) -> str:
    """kB in four characters."""
    return f"{size / 1000:.0f}" if size >= 100_000 else f"{size / 1000:.1f}"


def _short(value: float) -> str:
    """A number in six characters that keeps two digits of a very small one."""
    return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 5e-4 else f"{value:.3f}"


def draw(checks: Sequence[FileCheck], reference: Reference, path: Path) -> None:
    """A PNG with the distribution of each file's error, and each file's answers against the reference's."""
    from sepilot_train.base import plots

    shown = [c for c in checks if c.answers.size]
    if not shown:
        return
    columns = min(4, len(shown))
    bands = -(-len(shown) // columns)
    fig = plots.figure(3.0 * columns, 4.9 * bands + 0.4)
    provenance = reference.contract.provenance
    fig.suptitle(
        f"{provenance.recipe}: {len(reference.predictions):,} frames, each file against {reference.source}",
        x=0.01, ha="left", fontsize=12, color=plots.INK,
    )  # fmt: skip
    grid = fig.add_gridspec(2 * bands, columns, height_ratios=[1.0, 1.35] * bands)
    for i, check in enumerate(shown):
        band, column = divmod(i, columns)
        _draw_errors(fig, grid[2 * band, column], check, reference)
        _draw_answers(fig, grid[2 * band + 1, column], check, reference)
    plots.save(fig, path)


def _draw_errors(fig: Any, cell: Any, check: FileCheck, reference: Reference) -> None:
    from sepilot_train.base import plots

    output = reference.contract.outputs[0]
    error = (check.answers.astype(np.float64) - reference.predictions) * output.scale
    reach = max(float(np.abs(error).max()), 1e-9) * 1.4
    ax = plots.axes(fig, check.candidate.form.name, f"error [{output.unit}]", "frames", cell)
    ax.hist(error, bins=np.linspace(-reach, reach, 61).tolist(), color=plots.ACCENT)
    ax.set_yscale("log")
    ax.set_xlim(-reach, reach)
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    limit = check.candidate.limits.max_error * output.scale
    for side in (-limit, limit):
        if abs(side) <= reach:
            ax.axvline(side, color=plots.SECOND, linewidth=1)
    ax.set_ylim(0.6, None)
    verdict, colour = ("pass", "#1a7f37") if check.passed else ("FAIL", "#c62828")
    style = {"transform": ax.transAxes, "va": "top", "fontsize": 9}
    ax.text(0.97, 0.97, verdict, ha="right", color=colour, fontweight="bold", **style)
    worst = float(np.abs(error).max())
    ax.text(0.03, 0.97, f"max {worst:.2g}\ngate {limit:.2g}", ha="left", color=plots.INK, **style)


def _draw_answers(fig: Any, cell: Any, check: FileCheck, reference: Reference) -> None:
    from sepilot_train.base import plots

    output = reference.contract.outputs[0]
    said, expected = check.answers * output.scale, reference.predictions * output.scale
    ax = plots.axes(fig, "", f"training model [{output.unit}]", f"file [{output.unit}]", cell)
    reach = float(max(np.abs(said).max(), np.abs(expected).max(), 1e-3)) * 1.05
    ax.plot([-reach, reach], [-reach, reach], color=plots.SECOND, linewidth=0.8)
    ax.scatter(expected, said, s=3, alpha=0.3, color=plots.ACCENT, linewidths=0, rasterized=True)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.set_aspect("equal")
