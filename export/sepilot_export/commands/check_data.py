"""`sepilot check FILE --data`: the figures of one file on a labelled data set."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.contract.outputs.units import amount
from sepilot_runtime.recording.options import ReaderOptions

if TYPE_CHECKING:
    from sepilot_export.verify.scoring import DataSet, OutputScore
    from sepilot_runtime.engine.names import EngineName

__all__ = ["check_data"]


def check_data(
    file: Path, paths: Sequence[Path], reader: ReaderOptions, *, engines: Sequence[EngineName], as_json: bool,
    png: Path | None,
) -> int:  # fmt: skip
    """Score `file`, print it, and draw what its kind is drawn as.

    Raises:
        DriveError, UsageError, RunError: the data cannot be taken; see `open_data`.
        ModelFileError, ContractError: the file cannot be opened, or answers with what is no number.
    """
    from sepilot_export.verify.scoring import open_data, score
    from sepilot_runtime.base.files import require_place
    from sepilot_runtime.engine.model_file import read_model_file
    from sepilot_train.base.progress import progress_bar

    contract = read_model_file(file).contract
    if png is not None:
        require_place(png)
    data = open_data(contract, file, paths, reader, progress=sys.stderr.isatty())
    found: dict[str, list[OutputScore]] = {}
    with progress_bar(f"asking {file.name}", len(data) * max(1, len(engines))) as tick:
        for engine in engines or (None,):
            pilot, scores = score(data, file, engine=engine, tick=tick)
            found[pilot.engine.name] = scores
    if as_json:
        print(json.dumps(_document(file, data, found), indent=2))
    else:
        _print(file, data, found)
    if png is not None:
        _draw(next(iter(found.values())), png)
    return 0


def _document(file: Path, data: DataSet, found: Mapping[str, Sequence[OutputScore]]) -> dict[str, Any]:
    return {
        "file": file.name,
        "data": [{"id": s.drive.id, "path": str(s.drive.path), "fingerprint": s.fingerprint} for s in data.sets],
        "notes": data.notes,
        "engines": {name: {score.output.name: _figures(score) for score in scores} for name, scores in found.items()},
    }


def _figures(score: OutputScore) -> dict[str, Any]:
    figures = score.metrics.figures if score.metrics else {}
    return {
        "kind": score.output.kind,
        "pictures": len(score.labels),
        "groups": score.groups,
        "unit": score.output.unit,
        "scale": score.output.scale,
        "error": dataclasses.asdict(score.error),
        "constant_error": score.constant_error,
        "figures": dict(figures),
        "told": {told.name: told.value for told in score.metrics.told(score.output)} if score.metrics else {},
    }


def _print(file: Path, data: DataSet, found: Mapping[str, Sequence[OutputScore]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    names = ", ".join(s.drive.id for s in data.sets)
    for engine, scores in found.items():
        console.print(f"{file.name} on {len(data):,} pictures of {names}, through {engine}:", markup=False)
        for score in scores:
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
            for row in _rows(score):
                table.add_row(*row)
            console.print(f"\n{score.output.name}", markup=False)
            console.print(table)
    for note in data.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)


def _rows(score: OutputScore) -> list[tuple[str, str, str]]:
    """Name, figure, remark: the error as people tell it, its interval, a constant's, then what its kind tells."""
    figures = score.metrics.figures if score.metrics else {}
    error, constant, output = score.error, score.constant_error, score.output
    if "accuracy" in figures:  # The error is 0 or 1.
        mean, low, high, still = (f"{1 - value:.2%}" for value in (error.mean, error.high, error.low, constant))
        names = "Accuracy", "the most frequent class of these labels"
    else:
        found = (error.mean, error.low, error.high, constant)
        mean, low, high, still = (amount(value * output.scale, output, 3) for value in found)
        names = "Mean error", "the best one answer to these labels"
    drawn = "pictures" if score.groups == len(score.labels) else "groups of pictures"
    rows = [
        (names[0], mean, f"of {len(score.labels):,} pictures"),
        ("95 % within", f"{low} to {high}", f"by {score.groups:,} {drawn}"),
        ("Constant", still, names[1]),
    ]
    further = score.metrics.told(score.output) if score.metrics else ()
    return [*rows, *((told.name, told.value, told.remark) for told in further if not told.plain)]


def _draw(scores: Sequence[OutputScore], png: Path) -> None:
    from sepilot_export.verify.scoring import plots_of
    from sepilot_train.base.plots import save_plot

    plots = [plot for score in scores for plot in plots_of(score)]
    if not plots:
        raise UsageError("--png: an output that is no number expected, found nothing to draw")
    save_plot(plots[0], png)
