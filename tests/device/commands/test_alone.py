"""The runtime folder, copied alone, drives a car that has numpy, OpenCV and one interpreter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from device.conftest import TRAINING_TOOLS, Device
from model_factory import PICTURE, frames, steering_of
from sepilot_runtime.contract.preprocess import picture_of


def test_the_blocker_blocks(device: Device) -> None:
    for name in ("tensorflow", "keras", "onnx", "tf2onnx", "sepilot_train"):
        done = device.python("-c", f"import {name}")
        assert done.returncode == 1 and "blocked by the test" in done.stderr


def test_the_copy_is_what_runs(device: Device) -> None:
    package = device.runtime / "sepilot_runtime" / "__init__.py"
    package.write_text(package.read_text().replace('__version__ = "', '__version__ = "9.'))
    assert device.sepilot("--version").stdout.startswith("sepilot 9.")


@pytest.mark.parametrize("name", ["float32.tflite", "int8.tflite", "float32.onnx"])
def test_it_drives(name: str, device: Device, files: dict[str, Path], images: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "o.mp4"
    done = device.sepilot("drive", str(files[name]), "--source", str(images), "--overlay", str(overlay))
    assert done.returncode == 0, done.stderr
    steering = [json.loads(line)["steering"] for line in done.stdout.splitlines()]
    expected = [steering_of(picture_of(frame, PICTURE)) for frame in frames(6)]
    assert steering == pytest.approx(expected, abs=0.01 if "int8" in name else 1e-5)
    assert cv2.VideoCapture(str(overlay)).get(cv2.CAP_PROP_FRAME_COUNT) == 6


BUS = """
class SMBus:
    def __init__(self, number): self.registers = {0: 0x11}
    def read_byte_data(self, address, register): return self.registers[register]
    def write_byte_data(self, address, register, value): self.registers[register] = value
    def write_i2c_block_data(self, address, register, data): open(LOG, "a").write(f"{register} {data}\\n")
    def close(self): pass
"""


def test_it_drives_a_servo_under_its_own_watchdog(
    device: Device, files: dict[str, Path], images: Path, tmp_path: Path
) -> None:
    log = tmp_path / "bus.log"
    device.blocker.mkdir()
    (device.blocker / "smbus2.py").write_text(f"LOG = {str(log)!r}\n{BUS}")
    # A watchdog of another sepilot on this machine would say the other word.
    watchdog = device.runtime / "sepilot_runtime" / "output" / "watchdog.py"
    watchdog.write_text(watchdog.read_text().replace('UP = b"watchdog: up', 'UP = b"copy: up'))
    done = device.sepilot("drive", str(files["int8.tflite"]), "--source", str(images), "--to", "pca9685:", "--quiet")
    assert done.returncode == 0 and not done.stderr, done.stderr
    words = log.read_text().splitlines()
    # 1500 us at 60 Hz are 369 of 4096 ticks.
    assert len(words) > 12 and words[-2:] == ["6 [0, 0, 113, 1]", "10 [0, 0, 113, 1]"]


def test_it_measures(device: Device, files: dict[str, Path], images: Path) -> None:
    argv = ["bench", *map(str, files.values()), "--frames", str(images), "--rounds", "2", "--calls", "5", "--json"]
    done = device.sepilot(*argv)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["rows"]) == 3


def test_it_explains_and_compares(device: Device, files: dict[str, Path], images: Path) -> None:
    for argv in (
        ["explain", str(files["int8.tflite"])],
        ["compare", str(files["float32.tflite"]), str(files["int8.tflite"])],
    ):
        done = device.sepilot(*argv, "--frames", str(images), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["frames"] == str(images)


def test_without_onnx_runtime_tflite_drives_and_onnx_says_what_to_install(
    device: Device, files: dict[str, Path], images: Path
) -> None:
    blocked = (*TRAINING_TOOLS, "onnxruntime")
    assert device.sepilot("drive", str(files["int8.tflite"]), "--source", str(images), blocked=blocked).returncode == 0
    done = device.sepilot("drive", str(files["float32.onnx"]), "--source", str(images), blocked=blocked)
    assert done.returncode == 2
    assert done.stderr == "sepilot: onnxruntime is not installed; run: pip install 'sepilot[onnx]'\n"


def test_without_openvino_the_error_says_how_to_get_it(device: Device, files: dict[str, Path], images: Path) -> None:
    for name in ("float32.onnx", "int8.tflite"):
        argv = ["drive", str(files[name]), "--source", str(images), "--engine", "openvino"]
        done = device.sepilot(*argv, blocked=(*TRAINING_TOOLS, "openvino"))
        assert done.returncode == 2
        assert done.stderr == "sepilot: openvino is not installed; run: pip install 'sepilot[openvino]'\n"


@pytest.mark.parametrize(
    ("package", "words"), [("ai_edge_litert", "ai-edge-litert"), ("cv2", "opencv-python-headless")]
)
def test_a_missing_base_package_is_named(
    package: str, words: str, device: Device, files: dict[str, Path], images: Path
) -> None:
    argv = ["drive", str(files["float32.tflite"]), "--source", str(images)]
    done = device.sepilot(*argv, blocked=(package,))
    assert done.returncode == 2
    assert f"pip install {words}" in done.stderr and done.stderr.count("\n") == 1


def test_a_verb_of_another_package_names_its_extra(device: Device) -> None:
    done = device.sepilot("train", "drives")
    assert done.returncode == 2
    # Installed, but its packages are not there; or not known at all to a runtime folder that was copied alone.
    assert "pip install 'sepilot[train]'" in done.stderr or "unknown verb 'train'" in done.stderr
    assert done.stderr.count("\n") == 1


# --- How fast it answers --------------------------------------------------------------------------------------------


@pytest.fixture
def imports_s(device: Device, cpu_seconds: Callable[[Callable[[], object]], float]) -> float:
    """Processor time of what a drive cannot do without: a measure of this machine. 0.15 s on that of the README."""
    code = "import numpy, cv2, ai_edge_litert.interpreter"
    return min(cpu_seconds(lambda: device.python("-c", code)) for _ in range(3))


@pytest.mark.parametrize("argv", [["--help"], *([verb, "--help"] for verb in ("drive", "bench", "explain", "compare"))])
def test_help_answers_at_once(
    argv: list[str], device: Device, cpu_seconds: Callable[[Callable[[], object]], float], imports_s: float
) -> None:
    device.sepilot(*argv)
    seconds = min(cpu_seconds(lambda: device.sepilot(*argv)) for _ in range(3))
    assert seconds < imports_s


def test_help_imports_nothing_heavy(device: Device) -> None:
    for verb in ("drive", "bench", "explain", "compare"):
        code = (
            f"import sys; sys.path.insert(0, {str(device.runtime)!r})\n"
            "from sepilot_runtime.cli import main\n"
            f"try: main([{verb!r}, '--help'])\n"
            "except SystemExit as e: assert e.code == 0\n"
            "heavy = {'numpy', 'cv2', 'ai_edge_litert', 'onnxruntime'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = device.python("-c", code)
        assert done.returncode == 0, done.stderr


def test_the_first_angle_comes_soon(
    device: Device,
    files: dict[str, Path],
    images: Path,
    cpu_seconds: Callable[[Callable[[], object]], float],
    imports_s: float,
) -> None:
    argv = ["drive", str(files["float32.tflite"]), "--source", str(images), "--max-frames", "1", "--quiet"]
    device.sepilot(*argv)
    seconds = min(cpu_seconds(lambda: device.sepilot(*argv)) for _ in range(3))
    assert seconds < 2.5 * imports_s
