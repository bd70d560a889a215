"""Is this machine fit to drive? What was found about it, and what to do where it is not.

`Machine` is all that is looked at: tests hand in folders in place of /sys, /proc and /dev, and fakes for what answers.
The checks of what is plugged in stand in `doctor_devices`.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from sepilot_runtime.base.errors import ModelFileError, SepilotError
from sepilot_runtime.base.files import exists
from sepilot_runtime.base.processor import cpu_name, int8_kernels
from sepilot_runtime.device.conditions import PACKAGES, first_text, pi_throttling, temperature_c, throttling, versions
from sepilot_runtime.device.slots import INDEX_NAME, active_model, default_slots
from sepilot_runtime.engine.engines import Engine

__all__ = ["Finding", "Grade", "Machine", "build_of", "examine_system"]

INTERPRETERS = {"ai_edge_litert": "ai-edge-litert", "onnxruntime": "onnxruntime", "openvino": "openvino"}
WARM_C, HOT_C = 70.0, 80.0
LITTLE_BYTES, FEW_BYTES = 2 << 30, 128 << 20
QUICK_CLOCKS = ("tsc", "arch_sys_counter", "kvm-clock")
NOW_BITS = ("voltage too low", "clock capped", "slowed down", "near the temperature limit")


class Grade(StrEnum):
    OK = "ok"
    ADVICE = "advice"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line on one thing; `advice` says what to do, "" where there is nothing."""

    topic: str
    level: Grade
    found: str
    advice: str = ""


def run_command(words: Sequence[str]) -> str | None:
    """What a command prints; None where there is none such, or it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def own_user() -> str:
    """The name of the user that this process runs as, or its number: in a container it may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def own_groups() -> frozenset[str]:
    """Names of the groups that this process is in."""
    import grp

    found = set()
    for number in {*os.getgroups(), os.getgid()}:
        try:
            found.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return frozenset(found)


def cv2_build() -> str:
    from sepilot_runtime.base.opencv import cv2

    return str(cv2.getBuildInformation())


def verified(path: Path) -> Engine:
    """Open a model file and run its golden frames."""
    from sepilot_runtime.engine.pilot import load_pilot
    from sepilot_runtime.engine.trial import time_limit

    with time_limit(path):
        return load_pilot(path).engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is examined.

    Attributes:
        root: where /sys, /proc and /dev are.
        slots: of `sepilot install`.
        folder: where recordings go.
        run: a command to what it prints.
        free_bytes: on the disk of a folder.
        build: OpenCV's build information.
        verify: opens a model file and runs its golden frames; raises SepilotError.
    """

    root: Path = Path("/")
    slots: Path = field(default_factory=default_slots)
    folder: Path = field(default_factory=Path.cwd)
    run: Callable[[Sequence[str]], str | None] = run_command
    groups: frozenset[str] = field(default_factory=own_groups)
    user: str = field(default_factory=own_user)
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
    build: Callable[[], str] = cv2_build
    has_module: Callable[[str], bool] = lambda name: find_spec(name) is not None
    verify: Callable[[Path], Engine] = verified


def examine_system(machine: Machine) -> Iterator[Finding]:
    """Everything that needs nothing plugged in."""
    yield _python()
    yield _processor(machine)
    yield _interpreters(machine)
    yield from _opencv(machine)
    yield _governor(machine)
    yield _temperature(machine)
    yield _throttling(machine)
    yield _disk(machine)
    yield from _clock(machine)
    yield _model(machine)


def _python() -> Finding:
    found = f"Python {platform.python_version()}, {platform.machine()}"
    packages = ", ".join(f"{name} {version}" for name, version in versions(("sepilot", *PACKAGES)).items())
    return Finding(topic="python", level=Grade.OK, found=f"{found}; {packages}")


def _processor(machine: Machine) -> Finding:
    found = f"{cpu_name(machine.root)}, int8 kernels: {int8_kernels(machine.root)}"
    return Finding(topic="processor", level=Grade.OK, found=found)


def _interpreters(machine: Machine) -> Finding:
    present = [package for module, package in INTERPRETERS.items() if machine.has_module(module)]
    if not present:
        return Finding(
            topic="interpreters", level=Grade.PROBLEM, found="none that could run a model file",
            advice="pip install ai-edge-litert (for .tflite) or 'sepilot[onnx]'",
        )  # fmt: skip
    missing = [package for package in INTERPRETERS.values() if package not in present]
    without = f"; not installed: {', '.join(missing)}" if missing else ""
    return Finding(topic="interpreters", level=Grade.OK, found=", ".join(present) + without)


def build_of(text: str) -> dict[str, bool]:
    """What an OpenCV build has: FFMPEG, GStreamer, v4l, and whether it shows windows."""

    def has(name: str) -> bool:
        return re.search(rf"^\s*{name}:\s+YES", text, re.MULTILINE) is not None

    gui = re.search(r"^\s*GUI:\s+(\S+)", text, re.MULTILINE)
    return {
        "ffmpeg": has("FFMPEG"),
        "gstreamer": has("GStreamer"),
        "v4l": has("v4l/v4l2"),
        "windows": gui is not None and gui.group(1) != "NONE",
    }


def _opencv(machine: Machine) -> Iterator[Finding]:
    try:
        build = build_of(machine.build())
    except SepilotError as e:
        yield Finding(topic="opencv", level=Grade.PROBLEM, found=str(e), advice="see there")
        return
    has = [words for name, words in (("ffmpeg", "FFmpeg"), ("v4l", "V4L2"), ("gstreamer", "GStreamer")) if build[name]]
    kind = "with windows" if build["windows"] else "headless"
    found = f"{kind}, {', '.join(has) or 'without FFmpeg, V4L2 and GStreamer'}"
    if not build["v4l"] and platform.system() == "Linux":
        yield Finding(
            topic="opencv", level=Grade.PROBLEM, found=f"{found}: no V4L2, so no camera opens",
            advice="pip install --force-reinstall opencv-python-headless",
        )  # fmt: skip
    elif not build["ffmpeg"]:
        yield Finding(
            topic="opencv", level=Grade.ADVICE, found=f"{found}: no FFmpeg, so no video file and no rtsp:// opens",
            advice="pip install --force-reinstall opencv-python-headless",
        )  # fmt: skip
    else:
        yield Finding(topic="opencv", level=Grade.OK, found=found)


def _governor(machine: Machine) -> Finding:
    folder = machine.root / "sys/devices/system/cpu"
    governors = {first_text(path) for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {None}
    words = ", ".join(sorted(str(governor) for governor in governors))
    if not governors:
        return Finding(topic="governor", level=Grade.OK, found="none: the clock is not sepilot's to judge")
    if governors == {"performance"}:
        return Finding(topic="governor", level=Grade.OK, found=words)
    return Finding(
        topic="governor", level=Grade.ADVICE, found=f"{words}: a core that slept between two frames starts slowly",
        advice="echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )  # fmt: skip


def _temperature(machine: Machine) -> Finding:
    found = temperature_c(machine.root)
    if found is None:
        return Finding(topic="temperature", level=Grade.OK, found="no sensor")
    level = Grade.PROBLEM if found >= HOT_C else Grade.ADVICE if found >= WARM_C else Grade.OK
    advice = "" if level is Grade.OK else f"a heat sink or a fan; the clock goes down near {HOT_C:.0f} °C"
    return Finding(topic="temperature", level=level, found=f"{found:.0f} °C", advice=advice)


def _throttling(machine: Machine) -> Finding:
    found = throttling(machine.root)
    if found is None and (text := machine.run(["vcgencmd", "get_throttled"])):
        found = pi_throttling(text.rpartition("=")[2])
    if found in (None, "no"):
        return Finding(topic="throttling", level=Grade.OK, found="none seen" if found else "this machine does not say")
    now = any(words in found.split(", ") for words in NOW_BITS)
    return Finding(
        topic="throttling", level=Grade.PROBLEM if now else Grade.ADVICE, found=found,
        advice="a power supply that holds 5 V under load, short thick wires, and cooling",
    )  # fmt: skip


def _disk(machine: Machine) -> Finding:
    try:
        free = machine.free_bytes(machine.folder)
    except OSError as e:
        return Finding(topic="disk", level=Grade.PROBLEM, found=f"{machine.folder}: {e.strerror or e}")
    level = Grade.PROBLEM if free < FEW_BYTES else Grade.ADVICE if free < LITTLE_BYTES else Grade.OK
    advice = "" if level is Grade.OK else "move recordings away; an hour at 20 Hz takes about 1 GB"
    return Finding(topic="disk", level=level, found=f"{free / 1e9:.1f} GB free in {machine.folder}", advice=advice)


def _clock(machine: Machine) -> Iterator[Finding]:
    source = first_text(machine.root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source and source not in QUICK_CLOCKS:
        yield Finding(
            topic="clock", level=Grade.ADVICE, found=f"source {source}: reading the time takes microseconds",
            advice="see /sys/devices/system/clocksource/clocksource0/available_clocksource for a quicker one",
        )  # fmt: skip
    elif source:
        yield Finding(topic="clock", level=Grade.OK, found=f"source {source}")
    synchronized = (machine.root / "run/systemd/timesync/synchronized").exists()
    answer = machine.run(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    if synchronized or answer == "yes":
        yield Finding(topic="date", level=Grade.OK, found="synchronized over the network")
    else:
        why = "not synchronized" if answer == "no" else "nobody says that it is synchronized"
        yield Finding(
            topic="date", level=Grade.ADVICE, found=f"{why}: recordings may carry wrong dates",
            advice="sudo timedatectl set-ntp true, or a clock module; driving itself does not need it",
        )  # fmt: skip


def _model(machine: Machine) -> Finding:
    warnings: list[str] = []
    try:
        if not exists(machine.slots / INDEX_NAME, ModelFileError):
            return Finding(
                topic="model", level=Grade.ADVICE, found=f"none installed in {machine.slots}",
                advice="sepilot install FILE, and drive with --slots",
            )  # fmt: skip
        path = active_model(machine.slots, warnings.append)
        engine = machine.verify(path)
    except SepilotError as e:
        return Finding(topic="model", level=Grade.PROBLEM, found=str(e), advice="sepilot install FILE, or rollback")
    found = f"{path.name}: {len(engine.contract.golden)} golden frames passed on {engine.name}"
    if warnings:
        return Finding(topic="model", level=Grade.PROBLEM, found=warnings[0], advice=f"in use: {found}; install anew")
    return Finding(topic="model", level=Grade.OK, found=found)
