"""What `sepilot export` shows of the files that it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from sepilot_export.convert.failures import Failure, lines_of
from sepilot_export.pipeline.export import LAYERS_NAME, Layers
from sepilot_export.quantize.sqnr import print_noise
from sepilot_export.record.exports import ExportedFile
from sepilot_runtime.base.documents import read_document
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Output

__all__ = ["print_files", "print_layers"]


def print_files(files: Sequence[ExportedFile], failed: Sequence[Failure], out: Path, outputs: Sequence[Output]) -> None:
    """A row for each file, what was decided about it, and which formats are missing."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", no_wrap=True)
    for name in ("kB", "gzip kB", "zeros", "seconds"):
        table.add_column(name, justify="right")
    for f in files:
        table.add_row(
            f.file, f"{f.bytes / 1000:.1f}", f"{f.gzip_bytes / 1000:.1f}", f"{f.sparsity:.1%}", f"{f.seconds:.1f}"
        )
    console = Console(highlight=False)
    console.print(table)
    for f in files:
        for line in _decisions(f, outputs):
            console.print(escape(line))
    for names, reason, way in lines_of(failed):
        console.print(f"[red]FAIL[/red] {names}: {escape(reason)}", soft_wrap=True)
        console.print(f"     way out: {escape(way)}", soft_wrap=True)
    console.print(f"\n-> {out}\nnext: sepilot check {out}", soft_wrap=True)


def _decisions(file: ExportedFile, outputs: Sequence[Output]) -> list[str]:
    lines = []
    if file.kept_float and file.cost:
        cost = file.cost
        lines.append(f"{file.format}: plain int8 misses its gates on training frames: {'; '.join(file.kept_because)}")
        lines.append(f"  in float32 instead: {', '.join(file.kept_float)}")
        lines.append(
            f"  {cost.us:.0f} µs against {cost.plain_us:.0f} of plain int8 and {cost.float32_us:.0f} of float32; "
            f"{cost.bytes / 1000:.1f} kB against {cost.plain_bytes / 1000:.1f} and {cost.float32_bytes / 1000:.1f}"
        )
    for found in file.figures:
        of = f" {found.output}" if len(outputs) > 1 else ""
        change = f", task MAE {found.mae_increase.mean:+.4f}" if found.mae_increase else ""
        lines.append(
            f"{file.format}{of} on {found.frames:,} {found.on}: mean {found.mean_deg:.3f}, p99 {found.p99_deg:.3f}, "
            f"max {found.max_deg:.3f} {found.unit}{change}"
        )
    if file.twin:
        tensors = [(o, name) for o in outputs for name in o.tensors]
        steps = ", ".join(f"{file.twin.step_of(name) * o.scale:.3f} {o.unit}".rstrip() for o, name in tensors)
        lines.append(f"{file.format}: {file.twin.steps:g} output steps of {steps} from {file.twin.of} at most")
    return lines


def print_layers(folder: Path) -> None:
    """The table of `int8-layers.json`, if there is one."""
    from rich.console import Console

    path = folder / LAYERS_NAME
    if path.exists():
        found = read_document(Layers, path, RunError)
        print_noise(found.sqnr_db, found.kernel_bits, found.kept_float, Console(highlight=False))
