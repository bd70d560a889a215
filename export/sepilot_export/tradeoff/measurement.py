"""The figures of every file: checked anew, frame by frame, then timed side by side in one process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_export.record.exports import read_export
from sepilot_export.tradeoff.candidate import Entry, Timing
from sepilot_export.tradeoff.common_frames import Common
from sepilot_export.tradeoff.discovery import LeftOut, Place
from sepilot_export.tradeoff.lineage import commands_of, compression_of
from sepilot_export.verify.check import candidates_of, check_files
from sepilot_export.verify.file_check import Candidate, FileCheck
from sepilot_export.verify.reference import Reference, read_reference
from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean
from sepilot_runtime.base.errors import MissingExtraError
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.bench.latency_bench import Variant, measure, synthetic_frames
from sepilot_runtime.bench.record import BenchRow
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.units import mark_of
from sepilot_train.inspect.table import layer_table

__all__ = ["judge_place", "timed"]

Tick = Callable[[], None]


def judge_place(
    place: Place, common: Common, index: NDArray[np.int64], known: dict[str, str], tick: Tick
) -> tuple[list[Entry], list[LeftOut]]:
    """Check every file of an export.

    Args:
        index: the positions of the common frames in this export's reference.
        known: SHA-256 to name of the files so far; these are added.
        tick: called after every frame.

    Raises:
        RunError: the export is damaged.
    """
    reference = read_reference(place.path)
    record = read_export(place.path)
    sparsity = {row.file: row.sparsity for row in record.files}
    candidates, left_out = _runnable(candidates_of(place.path), place.name, known)
    for failure in record.failed:
        left_out.append(LeftOut(what=f"{place.name}/{failure.format}", reason=f"was not exported: {failure.reason}"))
    entries = [
        _entry(place, check, reference, common, index, sparsity.get(check.candidate.path.name, 0.0))
        for check in check_files(candidates, reference, tick)
    ]
    return entries, left_out


def _runnable(
    candidates: Sequence[Candidate], place: str, known: dict[str, str]
) -> tuple[list[Candidate], list[LeftOut]]:
    """Without files that were there already, and those whose interpreter is not installed."""
    chosen: list[Candidate] = []
    left_out: list[LeftOut] = []
    for candidate in candidates:
        name = _name(place, candidate)
        if candidate.form.engine == "onnxruntime" and find_spec("onnxruntime") is None:
            left_out.append(LeftOut(what=name, reason=str(MissingExtraError("onnxruntime", "onnx"))))
            continue
        first = known.setdefault(sha256_of(candidate.path), name) if candidate.path.is_file() else name
        if first == name:
            chosen.append(candidate)
        else:
            left_out.append(LeftOut(what=name, reason=f"the same file as {first}"))
    return chosen, left_out


def _name(place: str, candidate: Candidate) -> str:
    return f"{place}/{candidate.form.name}"


def timed(
    entries: Sequence[Entry], *, frame: tuple[int, int], rounds: int, calls: int, seed: int, tick: Tick
) -> list[Entry]:
    """The entries with their timings, as far as they can be run.

    Args:
        frame: height and width of the frames.
        tick: called after every visit to a file.
    """
    able = [entry for entry in entries if entry.errors_deg.size]
    variants = [Variant(path=entry.place.path / entry.file, threads=1) for entry in able]
    found: list[BenchRow] = []
    if variants:
        frames = synthetic_frames(height=frame[0], width=frame[1], seed=seed)
        found = measure(variants, frames, rounds=rounds, calls=calls, seed=seed, tick=tick)
    timings = {entry.name: _timing(result) for entry, result in zip(able, found, strict=True)}
    return [dataclasses.replace(entry, timing=timings.get(entry.name)) for entry in entries]


def _entry(
    place: Place,
    check: FileCheck,
    reference: Reference,
    common: Common,
    index: NDArray[np.int64],
    sparsity: float,
) -> Entry:
    candidate, provenance = check.candidate, reference.contract.provenance
    # A file that fails its golden frames is not to be run: its figures would be about nothing.
    fit = check.golden_error is not None and bool(check.outputs)
    output = reference.contract.outputs[0]
    errors = _errors(check.answers[output.name][index], output, common.in_unit) if fit else np.empty(0)
    still = np.asarray(reference.constant[output.name])
    constant = np.broadcast_to(still, (common.count, *still.shape))
    parameters, macs = _size_of_net(candidate.path) if errors.size else (None, None)
    return Entry(
        number=0,
        place=place,
        file=candidate.path.name,
        name=_name(place.name, candidate),
        made_by=" + ".join(filter(None, (provenance.recipe, compression_of(place)))),
        format=candidate.form.name,
        precision=candidate.form.precision,
        engine=candidate.form.engine,
        bytes=check.bytes,
        gzip_bytes=check.gzip_bytes,
        sparsity=sparsity,
        parameters=parameters,
        macs=macs,
        errors_deg=errors,
        mae_deg=paired_bootstrap_mean(errors, common.drives) if errors.size else None,
        constant_errors_deg=_errors(constant, output, common.in_unit),
        further=_further(check, reference, common, index) if fit else {},
        max_deviation_deg=check.outputs[output.name].fidelity.max_error if errors.size else None,
        timing=None,
        commands=commands_of(place),
        reasons=check.reasons,
        notes=check.notes,
    )


def _errors(answers: NDArray[np.float32], output: Output, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) of answers against labels, both decoded as the car does, in the output's unit."""
    return task_of(output).error(answers, values / output.scale) * output.scale


def _further(
    check: FileCheck, reference: Reference, common: Common, index: NDArray[np.int64]
) -> dict[str, tuple[str, Interval]]:
    """The mean errors of all outputs but the first, with their units; those without labels are left out."""
    found = {}
    for output in reference.contract.outputs[1:]:
        values = reference.labels[output.name][index].astype(np.float64) * output.scale
        known = task_of(output).known(values)
        if known.any():
            errors = _errors(check.answers[output.name][index][known], output, values[known])
            drives = [drive for drive, k in zip(common.drives, known, strict=True) if k]
            found[output.name] = (mark_of(output), paired_bootstrap_mean(errors, drives))
    return found


def _size_of_net(path: Path) -> tuple[int | None, int | None]:
    """Parameters and MACs of a file; None without the package that reads ONNX."""
    from sepilot_train.inspect.onnx import onnx_nodes
    from sepilot_train.inspect.tflite import tflite_nodes

    try:
        table = layer_table((onnx_nodes if path.suffix == ".onnx" else tflite_nodes)(path))
    except ModuleNotFoundError:
        return None, None
    return table.parameters, table.macs


def _timing(row: BenchRow) -> Timing:
    low, high = np.quantile(row.us_p50_by_round, (0.1, 0.9))
    return Timing(median_us=row.us_p50, low_us=float(low), high_us=float(high), net_us=row.infer.p50_us)
