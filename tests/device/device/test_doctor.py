"""`sepilot doctor`: every fault that is planted is found, named and followed by what to do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from model_factory import write_tflite
from sepilot_runtime import cli
from sepilot_runtime.base.errors import DriveError, SepilotError
from sepilot_runtime.commands import doctor as verb
from sepilot_runtime.device import doctor_devices
from sepilot_runtime.device.doctor_devices import examine_cameras, examine_ports
from sepilot_runtime.device.doctor_system import Finding, Grade, Machine, build_of, examine_system, own_user
from sepilot_runtime.device.installation import install_model
from sepilot_runtime.source.camera_probe import CameraProbe, ModeProbe
from sepilot_runtime.source.capture import Mode

BUILD = """
  Video I/O:
    FFMPEG:                      YES
    GStreamer:                   NO
    v4l/v4l2:                    YES (linux/videodev2.h)
  GUI:                           NONE
"""


def plant(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def healthy(tmp_path: Path) -> Machine:
    """A machine with nothing to complain about."""
    plant(
        tmp_path,
        **{
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
            "sys/class/thermal/thermal_zone0/temp": "45000\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
            "sys/devices/system/clocksource/clocksource0/current_clocksource": "arch_sys_counter\n",
            "run/systemd/timesync/synchronized": "",
            "proc/cmdline": "console=tty1 root=/dev/mmcblk0p2",
            "dev/i2c-1": "",
            "dev/ttyACM0": "",
            "dev/serial/by-id/usb-Arduino_Nano-if00": "",
            "dev/video0": "",
            "dev/video1": "",
            "sys/class/video4linux/video0/name": "HD Camera\n",
            "sys/class/video4linux/video0/index": "0\n",
            "sys/class/video4linux/video1/name": "HD Camera\n",
            "sys/class/video4linux/video1/index": "1\n",
        },
    )
    install_model(write_tflite(tmp_path / "m.tflite"), tmp_path / "slots")
    return Machine(
        root=tmp_path, slots=tmp_path / "slots", folder=tmp_path, run=lambda words: None,
        groups=frozenset({"video", "i2c", "dialout"}), user="pi", is_root=False, free_bytes=lambda folder: 50 << 30,
        build=lambda: BUILD, has_module=lambda name: True,
    )  # fmt: skip


MODE = Mode(fourcc="YUYV", width=640, height=480, rate_hz=30.0)
PROBE = CameraProbe(
    default=MODE, modes=(ModeProbe(asked=MODE, got=MODE),), queued=1, measured_hz=30.0,
    jitter_ms=0.4, monotonic_stamps=True,
)  # fmt: skip


def answers(bus: int, address: int, register: int) -> int:
    if (bus, address) == (1, 0x40):
        return 0x11
    raise OSError(121, "Remote I/O error")


def examined(machine: Machine, probe: CameraProbe | Exception = PROBE, byte: Any = answers) -> list[Finding]:
    def probed(device: str) -> CameraProbe:
        if isinstance(probe, Exception):
            raise probe
        return probe

    return [*examine_system(machine), *examine_ports(machine, byte), *examine_cameras(machine, probed)]


def worst(findings: Iterable[Finding], topic: str) -> Finding:
    order = list(Grade)
    return max((f for f in findings if f.topic == topic), key=lambda f: order.index(f.level))


def test_a_healthy_car_is_told_so(healthy: Machine) -> None:
    findings = examined(healthy)
    asked = [f.topic for f in findings if f.level is not Grade.OK]
    assert asked == ["dead-man"], "no program can see whether there is one"
    said = verb.table(findings)
    assert "golden frames passed on litert" in said and "PCA9685 answers at bus 1 0x40" in said
    assert "/dev/serial/by-id/usb-Arduino_Nano-if00" in said
    assert sum(f.topic == "camera" for f in findings) == 1, "a camera's metadata device is none"


CLOCKS = "sys/devices/system/clocksource/clocksource0"

FAULTS: list[tuple[str, dict[str, str], Grade, str, str]] = [
    ("governor", {"sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "ondemand"}, Grade.ADVICE, "ondemand", "tee"),
    ("temperature", {"sys/class/thermal/thermal_zone1/temp": "72000"}, Grade.ADVICE, "72 °C", "fan"),
    ("temperature", {"sys/class/thermal/thermal_zone1/temp": "84000"}, Grade.PROBLEM, "84 °C", "fan"),
    ("throttling", {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005"}, Grade.PROBLEM, "voltage", "5 V"),
    ("throttling", {"sys/devices/platform/soc/soc:firmware/get_throttled": "50000"}, Grade.ADVICE, "was", "5 V"),
    ("clock", {f"{CLOCKS}/current_clocksource": "hpet"}, Grade.ADVICE, "hpet", "quick"),
    ("serial", {"dev/ttyAMA0": "", "proc/cmdline": "console=ttyAMA0,115200"}, Grade.PROBLEM, "console", "raspi-config"),
    ("model", {"slots/slots.json": "{"}, Grade.PROBLEM, "slots.json", "sepilot install"),
    ("camera", {"sys/class/video4linux/video0/name": "unicam"}, Grade.ADVICE, "ribbon", "libcamera"),
]  # fmt: skip


@pytest.mark.parametrize(("topic", "files", "level", "found", "advice"), FAULTS)
def test_a_planted_fault_is_found(
    healthy: Machine, topic: str, files: dict[str, str], level: Grade, found: str, advice: str
) -> None:
    plant(healthy.root, **files)
    finding = worst(examined(healthy), topic)
    assert finding.level is level
    assert found in finding.found and advice in finding.advice


CHANGES: list[tuple[str, dict[str, Any], Grade, str]] = [
    ("disk", {"free_bytes": lambda folder: 1 << 30}, Grade.ADVICE, "1.1 GB free"),
    ("disk", {"free_bytes": lambda folder: 1 << 20}, Grade.PROBLEM, "0.0 GB free"),
    ("interpreters", {"has_module": lambda name: False}, Grade.PROBLEM, "none"),
    ("opencv", {"build": lambda: BUILD.replace("v4l/v4l2:                    YES", "v4l/v4l2:    NO")}, Grade.PROBLEM,
     "no V4L2"),
    ("opencv", {"build": lambda: BUILD.replace("FFMPEG:                      YES", "FFMPEG:    NO")}, Grade.ADVICE,
     "no FFmpeg"),
    ("i2c", {"groups": frozenset({"video", "dialout"})}, Grade.PROBLEM, "/dev/i2c-1: pi may not use it"),
    ("serial", {"groups": frozenset({"video", "i2c"})}, Grade.PROBLEM, "/dev/ttyACM0: pi may not use it"),
    ("camera", {"groups": frozenset({"i2c", "dialout"})}, Grade.PROBLEM, "/dev/video0: pi may not use it"),
    ("model", {"slots": Path("/nowhere")}, Grade.ADVICE, "none installed"),
]  # fmt: skip


@pytest.mark.parametrize(("topic", "changes", "level", "found"), CHANGES)
def test_a_machine_that_lacks_something(
    healthy: Machine, topic: str, changes: dict[str, Any], level: Grade, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_devices.os, "access", lambda path, mode: False)
    finding = worst(examined(dataclasses.replace(healthy, **changes)), topic)
    assert finding.level is level
    assert found in finding.found and finding.advice


def test_a_model_that_fails_its_golden_frames_is_a_problem(healthy: Machine) -> None:
    def failing(path: Path) -> Any:
        raise SepilotError(f"{path}: golden frame 0: …")

    finding = worst(examined(dataclasses.replace(healthy, verify=failing)), "model")
    assert finding.level is Grade.PROBLEM and "golden frame 0" in finding.found


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"queued": 4}, Grade.ADVICE, "133 ms into the past"),
        ({"jitter_ms": 12.0}, Grade.ADVICE, "irregularly"),
        ({"monotonic_stamps": False}, Grade.ADVICE, "another clock"),
        ({"default": dataclasses.replace(MODE, fourcc="MJPG")}, Grade.ADVICE, "--camera-format yuyv"),
        ({"measured_hz": 0.0}, Grade.PROBLEM, "another cable"),
    ],
)
def test_what_a_camera_does_is_judged(healthy: Machine, changes: dict[str, Any], level: Grade, words: str) -> None:
    finding = worst(examined(healthy, dataclasses.replace(PROBE, **changes)), "camera")
    assert finding.level is level and words in finding.advice


def test_a_camera_that_another_program_holds_is_a_problem(healthy: Machine) -> None:
    finding = worst(examined(healthy, DriveError("camera /dev/video0: cannot be opened")), "camera")
    assert finding.level is Grade.PROBLEM and "fuser" in finding.advice


def test_nothing_plugged_in_is_advice(healthy: Machine) -> None:
    for name in ("i2c-1", "ttyACM0", "video0", "video1"):
        (healthy.root / "dev" / name).unlink()
    findings = examined(healthy)
    for topic in ("i2c", "serial", "camera"):
        assert worst(findings, topic).level is Grade.ADVICE
    assert "dead-man" not in {finding.topic for finding in findings}


def test_a_second_dead_man_is_asked_for_wherever_there_is_a_bus(healthy: Machine) -> None:
    def silent(bus: int, address: int, register: int) -> int:
        raise OSError(121, "Remote I/O error")

    for byte in (answers, silent):
        asked = worst(examined(healthy, byte=byte), "dead-man")
        assert asked.level is Grade.ADVICE and "docs/states.md" in asked.advice


def test_i2c_without_an_answer_and_without_the_package(healthy: Machine) -> None:
    def silent(bus: int, address: int, register: int) -> int:
        raise OSError(121, "Remote I/O error")

    def missing(bus: int, address: int, register: int) -> int:
        raise ModuleNotFoundError("smbus2", name="smbus2")

    assert "i2cdetect" in worst(examined(healthy, byte=silent), "i2c").advice
    assert "sepilot[servo]" in worst(examined(healthy, byte=missing), "i2c").found


def test_vcgencmd_and_timedatectl_are_asked_where_files_say_nothing(healthy: Machine) -> None:
    (healthy.root / "sys/devices/platform/soc/soc:firmware/get_throttled").unlink()
    (healthy.root / "run/systemd/timesync/synchronized").unlink()
    said = {"vcgencmd": "throttled=0x4", "timedatectl": "no"}
    findings = examined(dataclasses.replace(healthy, run=lambda words: said[words[0]]))
    assert worst(findings, "throttling").found == "slowed down"
    assert "not synchronized" in worst(findings, "date").found


def test_the_build_of_this_opencv_can_be_read() -> None:
    from sepilot_runtime.device.doctor_system import cv2_build

    assert build_of(cv2_build())["v4l"] is True
    assert build_of(BUILD) == {"ffmpeg": True, "gstreamer": False, "v4l": True, "windows": False}


def test_the_verb_prints_a_table_and_json_and_fails_on_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["doctor", "--no-cameras", "--slots", str(tmp_path)]
    cli.main(argv)
    printed = capsys.readouterr().out
    assert "interpreters" in printed and max(len(line) for line in printed.splitlines() if "/" not in line) <= 80
    (tmp_path / "slots.json").write_text("[]", encoding="utf-8")
    assert cli.main([*argv, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["problems"] >= 1
    assert {"topic", "level", "found", "advice"} == set(document["findings"][0])


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert own_user() == Machine().user == "12345"
