"""What is no regular file, or larger than anything that belongs there, is refused at once, by every reader."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_factory import write_onnx, write_tflite
from refusal import refused_at_once
from sepilot_runtime.base.errors import DriveError, ModelFileError, SepilotError, UsageError
from sepilot_runtime.base.files import read_json, sha256_of
from sepilot_runtime.base.images import read_image
from sepilot_runtime.base.processes import own_environment
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.bench.profile import read_profile
from sepilot_runtime.device.signing import require_signature, sign_file
from sepilot_runtime.device.slots import read_slots
from sepilot_runtime.drive.car_config import load_car
from sepilot_runtime.engine.model_file import read_model_file


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def plug(path: Path) -> None:
    # A socket's path is short; a folder may not be.
    short = Path(f"/tmp/sepilot-test-{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(short))
    path.symlink_to(short)


def folder(path: Path) -> None:
    path.mkdir()


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(16 << 30)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


SPECIAL = [pipe, device, plug, folder, sparse, dangling]


@pytest.fixture(autouse=True)
def no_socket_left() -> object:
    yield
    Path(f"/tmp/sepilot-test-{os.getpid()}").unlink(missing_ok=True)


def signed_by(path: Path) -> None:
    model = write_tflite(path.parent / "signed.tflite")
    require_signature(read_model_file(model), path)


READERS: dict[str, tuple[Callable[[Path], object], type[SepilotError]]] = {
    "model.tflite": (read_model_file, ModelFileError),
    "model.onnx": (read_model_file, ModelFileError),
    "car.toml": (load_car, UsageError),
    "profile.json": (read_profile, UsageError),
    "slots.json": (lambda path: read_slots(path.parent), ModelFileError),
    "key.pem": (lambda path: sign_file(write_tflite(path.parent / "m.tflite"), path), UsageError),
    "key.pub.pem": (signed_by, UsageError),
    "run.json": (read_json, SepilotError),
    "1.jpg": (read_image, DriveError),
}


@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize("name", READERS)
def test_a_special_file_is_one_line_at_once(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / name
    make(path)
    read, error = READERS[name]
    line = refused_at_once(lambda: read(path), error, within_s=2, most_bytes=32 << 20)
    assert str(path) in line or (make is dangling and name == "slots.json")


def test_a_file_that_grows_while_it_is_read_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"x" * 1000)
    assert read_regular(path, 1000) == b"x" * 1000
    small = path.stat()
    path.write_bytes(b"x" * 100_000)
    monkeypatch.setattr(os, "fstat", lambda _: small)
    monkeypatch.setattr(Path, "stat", lambda _: small)
    with pytest.raises(OSError, match="at most 1000 bytes expected"):
        read_regular(path, 1000)


def test_files_of_the_system_without_a_size_are_read() -> None:
    assert b"processor" in read_regular(Path("/proc/cpuinfo"), 1 << 20)


@pytest.mark.parametrize("make", [pipe, device, sparse])
def test_a_checksum_is_taken_of_regular_files(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    make(path)
    with pytest.raises(OSError, match="expected, found"):
        sha256_of(path, limit=1 << 20)


@pytest.mark.parametrize(
    "text", ["trim = " + "9" * 5000, "trim = " + "[" * 100_000, "[actuation]\ntrim = 0x" + "f" * 5000]
)
def test_numbers_without_end_in_a_car_are_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "car.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"car\.toml: ") as caught:
        load_car(path)
    assert len(str(caught.value)) < 400


def test_fields_without_end_in_a_model_file_are_refused_quickly(tmp_path: Path) -> None:
    content = write_onnx(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "many.onnx"
    path.write_bytes(content + b"\x78\x00" * (8 << 20))
    start = time.monotonic()
    with pytest.raises(ModelFileError):
        read_model_file(path)
    assert time.monotonic() - start < 2


def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "bmp"):
        for side in (64, 6000):
            assert cv2.imwrite(str(tmp_path / f"{side}.{suffix}"), np.zeros((side, side), np.uint8))
    # In a process of its own: OpenCV asks for its limit once, and tests have imported it before.
    command = [sys.executable, "-c", DECODE, *sorted(map(str, tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=own_environment())
    small, large = ["(64, 64, 3)"] * 3, ["not an image"] * 3
    assert done.stdout.splitlines() == [*large, *small] and int(done.stderr) < 200 << 10


DECODE = """
import sys
from pathlib import Path
from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.base.images import read_image
for path in sys.argv[1:]:
    try:
        print(read_image(Path(path)).shape)
    except FrameError as e:
        print(e.reason)
# The peak of getrusage begins with that of the process that started this one.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""
