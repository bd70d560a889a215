"""Train each net with the `swift` recipe's training and augmentation, and measure error, size and latency.

Every variant is a run directory OUT/NAME/SEED as `sepilot train` writes it; a finished one is kept, so that a stopped
benchmark goes on where it was. The last epoch's weights are judged: the validation drives choose nothing. Latency is of
the float32 TFLite file, one thread, all variants interleaved in a new random order each round, median of all calls.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from sepilot_export.convert.deploy import deploy_graph
from sepilot_export.convert.embed import embed_tflite
from sepilot_export.convert.tflite import convert, save_graph
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.base.files import write_json
from sepilot_runtime.base.latency import Way, interleave
from sepilot_runtime.engine.engines import Engine, open_engine
from sepilot_train.commands.train import main as train_command
from sepilot_train.inspect.keras import keras_nodes
from sepilot_train.inspect.table import layer_table
from sepilot_train.run.recipe import load_recipe
from sepilot_train.run.run import Run, open_run

#: What each variant changes of the `swift` recipe.
VARIANTS: Mapping[str, Sequence[str]] = {
    "v27": ["model.builder=v27", "picture.height=66", "picture.width=100"],
    "v27-foldable": ["model.builder=v27-foldable", "picture.height=66", "picture.width=100"],
    "swift": [],
    "swift-48x80": ["picture.height=48", "picture.width=80"],
    "swift-66x100": ["picture.height=66", "picture.width=100"],
    "swift-narrow": ["model.options.widths=[16, 32, 48, 64]"],
    "swift-wide": ["model.options.widths=[32, 64, 96, 128]", "model.options.repeats=[1, 1, 1, 1]"],
    "swift-shallow": ["model.options.repeats=[1, 1, 1, 1]"],
    "swift-residual": ["model.options.residual=true"],
    "pilotnet": ["model.builder=pilotnet", "picture.height=66", "picture.width=200", "picture.color=bgr"],
    "donkey-linear": [
        "model.builder=donkey-linear",
        "picture.height=120",
        "picture.width=160",
        "picture.color=bgr",
        "picture.crop_top=0",
    ],
}

BASELINE = "v27"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant: errors by seed, the rest of the first seed's model. `microseconds` is the median of one call."""

    name: str
    changes: tuple[str, ...]
    parameters: int
    macs: int
    r2: tuple[float, ...]
    mae: tuple[float, ...]
    mae_nonzero: tuple[float, ...]
    microseconds: float


def main() -> int:
    arguments = parser().parse_args()
    names = list(dict.fromkeys([BASELINE, *(arguments.only or VARIANTS)]))
    common = ["training.keep=last", *arguments.overrides]
    if arguments.quick:
        common += ["training.epochs=2"]
    seeds = 1 if arguments.quick else arguments.seeds
    try:
        # The slow baseline comes last: a run that is stopped early has the others.
        if arguments.finished:
            runs = {name: finished(arguments.out / name) for name in names}
            names = [name for name in names if runs[name]]
        else:
            runs = {name: [trained(name, seed, common, arguments) for seed in range(seeds)] for name in reversed(names)}
    except SepilotError as e:
        print(f"bench-models: {e}", file=sys.stderr)
        return e.exit_code
    microseconds = latencies({name: runs[name][0] for name in names}, rounds=arguments.rounds)
    rows = [row(name, runs[name], microseconds[name]) for name in names]
    report(rows)
    write_json(
        arguments.out / "models.json",
        {"common": common, "seeds": seeds, "drives": sorted(runs[BASELINE][0].contract.provenance.drives),
         "validation_drives": sorted(runs[BASELINE][0].contract.provenance.validation_drives),
         "variants": [asdict(r) for r in rows]},
    )  # fmt: skip
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="scripts/bench-models", description=__doc__.splitlines()[0])
    made.add_argument("drives", nargs="+", type=Path, metavar="DRIVE", help="recordings to train on")
    made.add_argument("--val", nargs="+", type=Path, required=True, metavar="DRIVE", help="recordings to judge on")
    made.add_argument("--out", type=Path, default=Path("bench/models"), help="default: bench/models")
    made.add_argument("--only", nargs="+", choices=VARIANTS, metavar="NAME", help=f"of {', '.join(VARIANTS)}")
    made.add_argument("--set", dest="overrides", action="append", default=[], help="change the recipe for all variants")
    made.add_argument("--seeds", type=int, default=3, help="trainings per variant (default: 3)")
    made.add_argument("--rounds", type=int, default=200, help="of the latency measurement (default: 200)")
    made.add_argument(
        "--finished", action="store_true", help="train nothing; report the trainings in --out that are done"
    )
    made.add_argument("--quick", action="store_true", help="one seed, two epochs: whether it works, not how well")
    return made


def trained(name: str, seed: int, common: Sequence[str], arguments: argparse.Namespace) -> Run:
    out = arguments.out / name / str(seed)
    overrides = [*common, *VARIANTS[name]]
    if (out / "model.keras").exists():
        run = open_run(out)
        if run.recipe.sha256 != load_recipe("swift", overrides).sha256:
            raise SepilotError(f"{out}: was trained by another recipe; remove it or choose another --out")
        return run
    words = [*map(str, arguments.drives), "--val", *map(str, arguments.val), "--recipe", "swift", "--seed", str(seed)]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--out", str(out)]
    if (out / "request.json").exists():
        words.append("--resume")
    print(f"{name}, seed {seed}", file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):
        train_command(words)
    return open_run(out)


def finished(folder: Path) -> list[Run]:
    """The finished trainings of one variant, by seed."""
    return [open_run(path.parent) for path in sorted(folder.glob("*/model.keras"))]


def figures(run: Run) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run.path / "validation.json").read_text(encoding="utf-8"))["metrics"]
    return metrics


def latencies(runs: Mapping[str, Run], *, rounds: int, calls: int = 8) -> dict[str, float]:
    """Median microseconds of one call, by name."""
    with tempfile.TemporaryDirectory() as folder:
        engines = {name: engine(run, Path(folder) / name) for name, run in runs.items()}
        random = np.random.default_rng(0)
        for picture in engines.values():
            picture.input_tensor()[...] = random.random(picture.input_tensor().shape)
        # The first call finds the other nets' weights in the caches.
        ways = [Way(run=lambda _, e=e: e.run(), items=[None], calls=calls, warm_up=1) for e in engines.values()]
        return dict(zip(engines, (float(np.median(us)) for us in interleave(ways, rounds=rounds)), strict=True))


def engine(run: Run, path: Path) -> Engine:
    save_graph(deploy_graph(run.load_model(), run.contract), run.contract, path)
    file = path.with_suffix(".tflite")
    file.write_bytes(embed_tflite(convert(path, "float32"), run.contract))
    return open_engine(file)


def row(name: str, runs: Sequence[Run], microseconds: float) -> Row:
    table = layer_table(keras_nodes(runs[0].load_model()))
    by_seed = [figures(run) for run in runs]
    return Row(
        name=name,
        changes=tuple(VARIANTS[name]),
        parameters=table.parameters,
        macs=table.macs,
        r2=tuple(f["r2"] for f in by_seed),
        mae=tuple(f["mae"] for f in by_seed),
        mae_nonzero=tuple(f["mae_nonzero"] for f in by_seed),
        microseconds=round(microseconds, 2),
    )


def report(rows: Sequence[Row]) -> None:
    baseline = next(r.microseconds for r in rows if r.name == BASELINE)
    print(
        f"\n{'net':<16}{'seeds':>5}{'parameters':>11}{'MMAC':>7}{'R²':>8}{'±':>7}{'MAE':>8}{'label≠0':>9}{'µs':>7}{'faster':>8}"
    )
    for r in rows:
        spread = statistics.stdev(r.r2) if len(r.r2) > 1 else float("nan")
        print(
            f"{r.name:<16}{len(r.r2):>5}{r.parameters:>11,}{r.macs / 1e6:>7.2f}"
            f"{statistics.mean(r.r2):>8.4f}{spread:>7.4f}"
            f"{statistics.mean(r.mae):>8.4f}{statistics.mean(r.mae_nonzero):>9.4f}{r.microseconds:>7.1f}"
            f"{baseline / r.microseconds:>7.1f}x"
        )


if __name__ == "__main__":
    raise SystemExit(main())
