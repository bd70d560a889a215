"""What is plugged into this car, and whether its user may touch it: cameras, I2C, serial ports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.device.conditions import first_text
from sepilot_runtime.device.doctor_system import Finding, Grade, Machine
from sepilot_runtime.source.camera_probe import CameraProbe, probe_camera

__all__ = ["Probe", "ReadByte", "examine_cameras", "examine_ports", "read_byte"]

Probe = Callable[[str], CameraProbe]
"""A camera's device to what it can do; raises DriveError."""

ReadByte = Callable[[int, int, int], int]
"""I2C bus, address and register to a byte; raises OSError where nobody answers, ModuleNotFoundError without smbus2."""

SERIAL_PATTERNS = ("ttyACM*", "ttyUSB*", "serial0", "ttyAMA0", "ttyTHS*")
NO_CAMERAS = ("bcm2835-codec", "bcm2835-isp", "rpivid", "rpi-", "pispbe")
"""What a Raspberry Pi's video devices are called that are none."""

RAW_CAMERAS = ("unicam", "rp1-cfe")
"""A Raspberry Pi's ribbon cable cameras: they give raw Bayer pictures here, which only libcamera can develop."""

PCA9685_ADDRESSES, PCA9685_MODE1 = range(0x40, 0x48), 0x00
MOST_QUEUED = 1
UNSTEADY = 0.25


def read_byte(bus: int, address: int, register: int) -> int:
    """One byte over I2C."""
    from smbus2 import SMBus

    with SMBus(bus) as opened:
        return int(opened.read_byte_data(address, register))


def examine_cameras(machine: Machine, probe: Probe = probe_camera) -> Iterator[Finding]:
    """Modes, queue and regularity of each camera; about three seconds for each."""
    names = _cameras(machine)
    if not names:
        yield Finding(
            topic="camera", level=Grade.ADVICE, found="none (/dev/video*)",
            advice="plug one in; see `dmesg` and `lsusb`, or drive by rtsp:// or gst:",
        )  # fmt: skip
    for name in names:
        kind = first_text(machine.root / f"sys/class/video4linux/{name}/name") or ""
        device = f"/dev/{name}"
        if kind.startswith(RAW_CAMERAS):
            yield Finding(
                topic="camera", level=Grade.ADVICE, found=f"{device} ({kind}): a ribbon cable camera, raw pictures",
                advice="drive with --source 'gst:libcamerasrc ! video/x-raw,width=640,height=480', or run libcamerify",
            )  # fmt: skip
            continue
        yield from _access(machine, name, "video", "camera")
        try:
            yield from _probed(device, kind, probe(device))
        except DriveError as e:
            yield Finding(
                topic="camera", level=Grade.PROBLEM, found=str(e), advice=f"see who uses it: sudo fuser {device}"
            )


def _cameras(machine: Machine) -> list[str]:
    devices = sorted((machine.root / "dev").glob("video[0-9]*"), key=lambda p: int(p.name.removeprefix("video")))
    found = []
    for device in devices:
        entry = machine.root / "sys/class/video4linux" / device.name
        kind, index = first_text(entry / "name") or "", first_text(entry / "index")
        # A camera's second device carries metadata.
        if not kind.startswith(NO_CAMERAS) and index in (None, "0"):
            found.append(device.name)
    return found


def _probed(device: str, kind: str, probe: CameraProbe) -> Iterator[Finding]:
    mode = probe.default
    words = f"{device} ({kind})" if kind else device
    if not probe.measured_hz:
        yield Finding(
            topic="camera", level=Grade.PROBLEM, found=f"{words}: opens, and gives no frames",
            advice="another cable or port; several cameras on one USB hub exceed what it carries",
        )  # fmt: skip
        return
    found = (
        f"{words}: {mode.fourcc} {mode.width}x{mode.height}, {probe.measured_hz:.1f} Hz measured, "
        f"jitter {probe.jitter_ms:.1f} ms, {probe.queued} frames queued"
    )
    luma = sorted({m.asked.fourcc for m in probe.modes if m.given and m.asked.fourcc in ("NV12", "GREY", "YUYV")})
    advice = []
    if probe.queued > MOST_QUEUED:
        period_ms = 1000 / probe.measured_hz
        advice.append(
            f"whoever reads slower than it sends sees {probe.queued * period_ms:.0f} ms into the past; "
            "sepilot empties the queue in a thread, other programs do not"
        )
    if mode.fourcc == "MJPG" and luma:
        advice.append(f"it also sends {', '.join(luma)}, which costs no decoding: --camera-format {luma[0].lower()}")
    if probe.jitter_ms > UNSTEADY * 1000 / probe.measured_hz:
        advice.append("its frames come irregularly: more light or a fixed exposure keeps the rate")
    if not probe.monotonic_stamps:
        advice.append("its time stamps are on another clock; ages count from when a frame was read")
    level = Grade.ADVICE if advice else Grade.OK
    yield Finding(topic="camera", level=level, found=found, advice="; ".join(advice))
    given = [m for m in probe.modes if m.given]
    if given:
        listed = ", ".join(f"{m.got.fourcc} {m.got.width}x{m.got.height}@{m.got.rate_hz:g}" for m in given)
        yield Finding(topic="modes", level=Grade.OK, found=f"{device}: {listed}")


def examine_ports(machine: Machine, byte: ReadByte = read_byte) -> Iterator[Finding]:
    """I2C with its servo driver, and serial ports."""
    yield from _i2c(machine, byte)
    yield from _serial(machine)


def _i2c(machine: Machine, byte: ReadByte) -> Iterator[Finding]:
    devices = sorted((machine.root / "dev").glob("i2c-[0-9]*"), key=lambda p: int(p.name.removeprefix("i2c-")))
    if not devices:
        yield Finding(
            topic="i2c", level=Grade.ADVICE, found="no bus (/dev/i2c-*); needed for a PCA9685 only",
            advice="on a Raspberry Pi: sudo raspi-config nonint do_i2c 0",
        )  # fmt: skip
        return
    for device in devices:
        yield from _access(machine, device.name, "i2c", "i2c")
    yield Finding(
        topic="dead-man", level=Grade.ADVICE,
        found="a PCA9685 repeats its last pulse for ever when this computer stops, and no failsafe of a motor "
        "controller sees that",
        advice="if one drives the motor: is there a second dead-man without this computer (a receiver's failsafe, a "
        "timer on its OE pin)? Try it with the wheels off the ground; docs/states.md",
    )  # fmt: skip
    found, trouble = _servo_drivers([int(d.name.removeprefix("i2c-")) for d in devices], byte)
    buses = ", ".join(device.name for device in devices)
    if found:
        yield Finding(topic="i2c", level=Grade.OK, found=f"{buses}; PCA9685 answers at {', '.join(found)}")
    else:
        yield Finding(
            topic="i2c", level=Grade.ADVICE, found=f"{buses}; no PCA9685 answers{trouble}",
            advice="if there is one: power, SDA and SCL swapped, address jumpers; i2cdetect -y 1 shows who answers",
        )  # fmt: skip


def _servo_drivers(buses: Sequence[int], byte: ReadByte) -> tuple[list[str], str]:
    """Where a PCA9685 answers, and why nobody could be asked."""
    found = []
    for bus in buses:
        for address in PCA9685_ADDRESSES:
            try:
                byte(bus, address, PCA9685_MODE1)
            except ModuleNotFoundError:
                return [], " (not asked: pip install 'sepilot[servo]')"
            except PermissionError:
                break
            except OSError:
                continue
            found.append(f"bus {bus} {address:#x}")
    return found, ""


def _serial(machine: Machine) -> Iterator[Finding]:
    folder = machine.root / "dev"
    names = sorted({path.name for pattern in SERIAL_PATTERNS for path in folder.glob(pattern)})
    if not names:
        yield Finding(
            topic="serial", level=Grade.ADVICE, found="no port (/dev/ttyACM*, ttyUSB*, serial0)",
            advice="needed for a microcontroller only; see docs/serial.md",
        )  # fmt: skip
        return
    for name in names:
        yield from _access(machine, name, "dialout", "serial")
    fixed = sorted(path.name for path in (folder / "serial/by-id").glob("*"))
    named = f"; names that stay: /dev/serial/by-id/{', '.join(fixed)}" if fixed else ""
    console = first_text(machine.root / "proc/cmdline") or ""
    used = [name for name in names if f"console={name}" in console]
    if used:
        yield Finding(
            topic="serial", level=Grade.PROBLEM, found=f"the system writes its console to {', '.join(used)}",
            advice="sudo raspi-config nonint do_serial_cons 1, and start anew",
        )  # fmt: skip
    yield Finding(topic="serial", level=Grade.OK, found=", ".join(names) + named)


def _access(machine: Machine, name: str, group: str, topic: str) -> Iterator[Finding]:
    """A finding only where this user may not use a device."""
    path: Path = machine.root / "dev" / name
    if machine.is_root or group in machine.groups or os.access(path, os.R_OK | os.W_OK):
        return
    yield Finding(
        topic=topic, level=Grade.PROBLEM, found=f"/dev/{name}: {machine.user} may not use it",
        advice=f"sudo usermod -aG {group} {machine.user}, and log in anew",
    )  # fmt: skip
