"""Everything that one page shows, gathered from a run directory and from what later verbs wrote."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sepilot_export.record.checks import Check, read_check
from sepilot_export.record.exports import Export, read_export
from sepilot_export.report.samples import Sample, golden_samples, held_out_samples
from sepilot_runtime.base.documents import read_document
from sepilot_runtime.base.errors import DriveError, RunError
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.bench.record import Benchmark
from sepilot_train.base.frame_set import Answers
from sepilot_train.base.quiet import quiet
from sepilot_train.closed_loop.tables import ClosedLoop
from sepilot_train.inspect.table import LayerTable, layer_table
from sepilot_train.run.run import Run, open_run
from sepilot_train.run.validation import Validation, read_validation

__all__ = ["PageContent", "gather"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PageContent:
    """One page's worth. What is None or empty is left out, with a line on how to make it.

    Attributes:
        export_path: the export directory, None where none was named.
        samples_note: why the sample frames are not the drives' own; "" where they are.
    """

    run: Run
    recipe_toml: str
    validation: Validation
    history: Mapping[str, Sequence[float]]
    predictions: Answers
    table: LayerTable
    export_path: Path | None
    export: Export | None
    check: Check | None
    bench: Benchmark | None
    closed_loop: ClosedLoop | None
    samples: tuple[Sample, ...]
    samples_note: str


def gather(
    run_path: Path,
    *,
    export_path: Path | None = None,
    bench_path: Path | None = None,
    closed_loop_path: Path | None = None,
    moved_to: Sequence[Path] = (),
) -> PageContent:
    """Read it all.

    Args:
        moved_to: where the run's drives are now, when not where they were at training.

    Raises:
        RunError: an input is missing, damaged, of another kind or of another run; one line that names file and key.
    """
    run = open_run(run_path)
    predictions = _predictions(run)
    export, check = _read_export_directory(export_path)
    _require_export_of(run, export, export_path)
    # Whatever speaks against the paths is said before the net's layers, which need TensorFlow.
    if moved_to:
        run.drives(moved_to)
    closed_loop = read_document(ClosedLoop, closed_loop_path, RunError) if closed_loop_path else None
    samples, note = _samples(run, predictions, moved_to)
    return PageContent(
        run=run,
        bench=_read_bench(bench_path, export) if bench_path else None,
        recipe_toml=(run_path / "recipe.toml").read_text(encoding="utf-8"),
        validation=read_validation(run_path),
        history=_read_history(run_path / "history.csv"),
        predictions=predictions,
        table=_layers(run),
        export_path=export_path,
        export=export,
        check=check,
        closed_loop=closed_loop,
        samples=tuple(samples),
        samples_note=note,
    )


def _predictions(run: Run) -> Answers:
    if not len((found := run.predictions()).frames):
        raise RunError(f"{run.path / 'predictions.npz'}: at least one held-out frame expected, found none")
    return found


def _require_export_of(run: Run, export: Export | None, path: Path | None) -> None:
    if export is not None and export.model_sha256 != (own := sha256_of(run.model_path)):
        raise RunError(
            f"{path}/export.json: model_sha256: {own[:12]}… of {run.model_path} expected, found "
            f"{export.model_sha256[:12]}…; this is the export of another run"
        )


def _read_export_directory(folder: Path | None) -> tuple[Export | None, Check | None]:
    if folder is None:
        return None, None
    if not (folder / "export.json").exists():
        raise RunError(f"{folder}: a directory of `sepilot export` expected (no export.json)")
    check = folder / "check.json"
    return read_export(folder), read_check(check) if check.exists() else None


def _read_bench(path: Path, export: Export | None) -> Benchmark:
    """What was measured, the files of the export under the names that they have there.

    Raises:
        RunError: a file of the same name was measured, but not the export's.
    """
    bench = read_document(Benchmark, path, RunError)
    if export is None:
        return bench
    shas = {file.file: file.sha256 for file in export.files}
    names = {sha: file for file, sha in shas.items()}
    rows = []
    for number, row in enumerate(bench.rows):
        name = row.file if row.sha256 is None else names.get(row.sha256)
        if name is None and row.file in shas:
            raise RunError(
                f"{path}: rows[{number}]: sha256: {shas[row.file][:12]}… of the export's {row.file} expected, found "
                f"{str(row.sha256)[:12]}…; another file of this name was measured"
            )
        rows.append(replace(row, file=name or row.file))
    return replace(bench, rows=tuple(rows))


def _layers(run: Run) -> LayerTable:
    from sepilot_train.inspect.keras import keras_nodes, keras_warnings

    with quiet(f"loading {run.model_path}"):
        model = run.load_model()
    return layer_table(keras_nodes(model), keras_warnings(model))


def _samples(run: Run, predictions: Answers, moved_to: Sequence[Path]) -> tuple[list[Sample], str]:
    try:
        return held_out_samples(run, predictions, moved_to), ""
    except DriveError as e:
        return golden_samples(run), str(e)


def _read_history(path: Path) -> dict[str, list[float]]:
    """history.csv: column to values, one per epoch; empty before the first epoch has ended."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise RunError(f"{path}: cannot be read: {e}") from e
    history: dict[str, list[float]] = {}
    for line, row in enumerate(rows, start=2):
        for key, value in row.items():
            try:
                history.setdefault(key, []).append(float(value))
            except (TypeError, ValueError) as e:
                raise RunError(f"{path}: line {line}, column {key}: a number expected, found {value!r}") from e
    return history
