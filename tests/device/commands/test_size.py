"""What a car carries: memory, imports, and what happens in the hot path."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from device.conftest import Device
from model_factory import frames, write_onnx, write_tflite
from sepilot_runtime.engine.pilot import load_pilot


def test_a_drive_imports_only_what_the_car_has(device: Device, files: dict[str, Path], images: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(device.runtime)!r})\n"
        "from sepilot_runtime.cli import main\n"
        f"main(['drive', {str(files['int8.tflite'])!r}, '--source', {str(images)!r}, '--quiet'])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules if getattr(sys.modules[name], '__file__', None)"
        " and 'site-packages' in str(sys.modules[name].__file__)}), file=sys.stderr)"
    )
    done = device.python("-c", code)
    assert done.returncode == 0, done.stderr
    imported = set(done.stderr.strip().strip("[]").replace("'", "").split(", "))
    assert {"numpy", "cv2", "ai_edge_litert"} <= imported
    unexpected = {"onnxruntime", "flatbuffers", "google", "psutil", "hypothesis"} & imported
    assert not unexpected


@pytest.mark.parametrize("write", [write_tflite, write_onnx])
def test_steering_keeps_no_memory(write: object, tmp_path: Path) -> None:
    suffix = "tflite" if write is write_tflite else "onnx"
    pilot = load_pilot(write(tmp_path / f"m.{suffix}"))  # type: ignore[operator]
    given = frames(4, height=240, width=320) * 250
    for frame in given:
        pilot.infer(frame)
    gc.collect()
    tracemalloc.start()
    try:
        # What one frame holds until the next is no growth; both ends are taken with it.
        pilot.infer(given[-1])
        before = tracemalloc.get_traced_memory()[0]
        for frame in given:
            pilot.infer(frame)
        grown, peak = (value - before for value in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    # The smallest object of each frame would be 16,000. ONNX Runtime's own table grows by 2,400 now and then.
    assert grown < 6_000
    # Views and numbers; never a frame, which has 230,400 bytes.
    assert peak < 12_000
