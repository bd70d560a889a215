"""systemd hears that the drive is up and goes on; the unit and everything around it come out of device-install."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from model_factory import frames, write_tflite
from repository import ROOT
from sepilot_runtime import cli
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step
from sepilot_runtime.output.systemd import SystemdSink, open_systemd

INSTALL = ROOT / "scripts" / "device-install"


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    """Stands in for systemd."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind(str(tmp_path / "notify"))
    bound.settimeout(5)
    return bound


def heard(listener: socket.socket) -> list[str]:
    listener.setblocking(False)
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


def step(state: State = State.DRIVING, reason: str = "") -> Step:
    return Step(frame=None, prediction=None, steering=0.0, state=state, reason=reason)


def test_ready_once_then_a_sign_of_life_every_second(listener: socket.socket, tmp_path: Path) -> None:
    now = [100.0]
    sink = SystemdSink(str(tmp_path / "notify"), clock=lambda: now[0])
    for _ in range(45):
        sink.write(step())
        now[0] += 0.05
    now[0] += 1
    sink.write(step(State.NEUTRAL, "no frame"))
    sink.close()
    assert heard(listener) == [
        "READY=1\nWATCHDOG=1\nSTATUS=driving",
        "WATCHDOG=1",
        "WATCHDOG=1",
        "WATCHDOG=1\nSTATUS=neutral: no frame",
        "STOPPING=1",
    ]


def test_a_short_watchdog_is_told_more_often(listener: socket.socket, tmp_path: Path) -> None:
    sink = open_systemd({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"})
    assert sink is not None
    now = [0.0]
    sink._clock = lambda: now[0]
    for _ in range(10):
        sink.write(step())
        now[0] += 0.05
    assert len(heard(listener)) == 5


def test_nobody_who_listens_is_no_reason_to_stop(tmp_path: Path) -> None:
    sink = SystemdSink(str(tmp_path / "gone"))
    sink.write(step())
    sink.close()
    assert open_systemd({}) is None and open_systemd({"NOTIFY_SOCKET": "nonsense"}) is None


def test_an_abstract_socket() -> None:
    name = f"sepilot-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(f"\0{name}")
        SystemdSink(f"@{name}").write(step())
        assert heard(bound)[0].startswith("READY=1")


def test_drive_tells_where_it_was_started_by_a_unit(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    cv2.imwrite(str(tmp_path / "f.png"), frames(1)[0])
    file = write_tflite(tmp_path / "m.tflite")
    assert cli.main(["drive", str(file), "--source", str(tmp_path / "f.png"), "--quiet"]) == 0
    messages = heard(listener)
    assert messages[0].startswith("READY=1\nWATCHDOG=1") and messages[-1] == "STOPPING=1"


def install(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(INSTALL), *options], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )


def test_a_dry_run_says_everything_and_does_nothing(tmp_path: Path) -> None:
    prefix = tmp_path / "opt"
    done = install(
        "--dry-run", "--prefix", str(prefix), "--to", "pca9685:", "--extras", "servo", "--python", sys.executable
    )
    assert done.returncode == 0, done.stderr
    for words in (f"-P -m venv {prefix}/venv", f"-P -m pip install --require-hashes -r {prefix}/requirements.txt",
                  f"-P -m pip install --no-deps --no-build-isolation {ROOT}", "    smbus2==", "    --hash=sha256:",
                  "DRIVE_ARGS=--to pca9685:", "WatchdogSec=3", "Restart=always", "KillMode=control-group",
                  "systemctl enable sepilot-drive", 'GROUP="i2c"'):  # fmt: skip
        assert words.replace("    --", "        --") in done.stdout, words
    assert "pyserial" not in done.stdout and "--upgrade" not in done.stdout
    assert not prefix.exists()


def test_packages_of_a_copied_runtime_have_hashes_too(tmp_path: Path) -> None:
    """What is copied to a car: runtime/, these scripts, and the file of versions beside them."""
    for name in ("scripts/device-install", "scripts/tested_packages.py", "requirements-tested.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "runtime", tmp_path / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--dry-run", "--no-service", "--prefix", str(tmp_path / "opt"), "--extras", "web,onnx",
               "--runtime", str(tmp_path / "runtime"), "--python", sys.executable)  # fmt: skip

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        script = [str(tmp_path / "device-install"), *options, *more]
        return subprocess.run(script, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 0, done.stderr
    for name in ("numpy", "opencv-python-headless", "ai-edge-litert", "onnxruntime", "h11"):
        assert f"    {name}==" in done.stdout, name
    assert "    opencv-python==" not in done.stdout and "--no-build-isolation" not in done.stdout
    newest = run("--newest")
    names = "numpy opencv-python-headless ai-edge-litert h11 onnxruntime"
    assert f"pip install --upgrade {names}" in newest.stdout
    assert "--require-hashes" not in newest.stdout
    # Without the file nothing is installed, unless it is told to.
    (tmp_path / "requirements-tested.txt").unlink()
    done = run()
    assert done.returncode == 2 and not done.stdout and len(done.stderr.splitlines()) == 1
    assert "no requirements-tested.txt beside this script" in done.stderr and "say --newest" in done.stderr
    assert run("--newest").returncode == run("--no-packages").returncode == 0


def test_into_a_prefix_with_a_copied_runtime(tmp_path: Path) -> None:
    prefix, root = tmp_path / "opt", tmp_path / "image"
    options = ("--prefix", str(prefix), "--root", str(root), "--runtime", str(ROOT / "runtime"), "--no-packages",
               "--source", "gst:libcamerasrc ! video/x-raw,width=640", "--python", sys.executable)  # fmt: skip
    for _ in range(2):
        done = install(*options)
        assert done.returncode == 0, done.stderr
    version = subprocess.run([str(prefix / "bin/sepilot"), "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("sepilot ")
    assert (prefix / "runtime/sepilot_runtime/cli.py").is_file() and not (prefix / "runtime/runtime").exists()
    arguments = (prefix / "drive.args").read_text()
    assert 'DRIVE_SOURCE="gst:libcamerasrc ! video/x-raw,width=640"' in arguments
    unit = root / "etc/systemd/system/sepilot-drive.service"
    text = unit.read_text()
    assert "\nWorkingDirectory=/\n" in text and "\nNoNewPrivileges=yes\n" in text
    # These would take away cameras, buses, a Jetson's camera service, the interpreters' compilers.
    for line in (
        "PrivateDevices",
        "DevicePolicy",
        "DeviceAllow",
        "ProtectClock",
        "PrivateTmp",
        "MemoryDenyWriteExecute",
    ):
        assert line not in text
    assert "@" not in text.replace("systemd@", "") and f"ExecStart={prefix}/bin/sepilot drive --slots" in text
    assert (root / "etc/udev/rules.d/60-sepilot.rules").is_file()
    if shutil.which("systemd-analyze"):
        judged = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
        assert judged.returncode == 0, judged.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--prefix", "somewhere"), "an absolute path expected"),
        (("--source", 'a"b'), "no quotes"),
        (("--to",), "a value expected"),
        (("--bogus",), "unknown option --bogus"),
        (("--extras", "wheels"), "wheels: no extra of pyproject.toml"),
        (("--runtime", "/nowhere"), "holds no sepilot_runtime"),
        (("--model", "/nowhere.tflite"), "no such file"),
        (("--user", "nobody-of-that-name"), "there is no such user"),
        (("--runtime", str(ROOT / "runtime"), "--extras", "train"), "train is nothing for a runtime folder"),
        (("--python", "/nowhere/python"), "Python 3.11 or newer"),
    ],
)
def test_nonsense_is_one_line_before_anything_is_done(options: tuple[str, ...], complaint: str) -> None:
    done = install("--dry-run", *options)
    assert done.returncode == 2 and complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not done.stdout
