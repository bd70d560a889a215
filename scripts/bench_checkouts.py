"""Is this checkout as quick as another one? Both do the same work in turn, by their own command lines.

    scripts/bench-checkouts OTHER MODEL DRIVE [RUN] [--rounds N]

OTHER is a checkout with a `.venv` (or `--other-python` names one); MODEL a file made by `sepilot export`, DRIVE a
recording, RUN a run directory that both can read. The order of the two changes from round to round, so that a machine
that grows warm or busy is no one's advantage. Printed are the medians over the rounds and, of the ratios this/other
of neighbouring runs, the median with the interval of a bootstrap (95 %): below 1, this checkout is the quicker one.

Frame to angle is `sepilot bench`'s median of one file; cold start a `drive` of one frame, from the shell's point of
view; training two epochs of `swift`; export all formats of RUN.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

Measure = Callable[["Checkout", Path], float]


class Checkout:
    """One of the two, with the interpreter that its packages are on the path of."""

    def __init__(self, root: Path, python: Path | None) -> None:
        self.root, self.python = root.resolve(), (python or root / ".venv" / "bin" / "python").absolute()

    def sepilot(self, *words: object) -> str:
        """Run a verb, give its standard output. Raises CalledProcessError, its messages shown."""
        path = os.pathsep.join(str(self.root / name) for name in ("runtime", "train", "export"))
        environment = {**os.environ, "PYTHONPATH": path, "SEPILOT_CACHE": f"{tempfile.gettempdir()}/bench-checkouts"}
        command = [str(self.python), "-P", "-m", "sepilot_runtime", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode not in (0, 1):
            sys.stderr.write(done.stderr)
            done.check_returncode()
        return done.stdout


def seconds(checkout: Checkout, *words: object) -> float:
    start = time.perf_counter()
    checkout.sepilot(*words)
    return time.perf_counter() - start


def measures(model: Path, drive: Path, run: Path | None) -> dict[str, tuple[str, Measure, int]]:
    """Name to unit, measurement, and how many of them one round takes."""

    def angle(checkout: Checkout, out: Path) -> float:
        text = checkout.sepilot("bench", model, "--frames", drive, "--rounds", 5, "--calls", 400, "--json")
        return float(json.loads(text)["rows"][0]["us_p50"])

    def cold(checkout: Checkout, out: Path) -> float:
        return seconds(checkout, "drive", model, "--source", drive, "--max-frames", 1, "--quiet")

    def training(checkout: Checkout, out: Path) -> float:
        return seconds(checkout, "train", drive, "--out", out, "--set", "training.epochs=2")

    def export(checkout: Checkout, out: Path) -> float:
        return seconds(checkout, "export", run, "--out", out)

    found = {"frame to angle": ("us", angle, 1), "cold start": ("s", cold, 5), "training, 2 epochs": ("s", training, 1)}
    return {**found, "export, all formats": ("s", export, 1)} if run else found


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (4000, len(ratios))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, metavar="OTHER", help="the checkout to compare with")
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("drive", type=Path, metavar="DRIVE")
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN")
    parser.add_argument("--other-python", type=Path, metavar="FILE", help="default: OTHER/.venv/bin/python")
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    parser.add_argument("--only", metavar="WORD", default="", help="measurements that begin so")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    pair = (Checkout(ROOT, None), Checkout(arguments.other, arguments.other_python))
    model, drive = arguments.model.resolve(), arguments.drive.resolve()
    table = {}
    print(f"{'':22}{'this':>10}{'other':>10}   this/other (95 %)")
    for name, (unit, measure, times) in measures(model, drive, arguments.run and arguments.run.resolve()).items():
        if not name.startswith(arguments.only):
            continue
        values: tuple[list[float], list[float]] = ([], [])
        for turn in range(arguments.rounds * times):
            for which in ((0, 1) if turn % 2 else (1, 0)):
                out = Path(tempfile.mkdtemp(prefix="bench-checkouts-"))
                values[which].append(measure(pair[which], out / "out"))
                shutil.rmtree(out)
        middle, low, high = interval([a / b for a, b in zip(*values, strict=True)])
        this, other = (float(np.median(v)) for v in values)
        print(f"{name:22}{this:>8.4g} {unit:2}{other:>7.4g} {unit:2}   {middle:.3f} ({low:.3f} to {high:.3f})", flush=True)
        table[name] = {"unit": unit, "this": this, "other": other, "ratio": middle, "low": low, "high": high}
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
