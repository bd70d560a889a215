"""The figures of the real-time runtime, each with its goal: what happens between the lens and the servo.

One thread, on one core of its own as far as the machine has one to give; the ratios are taken in one run, interleaved.
Frames are 640x480 BGR: noise, or those of a drive. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from bench_runtime_figures import (
    COLD_STARTS,
    Figure,
    Images,
    donkeycar_figures,
    drive_figures,
    frame_figures,
    start_figures,
)
from numpy.typing import NDArray

from sepilot_runtime.bench.latency_bench import Variant, read_frames, synthetic_frames
from sepilot_runtime.bench.cold_start import cold_start
from sepilot_runtime.device.conditions import conditions_now
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.engine.pilot import Pilot, load_pilot

SCRIPTS = Path(__file__).parent
HEIGHT, WIDTH = 480, 640


def main() -> int:
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            return measure(arguments, Path(folder))
        except SepilotError as e:
            print(f"bench-runtime: {e}", file=sys.stderr)
            return 2


def measure(arguments: argparse.Namespace, folder: Path) -> int:
    cv2.setNumThreads(1)
    file = arguments.file or made("swift", folder, folder) / "export" / "swift-float32.tflite"
    frames = frames_of(arguments.drive)
    before = conditions_now()
    if not arguments.json:
        print(before, end="\n\n")
        print(f"{file.name}, {arguments.drive or 'noise'}, {len(frames)} frames of {WIDTH}x{HEIGHT} in memory\n")
    pilot = load_pilot(file)
    figures: list[Figure] = []
    with one_core() as others:
        for figure in all_figures(arguments, file, pilot, frames, others, folder):
            figures.append(figure)
            if not arguments.json:
                print(figure, flush=True)
    after = conditions_now()
    met = all(figure.met is not False for figure in figures)
    if arguments.json:
        rows = [asdict(figure) for figure in figures]
        print(json.dumps({"before": asdict(before), "after": asdict(after), "figures": rows, "met": met}, indent=2))
    else:
        skipped = sum(figure.met is None and figure.goal != "" for figure in figures)
        print(f"\n{'all goals met' if met else 'a goal was missed'}{f', {skipped} skipped' if skipped else ''}")
        print(f"load at the end {after.load:.1f}" if after.load is not None else "")
    return 0 if met else 1


def all_figures(
    arguments: argparse.Namespace, file: Path, pilot: Pilot, frames: Images, others: Sequence[int], folder: Path
) -> Iterator[Figure]:
    yield from frame_figures(pilot, frames, arguments.rounds)
    start = cold_start(Variant(path=file, threads=1), COLD_STARTS)
    yield from start_figures(start)
    if arguments.donkeycar:
        linear = made("linear", folder, folder / "linear.tflite")
        for python in arguments.donkeycar:
            yield from donkeycar_figures(python, linear, start, pilot, frames, arguments.rounds)
    else:
        yield Figure(name="against Donkeycar 5.3", goal="--donkeycar", found="", met=None)
    yield from drive_figures(pilot, frames, others, arguments.minutes, arguments.soak_frames)


def made(what: str, folder: Path, out: Path) -> Path:
    """A model from scripts/bench_runtime_models.py, made in a process of its own, so that this one stays small."""
    print(f"bench-runtime: making {what} …", file=sys.stderr)
    command = [sys.executable, str(SCRIPTS / "bench_runtime_models.py"), what, str(out)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SepilotError(f"{what} cannot be made: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return out


def frames_of(drive: str | None) -> list[NDArray[np.uint8]]:
    if drive is None:
        return synthetic_frames(height=HEIGHT, width=WIDTH)
    return [cv2.resize(frame, (WIDTH, HEIGHT)).astype(np.uint8, copy=False) for frame in read_frames(drive)]


@contextlib.contextmanager
def one_core() -> Iterator[Sequence[int]]:
    """Keep this process and its children on one core; gives the others."""
    if not hasattr(os, "sched_setaffinity"):
        yield ()
        return
    cores = sorted(os.sched_getaffinity(0))
    # The first core serves most interrupts.
    os.sched_setaffinity(0, cores[-1:])
    try:
        yield cores[:-1]
    finally:
        os.sched_setaffinity(0, cores)


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(prog="scripts/bench-runtime", description=__doc__.splitlines()[0])
    flags.add_argument(
        "file", type=Path, nargs="?", help="a .tflite or .onnx file (default: swift after a moment of training)"
    )
    flags.add_argument("--drive", metavar="DIR", help="frames of a drive, folder or video (default: noise)")
    flags.add_argument("--rounds", type=int, default=40, help="visits to each way (default 40)")
    flags.add_argument("--minutes", type=float, default=10.0, help="to drive at 60 Hz (default 10; 0 leaves it out)")
    flags.add_argument(
        "--soak-frames", type=int, default=5_000_000, metavar="N", help="to drive flat out (default 5000000; 0: none)"
    )
    flags.add_argument(
        "--donkeycar", type=Path, action="append", default=[], metavar="PYTHON",
        help="of an environment with Donkeycar 5.3, as scripts/bench_runtime_donkeycar.py says; several may be given",
    )  # fmt: skip
    flags.add_argument("--json", action="store_true", help="print one JSON document")
    return flags


if __name__ == "__main__":
    sys.exit(main())
