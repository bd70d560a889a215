"""What the page of a drive costs the loop, and whether its stop gets through a hostile crowd.

A recording is driven as a camera with `--web`. Whoever looks or attacks is another process, pinned to the last
processor; the drive has the first one, and its page's process goes where the system puts it among the two. Rounds with
and without viewers alternate within one drive, and the figure is the median of what neighbours differ by. Exit code 1
when a goal is missed.

    stop      POST /control/stop with the token, on a new connection and on one that is kept, 500 hostile ones beside
              it: connected and silent, half a header, a body that drips, and reconnecting as fast as they can with half
              a request or a whole one
    flood     as viewers, with the hostile ones instead
    viewers   p50 and p99 of frame to steering, and of the frame's age, with 0 and with 50 pages open
    guesses   wrong tokens that are answered per second, with 60 who try at the same time
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CROWDS = Path(__file__).with_name("bench_web_crowds.py")
TOKEN = "correct-horse-battery"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HOSTILE, VIEWERS, GUESSERS = 500, 50, 60
STOP_GOAL_S, P99_GOAL_MS, GUESSES_GOAL = 0.3, 0.5, 1.0
SETTLE_S, GUESSING_S = 1.5, 20.0


@contextlib.contextmanager
def driving(arguments: argparse.Namespace, output: Path) -> Iterator[int]:
    """A drive with a page; gives the port."""
    words = ["drive", arguments.model, "--source", arguments.source, "--as-camera", "--rate-hz", str(arguments.rate_hz)]
    words += ["--web", "127.0.0.1:0", "--output", str(output)]
    drive = subprocess.Popen(
        [sys.executable, "-P", "-m", "sepilot_runtime", *words],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "SEPILOT_WEB_TOKEN": TOKEN},
    )  # fmt: skip
    try:
        assert drive.stderr is not None
        line = next(line for line in drive.stderr if line.startswith("page at"))
        port = int(line.split("://")[1].split("/")[0].rsplit(":", 1)[1])
        while True:
            with contextlib.suppress(OSError):
                if ask(port, "GET", "/live")[0] == 200:
                    break
        for task in Path(f"/proc/{drive.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {0})
        yield port
        if drive.poll() is not None:
            raise SystemExit(f"the drive ended: {drive.stderr.read()}")
    finally:
        drive.terminate()
        drive.wait(30)


@contextlib.contextmanager
def crowd(kind: str, port: int, count: int) -> Iterator[list[int]]:
    """Another process full of people; gives what they counted, after the block."""
    words = [sys.executable, str(CROWDS), kind, str(port), str(count)]
    last = (os.cpu_count() or 1) - 1
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {last})
    assert process.stdin is not None and process.stdout is not None
    counts: list[int] = []
    try:
        process.stdout.readline()
        time.sleep(SETTLE_S)
        yield counts
    finally:
        process.stdin.close()
        counts += json.loads(process.stdout.readline() or "[]")
        process.wait(30)


def ask(port: int, method: str, path: str, limit_s: float = 5.0) -> tuple[int, float]:
    """Status and seconds of a request on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=limit_s)) as connection:
        return ask_on(connection, method, path)


def ask_on(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, float]:
    """The same on a connection that may be kept; status 0 where it fails."""
    start_s = time.monotonic()
    try:
        connection.request(method, path, headers=BEARER)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, time.monotonic() - start_s
    return answer.status, time.monotonic() - start_s


def stops(port: int, count: int, kind: str, people: int) -> dict[str, object]:
    """Stop after stop, each on a connection of its own, and once more on one that is kept, as an open page has it."""
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    ask_on(kept, "POST", "/control/check")
    fresh_s, kept_s = [], []
    with crowd(kind, port, people) as counts:
        for _ in range(count):
            fresh_s.append(ask(port, "POST", "/control/stop"))
            kept_s.append(ask_on(kept, "POST", "/control/stop"))
            time.sleep(0.05)
    ask_on(kept, "POST", "/control/start")
    return {"tried": count, "fresh": _in_time(fresh_s), "kept": _in_time(kept_s), "crowd": counts}


def _in_time(found: list[tuple[int, float]]) -> dict[str, float | None]:
    taken_s = sorted(taken for status, taken in found if status == 200)
    return {
        "in time": sum(taken <= STOP_GOAL_S for taken in taken_s),
        "p50_ms": round(1e3 * statistics.median(taken_s), 1) if taken_s else None,
        "worst_ms": round(1e3 * taken_s[-1], 1) if taken_s else None,
    }


def lines_of(output: Path, first: int, last: int) -> dict[str, float]:
    """Percentiles over the steps in these bytes of the drive's output."""
    with output.open("rb") as file:
        file.seek(first)
        steps = [json.loads(line) for line in file.read(last - first).split(b"\n")[1:-1]]
    total = np.array([step["total_us"] for step in steps if "total_us" in step]) / 1e3
    age = np.array([step["age_ms"] for step in steps if "age_ms" in step])
    return {
        "frames": len(total),
        "total_p50": float(np.percentile(total, 50)),
        "total_p99": float(np.percentile(total, 99)),
        "age_p50": float(np.percentile(age, 50)),
        "age_p99": float(np.percentile(age, 99)),
    }


def rounds(port: int, output: Path, arguments: argparse.Namespace, kind: str, people: int) -> dict[str, object]:
    """Without and with a crowd in turn."""
    without, within = [], []
    for _ in range(arguments.rounds):
        time.sleep(SETTLE_S)
        first = output.stat().st_size
        time.sleep(arguments.round_s)
        without.append(lines_of(output, first, output.stat().st_size))
        with crowd(kind, port, people) as counts:
            first = output.stat().st_size
            time.sleep(arguments.round_s)
            within.append(lines_of(output, first, output.stat().st_size))
    result: dict[str, object] = {"rounds": len(within), "frames": int(sum(found["frames"] for found in within))}
    for name in ("total_p50", "total_p99", "age_p50", "age_p99"):
        pairs = [(a[name], b[name]) for a, b in zip(without, within, strict=True)]
        result[f"{name}_ms"] = [round(statistics.median(side), 3) for side in zip(*pairs, strict=True)]
        differences = sorted(b - a for a, b in pairs)
        result[f"{name}_rise_ms"] = round(statistics.median(differences), 3)
        result[f"{name}_rises_ms"] = [round(difference, 3) for difference in differences]
    result["crowd per s"] = [round(count / (arguments.round_s + SETTLE_S)) for count in counts]
    return result


def guesses(port: int) -> dict[str, object]:
    with crowd("guessers", port, GUESSERS) as counts:
        time.sleep(GUESSING_S)
    return {"answered per s": round(counts[0] / (GUESSING_S + SETTLE_S), 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("source", help="a recording; it must last longer than all rounds")
    parser.add_argument("--rate-hz", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-s", type=float, default=10.0)
    parser.add_argument("--stops", type=int, default=100)
    parser.add_argument("--only", choices=("stop", "viewers", "flood", "guesses"), action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    asked = arguments.only or ["stop", "viewers", "guesses"]
    results: dict[str, dict[str, object]] = {}
    for name in asked:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "steps.jsonl"
            with driving(arguments, output) as port:
                if name == "stop":
                    results[name] = stops(port, arguments.stops, "hostile", HOSTILE)
                elif name == "viewers":
                    results[name] = rounds(port, output, arguments, "viewers", VIEWERS)
                elif name == "flood":
                    results[name] = rounds(port, output, arguments, "hostile", HOSTILE)
                else:
                    results[name] = guesses(port)
        print(f"{name}: {json.dumps(results[name])}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    missed = [
        "stop" in results and any(results["stop"][way]["in time"] != arguments.stops for way in ("fresh", "kept")),  # type: ignore[index]
        "viewers" in results and float(str(results["viewers"]["total_p99_rise_ms"])) > P99_GOAL_MS,
        "guesses" in results and float(str(results["guesses"]["answered per s"])) > GUESSES_GOAL,
    ]
    return 1 if any(missed) else 0


if __name__ == "__main__":
    raise SystemExit(main())
