"""The demo: the commands that a user would type, one after the other, and one summary of what they said.

Everything lies under demo/. A step whose result is there already is kept, and says so; once a step runs, all later ones
run again. `--fresh` starts over. A format that cannot be exported, or a file that fails its check, does not end the
demo: the last lines, summary.json and the report name it, and the exit code is 1.
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

DEMO = Path("demo")
DRIVES, UNSEEN, RUN, EXPORT = DEMO / "drives", DEMO / "unseen", DEMO / "run", DEMO / "export"
CHECK, BENCH, CLOSED_LOOP = EXPORT / "check.json", DEMO / "bench.json", DEMO / "closed_loop.json"
OVERLAY, REPORT, SUMMARY = DEMO / "overlay.mp4", DEMO / "report.html", DEMO / "summary.json"


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


def steps() -> list[Step]:
    return [
        Step(
            title="record expert drives in simulated worlds",
            result=DRIVES,
            arguments=lambda: ["record", "--drives", "100", "--frames", "120", "--out", DRIVES],
        ),
        Step(
            title="record one drive in a world that nobody trains on",
            result=UNSEEN,
            arguments=lambda: [
                "record", "--simulator", "builtin", "--drives", "1", "--frames", "300", "--seed", "9000", "--no-kicks",
                "--out", UNSEEN,
            ],
        ),
        Step(
            title="train swift",
            result=RUN / "model.keras",
            begun=RUN,
            arguments=lambda: [
                "train", DRIVES, "--recipe", "swift", "--out", RUN,
                *(["--resume"] if RUN.exists() else []),
            ],
        ),
        Step(
            title="export every format",
            result=EXPORT,
            arguments=lambda: ["export", RUN, "--out", EXPORT],
            may_fail_gate=True,
        ),
        Step(
            title="check every file against the training model",
            result=CHECK,
            arguments=lambda: ["check", EXPORT],
            may_fail_gate=True,
        ),
        Step(
            title="measure latency, frame to angle",
            result=BENCH,
            arguments=lambda: ["bench", *files(), "--json"],
            capture=True,
        ),
        Step(
            title="drive unseen worlds in closed loop",
            result=CLOSED_LOOP,
            arguments=lambda: [
                "closed-loop", *files(), "--run", RUN, "--worlds", "6", "--steps", "300",
                "--delay-ms", "0,150", "--json",
            ],
            capture=True,
        ),
        Step(
            title="drive over the unseen recording, with an overlay video",
            result=OVERLAY,
            arguments=lambda: [
                "drive", first_passing(), "--source", first_tub(UNSEEN), "--overlay", OVERLAY,
                "--output", DEMO / "overlay.jsonl",
            ],
        ),
        Step(
            title="write the report",
            result=REPORT,
            arguments=lambda: [
                "report", RUN, "--export", EXPORT, "--bench", BENCH, "--closed-loop", CLOSED_LOOP, "--out", REPORT,
            ],
        ),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="remove demo/ and start over")
    arguments = parser.parse_args()
    if arguments.fresh:
        shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir(exist_ok=True)
    begin = time.perf_counter()
    if code := run_all():
        return code
    failed = failures()
    write_summary(failed)
    print(f"\n{time.perf_counter() - begin:.0f} s. Open {REPORT} in a browser; {OVERLAY} shows the drive.")
    for row in failed:
        print(f"FAILED {row['file']}: {row['reason']}" + (f"; next: {row['next_step']}" if row["next_step"] else ""))
    return 1 if failed else 0


def run_all() -> int:
    """Run the steps that are due; the exit code of the first that ends the demo, or 0."""
    everything = steps()
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


def files() -> list[Path]:
    """The files that run here: those that fail a gate among them, those that fail their golden frames not."""
    found = sorted(EXPORT / row["file"] for row in read(CHECK)["files"] if row["golden_error"] is not None)
    if not found:
        raise SystemExit(f"{CHECK}: no file passes its golden frames; its reasons are there")
    return found


def first_passing() -> Path:
    """A file to show, of those that may steer; any that runs where none may."""
    passed = [EXPORT / row["file"] for row in read(CHECK)["files"] if row["passed"]]
    return (passed or files())[0]


def failures() -> list[dict[str, str]]:
    """The files that failed their check and the formats that could not be exported, with the reason."""
    check = read(CHECK)
    failed = [(row["file"], "; ".join(row["reasons"]), row["next_step"]) for row in check["files"] if not row["passed"]]
    failed += [(r["format"], f"was not exported: {r['reason']}", r["way_out"]) for r in check["not_exported"]]
    return [{"file": file, "reason": reason, "next_step": step or ""} for file, reason, step in failed]


def first_tub(folder: Path) -> Path:
    return next(p.parent for p in sorted(folder.rglob("manifest.json")))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_summary(failed: Sequence[dict[str, str]]) -> None:
    validation = read(RUN / "validation.json")
    latency = {row["file"]: row for row in read(BENCH)["rows"]}
    SUMMARY.write_text(
        json.dumps(
            {
                "train": {
                    "r2": validation["metrics"]["r2"],
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
                    for row in read(CHECK)["files"]
                ],
                "failed": failed,
                "closed_loop": [
                    {key: row[key] for key in ("driver", "worlds", "survived", "mean_cte_m")}
                    for row in read(CLOSED_LOOP)["results"]
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
