"""How fast a simulator is on one core, and how close its expert stays to the centre line.

Per world: seconds for `reset` (which paints the world) and for N steps under the expert, each with its frame. The
medians over the worlds are what a run usually gets; the fastest world, and CPU time, which other work
on the machine lengthens less, show what one core can do when left alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_train.simulator import Simulator, open_simulator


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench-simulator", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulator", default="builtin")
    parser.add_argument("--worlds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--montage", type=Path, help="write the last frame of each world there, to look at")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    simulator = open_simulator(arguments.simulator)
    rates, processor, resets, errors, frames = [], [], [], [], []
    for seed in range(arguments.worlds):
        reset_s, steps_s, processor_s, error_m, frame = drive(simulator, seed, arguments.steps)
        rates.append(arguments.steps / steps_s)
        processor.append(arguments.steps / processor_s)
        resets.append(reset_s)
        errors.append(error_m)
        frames.append(frame)
    height, width = frames[0].shape[:2]
    print(f"{arguments.simulator}, {width}x{height}, one thread, {arguments.worlds} worlds x {arguments.steps} steps")
    print(f"step + frame   median {statistics.median(rates):8.0f} /s    fastest world {max(rates):8.0f} /s")
    print(f"by CPU time    median {statistics.median(processor):8.0f} /s    fastest world {max(processor):8.0f} /s")
    print(f"reset          median {statistics.median(resets):8.3f} s     fastest world {min(resets):8.3f} s")
    print(f"expert |cte|   mean   {statistics.fmean(errors):8.4f} m     worst world   {max(errors):8.4f} m")
    if arguments.montage:
        cv2.imwrite(str(arguments.montage), montage(frames))
    return 0


def drive(simulator: Simulator, seed: int, steps: int) -> tuple[float, float, float, float, NDArray[np.uint8]]:
    """Seconds to reset; for the steps by the clock and of CPU time; mean |cross-track error| in metres; last frame."""
    start = time.perf_counter()
    frame, _ = simulator.reset(seed)
    reset_s = time.perf_counter() - start
    errors = []
    start, start_cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        frame, state = simulator.step(simulator.expert())
        errors.append(abs(state.cte_m))
    steps_s, processor_s = time.perf_counter() - start, time.process_time() - start_cpu
    return reset_s, steps_s, processor_s, statistics.fmean(errors), frame


def montage(frames: list[NDArray[np.uint8]], columns: int = 4) -> NDArray[np.uint8]:
    frames = frames + [np.zeros_like(frames[0])] * (-len(frames) % columns)
    rows = [np.hstack(frames[i : i + columns]) for i in range(0, len(frames), columns)]
    return np.kron(np.vstack(rows), np.ones((2, 2, 1), np.uint8))


if __name__ == "__main__":
    raise SystemExit(main())
