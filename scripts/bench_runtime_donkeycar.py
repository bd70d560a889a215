"""Donkeycar's own path from frame to angle, for scripts/bench-runtime: runs in an environment of its own.

    pip install 'donkeycar[pc]==5.3.0'                                              on a PC: with TensorFlow
    pip install donkeycar==5.3.0 ai-edge-litert 'opencv-contrib-python-headless==4.9.*' 'numpy<2' typing_extensions
                                                                                    as on a Raspberry Pi: without

    python bench_runtime_donkeycar.py drive MODEL      its `complete.py` with a mock camera, until the first angle
    python bench_runtime_donkeycar.py frames MODEL N   reads lines "NAME CALLS", answers each with microseconds

"resized" takes 640x480 BGR frames through its RESIZE and BGR2RGB, "native" takes 160x120 RGB frames, the size that its
cameras are set to, as they are; then both go to `KerasLinear` on its `TfLite` interpreter, as `complete.py` has it.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# What it prints by itself must not stand between the answers.
ANSWERS, sys.stdout = sys.stdout, sys.stderr
WARM_UP_CALLS = 10


def main() -> None:
    what, model = sys.argv[1:3]
    if what == "drive":
        drive(model)
    else:
        serve(model, int(sys.argv[3]))


def answer(value) -> None:
    print(json.dumps(value), file=ANSWERS, flush=True)


def drive(model: str) -> None:
    import donkeycar
    from donkeycar.config import Config
    from donkeycar.parts.keras import KerasLinear
    from donkeycar.templates import complete

    run = KerasLinear.run

    def first(pilot, *inputs):
        answer({"steering": float(run(pilot, *inputs)[0])})
        os._exit(0)

    KerasLinear.run = first
    config = Config()
    config.from_pyfile(str(Path(donkeycar.__file__).parent / "templates" / "cfg_complete.py"))
    with tempfile.TemporaryDirectory() as folder:
        config.CAMERA_TYPE = config.DRIVE_TRAIN_TYPE = "MOCK"
        config.WEB_INIT_MODE = "local"
        config.CAR_PATH = config.DATA_PATH = config.MODELS_PATH = folder
        complete.drive(config, model_path=model, model_type="tflite_linear")


def serve(model: str, count: int) -> None:
    from donkeycar.parts.image_transformations import ImageTransformations
    from donkeycar.parts.interpreter import TfLite
    from donkeycar.parts.keras import KerasLinear

    pilot = KerasLinear(interpreter=TfLite())
    pilot.load(model)
    transformations = ImageTransformations(Transformations, "TRANSFORMATIONS")

    def resized(frame):
        return pilot.run(transformations.run(frame))

    ways = {"resized": (resized, frames(count, 480, 640)), "native": (pilot.run, frames(count, 120, 160))}
    answer({"interpreter": type(pilot.interpreter.interpreter).__module__.partition(".")[0]})
    at = 0
    for line in sys.stdin:
        name, calls = line.split()
        run, taken = ways[name]
        times_us = []
        for call in range(-WARM_UP_CALLS, int(calls)):
            frame = taken[at % count]
            at += 1
            start = time.perf_counter_ns()
            run(frame)
            if call >= 0:
                times_us.append((time.perf_counter_ns() - start) / 1000)
        answer(times_us)


class Transformations:
    TRANSFORMATIONS = ("RESIZE", "BGR2RGB")
    RESIZE_WIDTH = 160
    RESIZE_HEIGHT = 120


def frames(count: int, height: int, width: int):
    """The noise of `sepilot_runtime.bench.latency_bench.synthetic_frames`."""
    rng = np.random.default_rng(0)
    size = height * width * 3
    return [np.frombuffer(rng.bytes(size), np.uint8).reshape(height, width, 3) for _ in range(count)]


main()
