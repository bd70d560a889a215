"""Frame in memory to angle: an exported file through the runtime against `v27` through Keras, and the cold start.

    runtime   crop, bilinear resize, gray, the file's own interpreter on one thread: what `sepilot drive` does
    keras     crop, gray, INTER_AREA resize, divide by 255, `model.predict` on v27 (untrained: only its time counts)

Both take the same 640x480 frames, interleaved in one process, in a new random order each round. The cold start is the
time from the start of a fresh process to the first line of `sepilot drive`, its golden frames included. Exit code 1
when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.latency import Way, interleave, latency_of
from sepilot_runtime.bench.latency_bench import synthetic_frames
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.window import crop_box
from sepilot_runtime.device.conditions import conditions_now
from sepilot_runtime.engine.pilot import load_pilot

LEAST_RATIO = 300
MOST_US = 100.0
MOST_COLD_S = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench-latency", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the default recipe's float32 .tflite file")
    parser.add_argument("--rounds", type=int, default=20, help="visits to each path (default: 20)")
    parser.add_argument("--cold-starts", type=int, default=9, help="fresh processes to start (default: 9)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    conditions = conditions_now()
    # First, while this process is small and has no threads of TensorFlow's.
    cold_s = [cold_start_s(arguments.file) for _ in range(arguments.cold_starts)]
    frames = synthetic_frames()
    pilot = load_pilot(arguments.file)
    ways = [
        Way(run=pilot.infer, items=frames, calls=200),
        Way(run=keras_path(pilot.contract.picture), items=frames, calls=5, warm_up=5),
    ]
    runtime, keras = (latency_of(us.ravel()) for us in interleave(ways, rounds=arguments.rounds))
    figures = {
        "file": arguments.file.name,
        "runtime": asdict(runtime),
        "keras_predict": asdict(keras),
        "ratio": keras.p50_us / runtime.p50_us,
        "cold_start_s": statistics.median(cold_s),
        "cold_start_min_s": min(cold_s),
    }
    if arguments.json:
        print(json.dumps({"conditions": asdict(conditions), **figures}, indent=2))
    else:
        print(conditions, end="\n\n")
        print_table(figures)
    met = runtime.p50_us <= MOST_US and figures["ratio"] >= LEAST_RATIO and figures["cold_start_s"] <= MOST_COLD_S
    return 0 if met else 1


def cold_start_s(file: Path) -> float:
    """Seconds from starting `sepilot drive` to its first line of output."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "frame.png"
        cv2.imwrite(str(image), np.full((480, 640, 3), 90, np.uint8))
        command = [sys.executable, "-P", "-m", "sepilot_runtime", "drive", str(file), "--source", str(image), "--quiet"]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = time.perf_counter() - start
    if process.returncode or b"steering" not in line:
        raise SystemExit(f"scripts/bench-latency: `sepilot drive` failed with exit code {process.returncode}")
    return seconds


def keras_path(picture: Picture) -> Callable[[NDArray[np.uint8]], float]:
    """The way that most projects take: gray, area resize, `predict`."""
    import keras
    import tensorflow as tf

    from sepilot_train.run.net import build_net
    from sepilot_train.run.recipe import load_recipe

    # One thread each, so that neither depends on what else the machine does.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    recipe = load_recipe("v27")
    model = build_net(recipe)
    size = (recipe.picture.width, recipe.picture.height)
    keras.utils.disable_interactive_logging()

    def angle(frame: NDArray[np.uint8]) -> float:
        top, bottom, left, right = crop_box(frame.shape[0], frame.shape[1], picture)
        gray = cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_BGR2GRAY)
        pixels = cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        return float(model.predict(pixels[None, :, :, None], verbose=0)[0, 0])

    return angle


def print_table(figures: dict[str, Any]) -> None:
    print(f"{'frame 640x480 to angle, microseconds':44}     p50      p90      p99  calls")
    for name, key in ((figures["file"], "runtime"), ("v27, gray + INTER_AREA + model.predict", "keras_predict")):
        row = figures[key]
        print(f"{name[:44]:44} {row['p50_us']:7.0f}  {row['p90_us']:7.0f}  {row['p99_us']:7.0f}  {row['count']:5}")
    print(f"\nratio of the medians              {figures['ratio']:8.0f}      (goal: at least {LEAST_RATIO})")
    print(f"median of the runtime, us         {figures['runtime']['p50_us']:8.1f}      (goal: at most {MOST_US:.0f})")
    print(
        f"cold start, s: median (best)      {figures['cold_start_s']:8.3f} ({figures['cold_start_min_s']:.3f})"
        f" (goal: at most {MOST_COLD_S})"
    )


if __name__ == "__main__":
    sys.exit(main())
