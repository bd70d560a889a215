"""The demo: the commands that a user would type, one after the other, and one summary of what they said.

Everything lies under demo/, of another task than driving under demo-TASK/. A step whose result is there is kept, and
says so; once a step runs, all later ones run again. `--fresh` starts over. A format that cannot be exported, or a
file that fails its check, does not end the demo: the last lines, summary.json and the report name it, and the exit code
is 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

@dataclass(frozen=True, slots=True)
class Places:
    """Where a demo puts what it makes."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def export(self) -> Path:
        return self.folder / "export"

    @property
    def check(self) -> Path:
        return self.export / "check.json"

    @property
    def bench(self) -> Path:
        return self.folder / "bench.json"

    @property
    def closed_loop(self) -> Path:
        return self.folder / "closed_loop.json"

    @property
    def overlay(self) -> Path:
        return self.folder / "overlay.mp4"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def summary(self) -> Path:
        return self.folder / "summary.json"


DRIVING = Places(Path("demo"))

# The mean of so few steps must not reach back to the first.
SHORT = ["training.min_epoch_frames=0", "training.ema=0.9"]

TASKS = {
    "drive": ("", "", []),
    # Few epochs of small nets: enough to see each step work, not what they could learn in an hour.
    "classify": ("crops", "cifar-sep", [*SHORT, "training.epochs=15", "picture.height=48", "picture.width=48",
                                        "model.options={repeats=[1,1,1]}"]),
    "detect": ("scenes", "spot", [*SHORT, "training.epochs=20"]),
    "landmarks": ("target", "landmarks", [*SHORT, "training.epochs=12"]),
}  # fmt: skip
"""Of a task the set of `record --objects` that it learns, its recipe, and what of that is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command. `result` is what it leaves behind; `capture` says that this is its standard output.

    `begun` is what it goes on from after a kill, unless an earlier step has run since.
    """

    title: str
    result: Path
    arguments: Callable[[], Sequence[str | Path]]
    capture: bool = False
    may_fail_gate: bool = False
    begun: Path | None = None


def driving(at: Places) -> list[Step]:
    drives, unseen = at.folder / "drives", at.folder / "unseen"
    return [
        Step(
            title="record expert drives in simulated worlds",
            result=drives,
            arguments=lambda: ["record", "--drives", "100", "--frames", "120", "--out", drives],
        ),
        Step(
            title="record one drive in a world that nobody trains on",
            result=unseen,
            arguments=lambda: [
                "record", "--simulator", "builtin", "--drives", "1", "--frames", "300", "--seed", "9000", "--no-kicks",
                "--out", unseen,
            ],
        ),
        Step(
            title="train swift",
            result=at.run / "model.keras",
            begun=at.run,
            arguments=lambda: [
                "train", drives, "--recipe", "swift", "--out", at.run,
                *(["--resume"] if at.run.exists() else []),
            ],
        ),
        *proving(at),
        Step(
            title="drive unseen worlds in closed loop",
            result=at.closed_loop,
            arguments=lambda: [
                "closed-loop", *files(at), "--run", at.run, "--worlds", "6", "--steps", "300",
                "--delay-ms", "0,150", "--json",
            ],
            capture=True,
        ),
        Step(
            title="drive over the unseen recording, with an overlay video",
            result=at.overlay,
            arguments=lambda: [
                "drive", first_passing(at), "--source", first_tub(unseen), "--overlay", at.overlay,
                "--output", at.folder / "overlay.jsonl",
            ],
        ),
        Step(
            title="write the report",
            result=at.report,
            arguments=lambda: [
                "report", at.run, "--export", at.export, "--bench", at.bench, "--closed-loop", at.closed_loop,
                "--out", at.report,
            ],
        ),
    ]  # fmt: skip


def proving(at: Places) -> list[Step]:
    """From a trained net to files with figures."""
    return [
        Step(
            title="export every format",
            result=at.export,
            arguments=lambda: ["export", at.run, "--out", at.export],
            may_fail_gate=True,
        ),
        Step(
            title="check every file against the training model",
            result=at.check,
            arguments=lambda: ["check", at.export],
            may_fail_gate=True,
        ),
        Step(
            title="measure latency, frame to angle",
            result=at.bench,
            arguments=lambda: ["bench", *files(at), "--json"],
            capture=True,
        ),
    ]


def showing(at: Places, task: str) -> list[Step]:
    """The demo of another task: from pictures that the simulator draws to what a file says of others."""
    name, recipe, changes = TASKS[task]
    objects, label = at.folder / "objects", ["--label", "class"] if name == "crops" else []
    overrides = [word for change in changes for word in ("--set", change)]
    return [
        Step(
            title="draw cones, cars and signs into simulated worlds",
            result=objects,
            arguments=lambda: ["record", "--objects", "--count", "1200", "--out", objects],
        ),
        Step(
            title=f"train {recipe}",
            result=at.run / "model.keras",
            begun=at.run,
            arguments=lambda: [
                "train", objects / name, "--recipe", recipe, *overrides, "--out", at.run,
                *(["--resume"] if at.run.exists() else []),
            ],
        ),
        *proving(at),
        Step(
            title="run a file over pictures of worlds that nobody trained on, with an overlay video",
            result=at.overlay,
            arguments=lambda: [
                "run", first_passing(at), "--source", objects / name / "test", *label, "--overlay", at.overlay,
                "--output", at.folder / "overlay.jsonl",
            ],
        ),
        Step(
            title="write the report",
            result=at.report,
            arguments=lambda: ["report", at.run, "--export", at.export, "--bench", at.bench, "--out", at.report],
        ),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="remove the demo's folder and start over")
    parser.add_argument("--task", choices=TASKS, default="drive", help="what the net learns (default: drive)")
    arguments = parser.parse_args()
    drives = arguments.task == "drive"
    at = DRIVING if drives else Places(Path(f"demo-{arguments.task}"))
    if arguments.fresh:
        shutil.rmtree(at.folder, ignore_errors=True)
    at.folder.mkdir(exist_ok=True)
    begin = time.perf_counter()
    if code := run_all(driving(at) if drives else showing(at, arguments.task)):
        return code
    failed = failures(at)
    write_summary(failed, at)
    what = "the drive" if drives else "what it says"
    print(f"\n{time.perf_counter() - begin:.0f} s. Open {at.report} in a browser; {at.overlay} shows {what}.")
    for row in failed:
        print(f"FAILED {row['file']}: {row['reason']}" + (f"; next: {row['next_step']}" if row["next_step"] else ""))
    return 1 if failed else 0


def run_all(everything: Sequence[Step]) -> int:
    """Run the steps that are due; the exit code of the first that ends the demo, or 0."""
    stale = False
    for number, step in enumerate(everything, start=1):
        head = f"[{number}/{len(everything)}] {step.title}"
        if step.result.exists() and not stale:
            print(f"{head}: kept {step.result} (--fresh starts over)", flush=True)
            continue
        if stale and step.begun is not None:
            shutil.rmtree(step.begun, ignore_errors=True)
        stale = True
        code = run(head, step)
        # Where a gate failed, what was written says so; what was not written cannot be gone on with.
        if code != 0 and not (code == 1 and step.may_fail_gate and step.result.exists()):
            return code
    return 0


def run(head: str, step: Step) -> int:
    command = ["sepilot", *map(str, step.arguments())]
    print(f"\n{head}\n$ {' '.join(command)}", flush=True)
    if step.result.is_file():
        step.result.unlink()
    elif step.result.is_dir():
        shutil.rmtree(step.result)
    begin = time.perf_counter()
    call = [sys.executable, "-P", "-m", "sepilot_runtime", *command[1:]]
    if step.capture:
        done = subprocess.run(call, stdout=subprocess.PIPE, check=False)
        if done.returncode == 0:
            part = step.result.with_suffix(".part")
            part.write_bytes(done.stdout)
            part.replace(step.result)
    else:
        done = subprocess.run(call, check=False)
    print(f"({time.perf_counter() - begin:.0f} s)", flush=True)
    return done.returncode


def files(at: Places) -> list[Path]:
    """The files that run here: those that fail a gate among them, those that fail their golden frames not."""
    found = sorted(at.export / row["file"] for row in read(at.check)["files"] if row["golden_error"] is not None)
    if not found:
        raise SystemExit(f"{at.check}: no file passes its golden frames; its reasons are there")
    return found


def first_passing(at: Places) -> Path:
    """A file to show, of those that may steer; any that runs where none may."""
    passed = [at.export / row["file"] for row in read(at.check)["files"] if row["passed"]]
    return (passed or files(at))[0]


def failures(at: Places) -> list[dict[str, str]]:
    """The files that failed their check and the formats that could not be exported, with the reason."""
    check = read(at.check)
    failed = [(row["file"], "; ".join(row["reasons"]), row["next_step"]) for row in check["files"] if not row["passed"]]
    failed += [(r["format"], f"was not exported: {r['reason']}", r["way_out"]) for r in check["not_exported"]]
    return [{"file": file, "reason": reason, "next_step": step or ""} for file, reason, step in failed]


def first_tub(folder: Path) -> Path:
    return next(p.parent for p in sorted(folder.rglob("manifest.json")))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_summary(failed: Sequence[dict[str, str]], at: Places) -> None:
    validation = read(at.run / "validation.json")
    latency = {row["file"]: row for row in read(at.bench)["rows"]}
    at.summary.write_text(
        json.dumps(
            {
                "train": {
                    "r2": validation["metrics"].get("r2"),
                    "mae": validation["metrics"]["mae"],
                    "constant_mae": validation["metrics"]["constant_mae"],
                    "seconds": validation["seconds"],
                },
                "formats": [
                    {
                        **{
                            key: row[key]
                            for key in (
                                "file", "precision", "engine", "mean_error_deg", "p99_error_deg", "max_error_deg",
                                "task_mae", "bytes", "passed",
                            )
                        },
                        "us_p50": latency[row["file"]]["us_p50"] if row["file"] in latency else None,
                    }
                    for row in read(at.check)["files"]
                ],
                "failed": failed,
                "closed_loop": [
                    {key: row[key] for key in ("driver", "worlds", "survived", "mean_cte_m")}
                    for row in (read(at.closed_loop)["results"] if at.closed_loop.exists() else [])
                    if row["delay_ms"] == 0
                ],
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
