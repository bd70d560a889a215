"""What `sepilot check` shows: check.json, a table for the terminal, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape

from sepilot_export.convert.failures import Failure, lines_of
from sepilot_export.record.checks import (
    CheckedFile,
    CheckedOutput,
    ErrorHistogram,
    OutputReference,
    ReferenceFigures,
    Section,
    Witness,
    own_figures,
)
from sepilot_export.verify.fidelity import Fidelity
from sepilot_export.verify.file_check import FileCheck, OutputCheck
from sepilot_export.verify.reference import Reference
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.units import mark_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_failures", "print_table", "section_of", "witnesses"]


ERROR_EDGES = np.logspace(-7, 2, 73)
"""Of the histogram in check.json: one axis on which float32 and int8 can be compared."""


def section_of(checks: Sequence[FileCheck], reference: Reference) -> Section:
    """The reference's own figures, one row per file, the witnesses, and the verdict."""
    outputs = {output.name: _reference_of(reference, output) for output in reference.contract.outputs}
    first = next(iter(outputs.values()))
    return Section(
        reference=ReferenceFigures(
            source=reference.source,
            frames=len(reference),
            drives=tuple(dict.fromkeys(reference.drives)),
            full_scale_deg=first.scale,
            task_mae=first.task_mae,
            r2=first.r2,
            constant_mae=first.constant_mae,
            outputs=outputs,
        ),
        files=tuple(_row(c, reference) for c in checks),
        witnesses=tuple(witnesses(checks, reference.contract.outputs)),
        passed=all(c.passed for c in checks),
    )


def _reference_of(reference: Reference, output: Output) -> OutputReference:
    task = reference.task(output.name, reference.predictions[output.name])
    return OutputReference(
        unit=output.unit,
        scale=output.scale,
        task_mae=task.mae if task else None,
        r2=task.r2 if task else None,
        constant_mae=task.constant_mae if task else None,
    )


def _row(check: FileCheck, reference: Reference) -> CheckedFile:
    candidate = check.candidate
    outputs = {o.name: _output_row(check, reference, o) for o in reference.contract.outputs if o.name in check.outputs}
    first = next(iter(outputs.values()), None)
    figures: Mapping[str, Any] = first.figures if first else {}
    return CheckedFile(
        file=candidate.path.name,
        format=candidate.form.name,
        precision=candidate.form.precision,
        engine=candidate.engine or candidate.form.engine,
        bytes=check.bytes,
        sha256=sha256_of(candidate.path) if candidate.path.is_file() else None,
        gzip_bytes=check.gzip_bytes,
        frames=len(reference) if check.outputs else 0,
        mean_error_deg=first.mean_error if first else None,
        p99_error_deg=first.p99_error if first else None,
        max_error_deg=first.max_error if first else None,
        sign_flips=figures.get("sign_flips"),
        saturated=figures.get("saturated"),
        task_mae=first.task_mae if first else None,
        r2=first.r2 if first else None,
        mae_increase=figures.get("mae_increase"),
        golden_error=check.golden_error,
        twin_steps=check.twin_steps,
        error_histogram=first.error_histogram if first else None,
        limits=next(iter(candidate.limits.values())),
        outputs=outputs,
        passed=check.passed,
        reasons=check.reasons,
        cause=check.advice.cause if check.advice else None,
        next_step=check.advice.next_step if check.advice else None,
        notes=check.notes,
    )


def _output_row(check: FileCheck, reference: Reference, output: Output) -> CheckedOutput:
    found = check.outputs[output.name]
    fidelity, task = found.fidelity, found.task
    return CheckedOutput(
        unit=output.unit,
        mean_error=fidelity.mean_error,
        p99_error=fidelity.p99_error,
        max_error=fidelity.max_error,
        figures=fidelity.figures,
        limits=check.candidate.limits[output.name],
        task_mae=task.mae if task else None,
        r2=task.r2 if task else None,
        error_histogram=_histogram(found, reference, output),
        passed=check.passes(output.name),
    )


def _histogram(found: OutputCheck, reference: Reference, output: Output) -> ErrorHistogram:
    """An error below or beyond the edges counts at that end."""
    error = task_of(output).distance(found.answers, reference.predictions[output.name])
    counts = np.histogram(np.clip(error, ERROR_EDGES[0], ERROR_EDGES[-1]), ERROR_EDGES)[0]
    return ErrorHistogram(edges_deg=tuple(ERROR_EDGES.tolist()), counts=tuple(counts.tolist()))


def witnesses(checks: Sequence[FileCheck], outputs: Sequence[Output]) -> list[Witness]:
    """For each precision made for two engines, how far the two files are from each other, in the outputs' units.

    Quantizer and interpreter of one have nothing in common with the other's: where they agree, both are right, or the
    calibration frames are wrong.
    """
    found = []
    done = [c for c in checks if c.outputs]
    for i, a in enumerate(done):
        for b in done[i + 1 :]:
            forms = a.candidate.form, b.candidate.form
            if forms[0].precision == forms[1].precision and forms[0].suffix != forms[1].suffix and not _twins(a, b):
                found += [_witness(a, b, output) for output in outputs]
    return found


def _witness(a: FileCheck, b: FileCheck, output: Output) -> Witness:
    gap = task_of(output).distance(a.answers[output.name], b.answers[output.name])
    return Witness(
        files=(a.candidate.path.name, b.candidate.path.name),
        precision=a.candidate.form.precision,
        output=output.name,
        mean_deg=float(gap.mean()),
        max_deg=float(gap.max()),
    )


def _twins(a: FileCheck, b: FileCheck) -> bool:
    """Is one of the two made from the other? Then they prove nothing about each other."""
    return a.candidate.twin is not None or b.candidate.twin is not None


def print_table(checks: Sequence[FileCheck], reference: Reference, console: Console) -> None:
    """The table, 80 columns, with a line for every reason to fail; a row for each output where there are several."""
    outputs = reference.contract.outputs
    console.print(_headline(reference))
    console.print(_grid(checks, outputs))
    for output in outputs:
        if grid := _own_grid(checks, output.name):
            console.print(grid)
    units = {output.name: mark_of(output) for output in outputs}
    for pair in witnesses(checks, outputs):
        if pair.precision.startswith("int8"):
            of = f"{pair.output} of " if len(outputs) > 1 else ""
            unit = units[pair.output]
            console.print(
                f"witness: {of}{' and '.join(pair.files)} differ by {pair.mean_deg:.3f}{unit} in the mean, "
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


def _grid(checks: Sequence[FileCheck], outputs: Sequence[Output]) -> Any:
    from rich.table import Table

    alone = outputs[0] if len(outputs) == 1 else None
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    # First, and never narrower: where the columns do not fit, figures are cut and not the verdict.
    grid.add_column("", no_wrap=True, min_width=4)
    grid.add_column("file", no_wrap=True)
    unit = mark_of(alone) if alone else ""
    for name in ("kB", f"mean{unit}", f"p99{unit}", f"max{unit}", "flip", "sat.", "MAE change"):
        grid.add_column(name, justify="right", no_wrap=True)
    for check in checks:
        start = [_verdict(passed=check.passed), check.candidate.form.name, _kilobytes(check.bytes)]
        if alone or not check.outputs:
            found = check.outputs.get(outputs[0].name)
            grid.add_row(*start, *(_cells(found.fidelity) if found else ["-"] * 6))
            continue
        grid.add_row(*start)
        for output in outputs:
            row = [_verdict(passed=check.passes(output.name)), f"  {output.name}{mark_of(output)}", ""]
            grid.add_row(*row, *_cells(check.outputs[output.name].fidelity))
    return grid


def _own_grid(checks: Sequence[FileCheck], output: str) -> Any:
    """What an output's own gates go by, each beside its limit; None where it has none or no file answered."""
    from rich.table import Table

    found = {
        check.candidate.form.name: own_figures(own.fidelity.figures, check.candidate.limits[output])
        for check in checks
        if (own := check.outputs.get(output))
    }
    if not any(found.values()):
        return None
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    grid.add_column(f"gates of {output}", no_wrap=True)
    for gate in next(iter(found.values())):
        grid.add_column(gate, justify="right", no_wrap=True)
        grid.add_column("at most", justify="right", no_wrap=True, style="dim")
    for name, figures in found.items():
        grid.add_row(name, *(f"{value:.4g}" for pair in figures.values() for value in pair))
    return grid


def _verdict(*, passed: bool) -> str:
    return "[green]pass[/green]" if passed else "[red]FAIL[/red]"


def print_failures(failed: Sequence[Failure], console: Console) -> None:
    """The formats that the export could not make."""
    for names, reason, way in lines_of(failed):
        console.print(f"[red]FAIL[/red] {names}: was not exported: {escape(reason)}")
        console.print(f"     next: {escape(way)}")


def _headline(reference: Reference) -> str:
    drives = list(dict.fromkeys(reference.drives))
    named = ", ".join(drives) if len(", ".join(drives)) <= 30 else f"{len(drives)} drives"
    text = f"{len(reference):,} frames of {named}, against {reference.source}"
    outputs = reference.contract.outputs
    lines = []
    for output in outputs:
        task = reference.task(output.name, reference.predictions[output.name])
        if task is None:
            continue
        of = f"{output.name}: " if len(outputs) > 1 else ""
        r2 = "" if task.r2 is None else f"R² {task.r2:.3f}, "
        in_unit = f" ({task.mae * output.scale:.2f} {output.unit})" if output.unit else ""
        lines.append(f"{of}{r2}MAE {task.mae:.4f}{in_unit}; constant prediction MAE {task.constant_mae:.4f}")
    return f"{text}:\n" + "\n".join(lines) if lines else f"{text}; without labels"


def _cells(fidelity: Fidelity) -> list[str]:
    increase = fidelity.mae_increase
    change = f"{increase.mean:+.4f}±{(increase.high - increase.low) / 2:.4f}" if increase else "-"
    errors = (fidelity.mean_error, fidelity.p99_error, fidelity.max_error)
    counts = [str(fidelity.figures.get(gate, "-")) for gate in ("sign_flips", "saturated")]
    return [*map(_short, errors), *counts, change]


def _kilobytes(size: int) -> str:
    """kB in four characters."""
    return f"{size / 1000:.0f}" if size >= 100_000 else f"{size / 1000:.1f}"


def _short(value: float) -> str:
    """A number in six characters that keeps two digits of a very small one."""
    return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 5e-4 else f"{value:.3f}"
