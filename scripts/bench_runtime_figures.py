"""How each figure of scripts/bench-runtime is measured."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.base.latency import Way, interleave
from sepilot_runtime.bench.cold_start import start_once
from sepilot_runtime.bench.record import ColdStart
from sepilot_runtime.bench.soak import soak_test
from sepilot_runtime.contract.preprocess import LimitedLuma, Preprocessor
from sepilot_runtime.engine.pilot import Pilot

Images = Sequence[NDArray[Any]]
Asked = tuple[Callable[[NDArray[Any]], object], Images]

CALLS = 100
COLD_STARTS = 5
RECENT_FRAMES = 16
"""A camera's driver and the thread behind it go round so few buffers. They do not fit into the core's own cache, where
what another core or the camera wrote would not be either, but need not come from memory, as all frames in turn do."""
RATE_HZ = 60.0
OVERHEAD_FRAMES = 20_000
MOST_GROWTH_KB_PER_MIN = 1.0
"""Of memory; one page in a drive of four minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A row of the table; `met` is None where it was skipped, or where there is no goal."""

    name: str
    goal: str
    found: str
    met: bool | None

    def __str__(self) -> str:
        verdict = {True: "met", False: "MISSED", None: "" if self.goal == "" else "skipped"}[self.met]
        return f"{self.name:<45}{self.goal:>13}  {self.found:<13}{verdict:>7}".rstrip()


def at_most(name: str, found: float, goal: float, unit: str = "") -> Figure:
    digits = 0 if goal == 0 else 2 if goal < 10 else 1
    return Figure(
        name=name, goal=f"<= {goal:g}{unit}", found=f"{found:.{digits}f}{unit}", met=round(found, digits) <= goal
    )


def interleaved(ways: Mapping[str, Asked], rounds: int, calls: int = CALLS) -> dict[str, NDArray[np.float64]]:
    """Microseconds (rounds, calls) of each way."""
    timed = [Way(run=run, items=images, calls=calls) for run, images in ways.values()]
    return dict(zip(ways, interleave(timed, rounds=rounds), strict=True))


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> float:
    """Median over the rounds of the ratio of the medians: what slows a whole round down slows both."""
    return float(np.median(np.median(above, axis=1) / np.median(below, axis=1)))


def frame_figures(pilot: Pilot, frames: Images, rounds: int) -> Iterator[Figure]:
    """What one frame takes."""
    luma = [frame[:, :, 1].copy().view(LimitedLuma) for frame in frames]
    picture = pilot.contract.picture
    linear = Preprocessor(dataclasses.replace(picture, resize="linear"))
    times = interleaved(
        {
            "bgr": (pilot.predict, frames),
            "recent": (pilot.predict, frames[:RECENT_FRAMES]),
            "single": (pilot.predict, frames[:1]),
            "luma": (pilot.predict, luma),
            "picture": (pilot.picture_of, frames),
            "linear": (linear.picture_of, frames),
        },
        rounds,
    )
    for name, what in (
        ("bgr", "640x480 BGR in memory"),
        ("recent", "the same from recent buffers"),
        ("single", "one frame over and over"),
    ):
        p50, p99 = np.percentile(times[name], [50, 99])
        yield at_most(f"{what} to angle, p50", p50, 60, " us")
        yield at_most("  p99 over p50", p99 / p50, 2)
    yield at_most("preprocessing, exact resize over linear", ratio(times["picture"], times["linear"]), 1.3)
    if picture.color == "gray":
        yield at_most("NV12 to angle over BGR to angle", ratio(times["luma"], times["bgr"]), 0.7)
    driven = soak_test(pilot, frames, count=OVERHEAD_FRAMES)
    yield at_most("live loop without the pilot, p50", driven.own.p50_us, 25, " us")


def start_figures(start: ColdStart) -> Iterator[Figure]:
    """A fresh process."""
    seconds, rss_mb = f"{start.seconds:.2f} s", f"{start.peak_rss_bytes / 1e6:.0f} MB"
    yield Figure(name="sepilot drive, cold start to first angle", goal="", found=seconds, met=None)
    yield Figure(name="  the most memory that it held", goal="", found=rss_mb, met=None)


def donkeycar_figures(
    python: Path, linear: Path, start: ColdStart, pilot: Pilot, frames: Images, rounds: int
) -> Iterator[Figure]:
    """All of it beside Donkeycar's own path, in the environment of this interpreter.

    Raises:
        SepilotError: Donkeycar does not run there.
    """
    script = str(Path(__file__).parent / "bench_runtime_donkeycar.py")
    taken: dict[str, list[float]] = {"resized": [], "native": []}
    mine: list[float] = []
    try:
        starts = [start_once([str(python), script, "drive", str(linear)]) for _ in range(COLD_STARTS)]
        with donkeycar([str(python), script, "frames", str(linear), str(len(frames))]) as (told, ask):
            for _ in range(rounds):
                mine.append(float(np.median(interleaved({"bgr": (pilot.predict, frames)}, 1)["bgr"])))
                for name, medians in taken.items():
                    medians.append(float(np.median(ask(f"{name} {CALLS}"))))
    except (OSError, ValueError, subprocess.SubprocessError) as e:
        raise SepilotError(f"--donkeycar {python}: Donkeycar 5.3 does not run there: {e}") from e
    yield Figure(name=f"Donkeycar 5.3 on {told['interpreter']}", goal="", found="", met=None)
    for name, what in (("resized", "640x480"), ("native", "its 160x120")):
        its = float(np.median(taken[name]))
        share = float(np.median(np.array(mine) / np.array(taken[name])))
        yield at_most(f"  ours over its {its:.0f} us from {what}", share, 0.2)
    start_s, rss = (float(np.median([start[i] for start in starts])) for i in (0, 1))
    yield at_most(f"  our cold start over its {start_s:.2f} s", start.seconds / start_s, 0.33)
    yield at_most(f"  our memory over its {rss / 1e6:.0f} MB", start.peak_rss_bytes / rss, 0.5)


@contextlib.contextmanager
def donkeycar(command: Sequence[str]) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    """Its first answer, and a function that asks it for more."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def ask(line: str) -> Any:
            requests.write(f"{line}\n")
            requests.flush()
            return json.loads(answers.readline())

        try:
            yield json.loads(answers.readline()), ask
        finally:
            requests.close()


def drive_figures(
    pilot: Pilot, frames: Images, others: Sequence[int], minutes: float, soak_frames: int
) -> Iterator[Figure]:
    """What hours take."""
    few = frames[:32]
    if minutes:
        with busy(others):
            driven = soak_test(pilot, few, rate_hz=RATE_HZ, seconds=minutes * 60)
        what = f"60 Hz for {minutes:g} min beside {len(others)} busy core{'s' * (len(others) != 1)}, frames"
        wake = driven.wake.p99_us / 1000 if driven.wake else 0.0
        yield Figure(name=what, goal="", found=str(driven.frames), met=None)
        yield Figure(name="  woken late by the system, p99", goal="", found=f"{wake:.1f} ms", met=None)
        yield Figure(name="  deadlines of 16.7 ms missed", goal="", found=str(driven.missed), met=None)
        yield at_most("  of those by us", driven.missed_by_us, 0)
        yield at_most("  growth of memory per minute", abs(driven.rss_slope_kb_per_min), MOST_GROWTH_KB_PER_MIN, " kB")
    if soak_frames:
        driven = soak_test(pilot, few, count=soak_frames, tick=tell(soak_frames))
        first, last = driven.resources[0], driven.resources[-1]
        yield Figure(name="flat out, frames", goal="", found=f"{driven.frames:,}", met=None)
        yield at_most("  growth of memory", (last.rss_bytes - first.rss_bytes) / 1024, 0, " kB")
        yield at_most("  growth in open files", last.files - first.files, 0)
        yield at_most("  growth in threads", last.threads - first.threads, 0)


@contextlib.contextmanager
def busy(cores: Sequence[int]) -> Iterator[None]:
    """Processes that keep these cores at work."""
    code = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: sum(range(100000))"
    processes = [subprocess.Popen([sys.executable, "-P", "-c", code, str(core)]) for core in cores]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def tell(total: int) -> Callable[[int], None]:
    """Progress on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda done: None
    return lambda done: print(f"\r{done / total:4.0%} ", end="", file=sys.stderr, flush=True)
