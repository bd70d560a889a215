"""What `sepilot tradeoff` says in text: tradeoff.json, a table of 80 columns for the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from sepilot_export.tradeoff.candidate import Entry, FileFigures
from sepilot_export.tradeoff.job import Comparison
from sepilot_export.tradeoff.pareto import Pick, cost_gzip, cost_raw, cost_us, grouped, pareto
from sepilot_export.tradeoff.record import (
    FileRow,
    Frames,
    FurtherOutput,
    PickRow,
    TimingSettings,
    Tradeoff,
)
from sepilot_runtime.bench.record import conditions_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["letters_of", "print_comparison", "record_of"]

NAME_WIDTH = 29


def letters_of(comparison: Comparison, entry: Entry) -> str:
    """The picks that an entry is: "A" most accurate, "B" balanced, "S" smallest."""
    return "".join(pick.letter for pick in comparison.picks if pick.entry is entry)


def record_of(comparison: Comparison) -> Tradeoff:
    """The document."""
    entries, common = comparison.entries, comparison.common
    fronts = {
        "us": pareto(entries, cost_us), "gzip_bytes": pareto(entries, cost_gzip), "bytes": pareto(entries, cost_raw)
    }  # fmt: skip
    return Tradeoff(
        frames=Frames(
            count=common.count,
            drives=tuple(dict.fromkeys(common.drives)),
            constant_mae_deg=comparison.constant_mae_deg,
        ),
        settings=TimingSettings(
            **dataclasses.asdict(comparison.settings),
            frame_height=comparison.frame[0],
            frame_width=comparison.frame[1],
        ),
        conditions=conditions_of(comparison.before, comparison.after),
        picks=tuple(
            PickRow(pick=p.title, file=p.entry.name, rule=p.rule, kept=p.kept, above_best_deg=p.above_deg)
            for p in comparison.picks
        ),
        files=tuple(_row(comparison, entry) for entry in entries),
        fronts={cost: tuple(e.name for e in front) for cost, front in fronts.items()},
        left_out=comparison.left_out,
        notes=comparison.notes,
    )


def _row(comparison: Comparison, entry: Entry) -> FileRow:
    return FileRow(
        **{figure.name: getattr(entry, figure.name) for figure in dataclasses.fields(FileFigures)},
        file=str(entry.place.shown / entry.file),
        run=str(entry.place.run) if entry.place.run else None,
        above_best_deg=comparison.above.get(entry.name),
        constant_mae_deg=entry.constant_mae_deg,
        outputs={name: FurtherOutput(unit=unit.strip(), mae=mae) for name, (unit, mae) in entry.further.items()},
        passed=entry.passed,
    )


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The table, the picks with their commands, and what was left out."""
    from rich.table import Table

    common = comparison.common
    drives = list(dict.fromkeys(common.drives))
    of = ", ".join(drives) if len(", ".join(drives)) <= 30 else f"{len(drives)} drives"
    console.print(
        f"{common.count:,} held-out frames of {of}; constant answer {comparison.constant_mae_deg:.2f}{common.mark}\n"
        f"µs: frame to angle on this machine, one thread, {comparison.settings.rounds} interleaved rounds\n",
        soft_wrap=True,
    )
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    grid.add_column("file", no_wrap=True)
    for name in (f"error{common.mark}", "±95 %", f"max{common.mark}", "µs", "kB", "gzip kB", ""):
        grid.add_column(name, justify="right", no_wrap=True)
    for entry in comparison.entries:
        grid.add_row(escape(_short(entry.name)), *_cells(entry, letters_of(comparison, entry)))
        for name, (unit, mae) in entry.further.items():
            grid.add_row(escape(f"  {name}{unit}"), f"{mae.mean:.3f}", f"{(mae.high - mae.low) / 2:.3f}")
    console.print(grid)
    for entry in comparison.entries:
        for reason in entry.reasons:
            console.print(f"[red]FAIL[/red] {escape(entry.name)}: {escape(reason)}", soft_wrap=True)
    for picks in grouped(comparison.picks):
        _print_picks(picks, common.mark, console)
    if not comparison.picks:
        console.print("\n[red]no file to recommend[/red]: none passes and is surely better than a constant answer")
    for word, lines in (("note", comparison.notes), ("left out", comparison.left_out)):
        for line in lines:
            console.print(f"[yellow]{word}[/yellow] {escape(str(line))}", soft_wrap=True)


def _cells(entry: Entry, letters: str) -> list[str]:
    mae, timing = entry.mae_deg, entry.timing
    error = [f"{mae.mean:.3f}", f"{(mae.high - mae.low) / 2:.3f}"] if mae else ["-", "-"]
    deviation = "-" if entry.max_deviation_deg is None else _small(entry.max_deviation_deg)
    time = f"{timing.median_us:.1f}" if timing else "-"
    sizes = [f"{entry.bytes / 1000:.1f}", f"{entry.gzip_bytes / 1000:.1f}"]
    verdict = f"[bold green]{letters}[/bold green]" if entry.passed else "[red]FAIL[/red]"
    return [*error, deviation, time, *sizes, verdict]


def _print_picks(picks: Sequence[Pick], mark: str, console: Console) -> None:
    """One file with all that it is picked for."""
    entry, kept = picks[0].entry, picks[0].kept
    title = ", ".join(f"{pick.letter} {pick.title.lower()}" for pick in picks)
    assert entry.mae_deg is not None and entry.timing is not None
    console.print(
        f"\n[bold]{title}[/bold]: {escape(str(entry.place.shown / entry.file))}\n"
        f"   {entry.mae_deg.mean:.2f}{mark} (constant {entry.constant_mae_deg:.2f}{mark}, keeps {kept:.1%} of the gain)"
        f", {entry.timing.median_us:.0f} µs, {entry.bytes / 1000:.0f} kB, {entry.gzip_bytes / 1000:.0f} kB gzip",
        soft_wrap=True,
    )
    for command in entry.commands:
        note = f"  ({command.note})" if command.note else ""
        console.print(f"   [dim]$ {escape(command.text)}{escape(note)}[/dim]", soft_wrap=True)


def _small(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 5e-4 else f"{value:.3f}"


def _short(name: str) -> str:
    """A name that fits its column: the middle is cut, as the end tells formats apart."""
    if len(name) <= NAME_WIDTH:
        return name
    tail = NAME_WIDTH - 8
    return f"{name[: NAME_WIDTH - tail - 1]}…{name[-tail:]}"
