"""`sepilot compress`: a finished run in, a smaller or faster one out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_export.convert.backend import use_tensorflow
from sepilot_runtime.base.claims import claimed
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.files import require_new
from sepilot_runtime.base.terminal import legible
from sepilot_runtime.commands.arguments import flag, request_from, switch

if TYPE_CHECKING:
    from sepilot_export.compress.recipe import Compression
    from sepilot_export.record.compressions import CompressionRecord, Evaluation
    from sepilot_runtime.contract.contract import Output

__all__ = ["main"]

EPILOG = """examples:
  sepilot compress runs/week --recipe slim --out runs/week-slim
  sepilot compress runs/week --recipe slim qat --out runs/week-slim-qat       one after the other
  sepilot compress runs/week --recipe prune50 --set prune.sparsity=0.6 --out runs/week-prune60
  sepilot compress runs/week --recipe distill --teacher runs/a runs/b runs/c --out runs/student
  sepilot compress --list-recipes

The result is a run directory like that of `sepilot train`: export, check, report and tradeoff take it as it is.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressRequest:
    """`run` and `out` are None where they were not given; only --list-recipes goes on then."""

    run: Path = flag("the run directory of train or compress", "RUN", positional=True, nargs="?")
    recipe: tuple[str, ...] = flag(
        "shipped recipes or .toml files, applied one after the other (see --list-recipes)",
        "NAME",
        nargs="+",
        default=(),
    )
    out: Path = flag("the run directory to write; must not exist", "DIR")
    overrides: tuple[str, ...] = flag(
        "override one value of the recipe that has the section, as in prune.sparsity=0.6", "KEY=VALUE", name="--set"
    )
    teacher: tuple[Path, ...] = flag(
        "runs whose mean answer a distillation learns (default: RUN itself)", "RUN", nargs="+", default=()
    )
    drives: tuple[Path, ...] = flag("where the run's drives are now, if they moved", "PATH", nargs="+", default=())
    list_recipes: bool = switch("print the shipped recipes, and stop")
    json: bool = switch("print compression.json instead of the tables")


def main(argv: Sequence[str]) -> int:
    request = request_from(
        argv, CompressRequest, "compress",
        "Make the net of a run smaller or faster: prune, slim, cluster, train for int8, distill.", EPILOG,
    )  # fmt: skip
    from sepilot_export.compress.recipe import compression_names, load_compression

    if request.list_recipes:
        return _list([load_compression(name) for name in compression_names()])
    if request.run is None or request.out is None or not request.recipe:
        raise UsageError(
            "RUN, --recipe NAME and --out DIR are needed: sepilot compress RUN --recipe slim --out DIR; "
            f"recipes: {', '.join(compression_names())}"
        )
    compressions = _compressions(request)
    if request.teacher and not any(c.distill is not None for c in compressions):
        names = " ".join(request.recipe)
        raise UsageError(f"--teacher: --recipe with a distill section expected, such as distill, found {names}")
    with claimed(request.out):
        return _compress(request, compressions, legible(shlex.join(["sepilot", "compress", *argv])))


def _compress(request: CompressRequest, compressions: Sequence[Compression], command: str) -> int:
    require_new(request.out)
    use_tensorflow("compress")
    from sepilot_train.run.run import open_run

    # Whatever speaks against the paths is said before the back end is imported.
    run, teachers = open_run(request.run), [open_run(path) for path in request.teacher]
    run.drives(request.drives)
    from sepilot_train.base.quiet import start_keras

    start_keras()
    from sepilot_export.compress.job import compress_run

    done = compress_run(
        run,
        compressions,
        request.out,
        teachers=teachers,
        moved_to=request.drives,
        command=command,
        progress=sys.stderr.isatty(),
        step=lambda name: print(f"{name} ...", file=sys.stderr),
    )
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if request.json:
        print((request.out / "compression.json").read_text(encoding="utf-8"), end="")
    else:
        _report(done, run.contract.outputs, request.out)
    return 0


def _compressions(request: CompressRequest) -> list[Compression]:
    """The recipes, each with the overrides that are about its sections."""
    from sepilot_export.compress.recipe import load_compression

    plain = [load_compression(name) for name in request.recipe]
    for override in request.overrides:
        section = override.split(".")[0]
        if not any(section in c.sections for c in plain):
            found = dict.fromkeys(s for c in plain for s in c.sections)
            raise UsageError(f"--set {override}: a section of the recipes expected ({', '.join(found)})")
    return [
        load_compression(name, [o for o in request.overrides if o.split(".")[0] in c.sections])
        for name, c in zip(request.recipe, plain, strict=True)
    ]


def _list(compressions: Sequence[Compression]) -> int:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for c in compressions:
        table.add_row(c.name, c.summary)
    Console(highlight=False).print(table)
    return 0


def _report(done: CompressionRecord, outputs: Sequence[Output], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if done.layers:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("kernel", no_wrap=True)
        table.add_column("kind")
        table.add_column("what was done")
        for name in ("weights", "zeros"):
            table.add_column(name, justify="right")
        for note in done.layers:
            table.add_row(note.layer, note.kind, note.action, f"{note.weights_after:,}", f"{note.sparsity:.0%}")
        console.print(table)
        console.print()
    table = Table(box=None, pad_edge=False, header_style="bold", title="held-out frames", title_justify="left")
    table.add_column("")
    for name in ("R²", "MAE", "change of MAE", "parameters", "MMAC", "zeros"):
        table.add_column(name, justify="right")
    several = len(done.outputs) > 1
    for figures in done.figures:
        table.add_row(*_cells(figures, of=f" {figures.output}" if several else ""))
    for name, found in done.outputs.items():
        table.add_row(f"constant {name}" if several else "constant", "", f"{found.constant_mae:.4f}")
    console.print(table)
    distances = [
        f"{found.max_deviation * output.scale:.2f} {output.unit}".rstrip() + (f" ({output.name})" if several else "")
        for output in outputs
        if (found := done.outputs[output.name]).max_deviation is not None
    ]
    if distances:
        console.print(f"int8.tflite is at most {', '.join(distances)} from the float net that it was trained with")
    console.print(
        f"\n{done.seconds:.0f} s; run directory: {out}\nnext: sepilot export {out} --out {out}-export",
        soft_wrap=True,
    )


def _cells(figures: Evaluation, of: str) -> list[str]:
    increase = figures.mae_increase
    return [
        f"{figures.name}{of}",
        "n/a" if figures.r2 is None else f"{figures.r2:.4f}",
        f"{figures.mae:.4f}",
        "" if increase is None else f"{increase.mean:+.4f}±{(increase.high - increase.low) / 2:.4f}",
        "" if figures.parameters is None else f"{figures.parameters:,}",
        "" if figures.macs is None else f"{figures.macs / 1e6:.2f}",
        "" if figures.sparsity is None else f"{figures.sparsity:.0%}",
    ]
