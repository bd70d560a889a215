"""`sepilot export`: a training run in, verified model files out."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.errors import UsageError
from sepilot_runtime.files import require_new

if TYPE_CHECKING:
    from sepilot_export.conversions import Exported

__all__ = ["main"]

EPILOG = """examples:
  sepilot export runs/week --out runs/week-export
  sepilot export runs/week --formats float32.tflite,int8.tflite --out car
  sepilot export runs/week --formats onnx --out onnx
  sepilot export --list-formats

The drives of the run are read again: int8 is calibrated on training frames, and held-out frames go along so
that `sepilot check DIR` needs neither TensorFlow nor the drives.
"""


def main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.list_formats:
        return _list_formats(as_json=arguments.json)
    if arguments.run is None or arguments.out is None:
        raise UsageError("RUN and --out DIR are needed: sepilot export RUN --out DIR")
    from sepilot_export.formats import choose_formats

    words = [w for part in arguments.formats for w in part.replace(",", " ").split()]
    formats = choose_formats(words)
    require_new(arguments.out)
    _use_tensorflow()
    from sepilot_export.exporter import export_source, source_of
    from sepilot_train.run import open_run

    run = open_run(arguments.run)
    source = source_of(run, moved_to=arguments.drives, progress=sys.stderr.isatty())
    with _progress(len(formats)) as step:
        files, warnings = export_source(
            source,
            formats,
            arguments.out,
            calibration_frames=arguments.calibration_frames,
            seed=arguments.seed,
            step=step,
        )
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(f) for f in files], indent=2))
    else:
        _print_files(files, arguments.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepilot export",
        description="Write the model of a training run as TFLite and ONNX files, each with its contract inside.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="the run directory of `sepilot train`")
    parser.add_argument("--out", metavar="DIR", type=Path, help="the directory to write; must not exist")
    parser.add_argument(
        "--formats", metavar="LIST", nargs="+", default=["all"],
        help="names, or groups such as tflite, onnx, int8 (default: all; see --list-formats)",
    )  # fmt: skip
    parser.add_argument(
        "--drives",
        metavar="PATH",
        nargs="+",
        type=Path,
        default=[],
        help="where the run's drives are now, if they moved",
    )
    parser.add_argument(
        "--calibration-frames",
        metavar="N",
        type=int,
        default=300,
        help="training frames that int8 is calibrated on (300)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of calibration frames (0)")
    parser.add_argument("--list-formats", action="store_true", help="print the formats with their gates, and stop")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    return parser


def _use_tensorflow() -> None:
    """Keras with TensorFlow, whatever backend trained the model: only TensorFlow's graphs convert."""
    if "keras" in sys.modules:
        import keras

        if keras.backend.backend() != "tensorflow":
            raise UsageError("export needs Keras on TensorFlow; run it in a process of its own")
    os.environ["KERAS_BACKEND"] = "tensorflow"


@contextlib.contextmanager
def _progress(formats: int) -> Iterator[Callable[[str], None]]:
    """A spinner with the name of the step on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    # A descriptor of its own: the conversions point the usual ones at a log.
    with os.fdopen(os.dup(2), "w") as terminal:
        console = Console(file=terminal, force_terminal=True)
        columns = SpinnerColumn(), TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
            task = bar.add_task("", total=formats + 4)

            def step(name: str) -> None:
                bar.update(task, description=name, advance=1)

            yield step


def _list_formats(*, as_json: bool) -> int:
    from sepilot_export.formats import FORMATS

    if as_json:
        print(json.dumps([dataclasses.asdict(f) | {"engine": f.engine} for f in FORMATS], indent=2))
        return 0
    for form in FORMATS:
        calibrated = ", calibrated" if form.needs_calibration else ""
        print(f"{form.name:<24}{form.engine}{calibrated}; max error {form.limits.max_error:g} of full scale,")
        print(f"{'':<24}task MAE at most {form.limits.mae_increase:+g}; {form.description}")
    return 0


def _print_files(files: Sequence[Exported], out: Path) -> None:
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
    console.print(f"\n-> {out}\nnext: sepilot check {out}", soft_wrap=True)
