"""What each compression costs in error, and gains in time and size, on drives that trained nothing.

For each seed the `swift` recipe is trained, every compression is applied to that run, and both are exported and run
frame by frame through LiteRT. OUT/NAME-SEED are run directories, OUT/NAME-SEED-export their files; what is finished is
kept, so that a stopped benchmark goes on where it was. Changes of the task's error are paired, frame by frame, against
the float32 file of the same seed's training. Latency is of picture to number, one thread, all files of the first
seed interleaved in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from sepilot_export.verify.check import candidates_of, check_files
from sepilot_export.verify.file_check import FileCheck
from sepilot_export.commands.compress import main as compress_command
from sepilot_export.commands.export import main as export_command
from sepilot_export.compress.kernels import kernels_of
from sepilot_export.convert.embed import sparsity
from sepilot_export.verify.fidelity import Interval, task_increase
from sepilot_export.verify.reference import Reference, read_reference
from sepilot_runtime.bench.latency_bench import Variant, measure, synthetic_frames
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.base.files import write_json
from sepilot_train.commands.train import main as train_command
from sepilot_train.inspect.keras import keras_nodes
from sepilot_train.inspect.table import layer_table
from sepilot_train.run.run import open_run

BASE = "swift"

#: The recipes of each variant, applied one after the other.
VARIANTS: Mapping[str, Sequence[str]] = {
    "prune50": ["prune50"],
    "prune80": ["prune80"],
    "prune2x4": ["prune2x4"],
    "cluster": ["cluster"],
    "qat": ["qat"],
    "pqat": ["pqat"],
    "cqat": ["cqat"],
    "slim": ["slim"],
    "slim+qat": ["slim", "qat"],
    "distill": ["distill"],
}

#: What trains the teachers of `distill`: the base itself, and a net of another kind, whose errors are other ones.
TEACHERS: Mapping[str, Sequence[str]] = {
    BASE: [],
    "v27": ["model.builder=v27", "picture.height=66", "picture.width=100"],
}

FLOAT, INT8 = "float32.tflite", "int8.tflite"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of one seed. `increase` of the task's MAE is against the base's float32 file; `deviation_deg` is from
    the file's own training model."""

    r2: float
    mae: float
    increase: Interval
    deviation_deg: float
    kilobytes: float
    gzip_kilobytes: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant: its files by seed; parameters, MACs and latency of the first seed's."""

    name: str
    parameters: int
    macs: int
    zeros: float
    float32: tuple[File, ...]
    int8: tuple[File, ...]
    float32_us: float
    int8_us: float


def main() -> int:
    arguments = parser().parse_args()
    names = [BASE, *(n for n in VARIANTS if n in (arguments.only or VARIANTS))]
    if arguments.finished:
        names = [n for n in names if (arguments.out / f"{n}-0" / "model.keras").exists()]
    try:
        make(names, arguments)
        seeds = range(arguments.seeds)
        us = latencies({n: arguments.out / f"{n}-0-export" for n in names}, arguments.rounds)
        bases = [checks(arguments.out / f"{BASE}-{seed}-export") for seed in seeds]
        rows = [row(name, arguments.out, bases, us[name]) for name in names]
    except SepilotError as e:
        print(f"bench-compression: {e}", file=sys.stderr)
        return e.exit_code
    report(rows, bases[0][1])
    write_json(arguments.out / "compression.json", {"seeds": arguments.seeds, "variants": [asdict(r) for r in rows]})
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="scripts/bench-compression", description=__doc__.splitlines()[0])
    made.add_argument("drives", nargs="+", type=Path, metavar="DRIVE", help="recordings to train on")
    made.add_argument("--val", nargs="+", type=Path, required=True, metavar="DRIVE", help="recordings to judge on")
    made.add_argument("--out", type=Path, default=Path("bench/compression"), help="default: bench/compression")
    made.add_argument("--only", nargs="+", choices=VARIANTS, metavar="NAME", help=f"of {', '.join(VARIANTS)}")
    made.add_argument("--seeds", type=int, default=3, help="trainings per variant (default: 3)")
    made.add_argument("--set", dest="overrides", action="append", default=[], help="change the base's training")
    made.add_argument(
        "--finished", action="store_true", help="train nothing; export and report the runs in --out that are done"
    )
    made.add_argument("--rounds", type=int, default=40, help="of the latency measurement (default: 40)")
    return made


def make(names: Sequence[str], arguments: argparse.Namespace) -> None:
    """Train, compress and export whatever is not there yet."""
    out = arguments.out
    for seed in range(arguments.seeds):
        train(BASE, seed, arguments)
    if "distill" in names:
        for seed in range(2):
            train("v27", seed, arguments)
    for seed in range(arguments.seeds):
        for name in names:
            run = out / f"{name}-{seed}"
            if arguments.finished and not (run / "model.keras").exists():
                continue
            if name != BASE:
                words = [str(out / f"{BASE}-{seed}"), "--recipe", *VARIANTS[name], "--out", str(run)]
                if name == "distill":
                    five = [out / f"{BASE}-{i}" for i in range(arguments.seeds)] + [out / f"v27-{i}" for i in range(2)]
                    words += ["--teacher", *map(str, five)]
                once(run / "model.keras", compress_command, words)
            export = out / f"{name}-{seed}-export"
            once(export, export_command, [str(run), "--formats", FLOAT, INT8, "--out", str(export)])


def train(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train the base, or a teacher of another kind in the same way."""
    path = arguments.out / f"{name}-{seed}"
    words = [*map(str, arguments.drives), "--val", *map(str, arguments.val), "--recipe", BASE, "--seed", str(seed)]
    words += [word for o in (*arguments.overrides, *TEACHERS[name]) for word in ("--set", o)]
    if (path / "request.json").exists():
        words.append("--resume")
    if not arguments.finished:
        once(path / "model.keras", train_command, [*words, "--out", str(path)])


def once(made: Path, command: object, words: list[str]) -> None:
    """Run a verb unless what it makes is there."""
    if made.exists():
        return
    print(made if made.suffix == "" else made.parent, file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):
        command(words)  # type: ignore[operator]


def checks(folder: Path) -> tuple[dict[str, FileCheck], Reference]:
    """The files of an export by format, run over all held-out frames."""
    reference = read_reference(folder)
    return {c.candidate.form.name: c for c in check_files(candidates_of(folder), reference)}, reference


def row(name: str, out: Path, bases: Sequence[tuple[dict[str, FileCheck], Reference]], us: Mapping[str, float]) -> Row:
    model = open_run(out / f"{name}-0").load_model()
    table = layer_table(keras_nodes(model))
    files: dict[str, list[File]] = {FLOAT: [], INT8: []}
    for seed, (base, _) in enumerate(bases):
        if not (out / f"{name}-{seed}-export").exists():
            continue
        found, reference = checks(out / f"{name}-{seed}-export")
        for kind, rows in files.items():
            rows.append(file(found[kind], base[FLOAT], reference))
    return Row(
        name=name,
        parameters=table.parameters,
        macs=table.macs,
        zeros=sparsity([k.values for k in kernels_of(model)]),
        float32=tuple(files[FLOAT]),
        int8=tuple(files[INT8]),
        float32_us=us[FLOAT],
        int8_us=us[INT8],
    )


def file(check: FileCheck, base: FileCheck, reference: Reference) -> File:
    output = reference.contract.outputs[0]
    own, before = check.outputs[output.name], base.outputs[output.name]
    increase = task_increase(own.answers, before.answers, reference.labels[output.name], reference.drives, output)
    assert own.task is not None and own.task.r2 is not None and increase is not None
    return File(
        r2=own.task.r2,
        mae=own.task.mae,
        increase=increase,
        deviation_deg=own.fidelity.max_error,
        kilobytes=check.bytes / 1000,
        gzip_kilobytes=check.gzip_bytes / 1000,
        passed=check.passed,
    )


def latencies(exports: Mapping[str, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Median microseconds from picture to number, by variant and format."""
    files = [(name, c) for name, export in exports.items() for c in candidates_of(export)]
    places = [(name, c.form.name, c.path) for name, c in files if c.form.name in (FLOAT, INT8)]
    measured = measure([Variant(path=p, threads=1) for _, _, p in places], synthetic_frames(), rounds=rounds)
    found: dict[str, dict[str, float]] = {}
    for (name, form, _), m in zip(places, measured, strict=True):
        found.setdefault(name, {})[form] = m.infer.p50_us
    return found


def report(rows: Sequence[Row], reference: Reference) -> None:
    base = rows[0]
    most = len(base.float32)
    name = reference.contract.outputs[0].name
    task = reference.task(name, reference.predictions[name])
    assert task is not None
    print(
        f"\n{len(reference):,} held-out frames, {most} seeds; constant MAE {task.constant_mae:.4f}.\n"
        f"Changes of MAE are against {BASE} in float32, paired: mean of the seeds (largest upper end of 95 %)."
    )
    print(f"\n{'':<12}{'R²':>7}{'±':>7}{'MAE, float32':>19}{'MMAC':>6}{'zeros':>6}{'µs':>6}{'':>6}{'gzip kB':>8}")
    for r in rows:
        spread = statistics.stdev(f.r2 for f in r.float32) if len(r.float32) > 1 else float("nan")
        print(
            f"{named(r, most):<12}{mean(f.r2 for f in r.float32):>7.4f}{spread:>7.4f}{change(r.float32):>19}"
            f"{r.macs / 1e6:>6.2f}{r.zeros:>6.0%}{r.float32_us:>6.1f}{base.float32_us / r.float32_us:>5.2f}x"
            f"{mean(f.gzip_kilobytes for f in r.float32):>8.1f}"
        )
    print(f"\n{'int8':<12}{'R²':>7}{'MAE':>20}{'max°':>6}{'µs':>6}{'':>6}{'kB':>7}{'gzip kB':>9}{'':>6}  gates")
    for r in rows:
        worst = max(f.deviation_deg for f in r.int8)
        size = mean(f.gzip_kilobytes for f in r.int8)
        ratio = size / mean(f.gzip_kilobytes for f in base.int8)
        print(
            f"{named(r, most):<12}{mean(f.r2 for f in r.int8):>7.4f}{change(r.int8):>20}{worst:>6.2f}{r.int8_us:>6.1f}"
            f"{base.float32_us / r.int8_us:>5.2f}x{mean(f.kilobytes for f in r.int8):>7.1f}{size:>9.1f}{ratio:>6.0%}"
            f"  {'pass' if all(f.passed for f in (*r.float32, *r.int8)) else 'FAIL'}"
        )


def named(row: Row, seeds: int) -> str:
    return row.name if len(row.float32) == seeds else f"{row.name} ({len(row.float32)})"


def mean(values: object) -> float:
    return statistics.mean(values)  # type: ignore[call-overload, no-any-return]


def change(files: Sequence[File]) -> str:
    return f"{mean(f.increase.mean for f in files):+.4f} ({max(f.increase.high for f in files):+.4f})"


if __name__ == "__main__":
    raise SystemExit(main())
