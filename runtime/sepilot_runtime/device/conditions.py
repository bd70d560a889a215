"""The conditions of a measurement: what a latency figure is worth nothing without."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sepilot_runtime.base.processor import cpu_name, cpuinfo, int8_kernels

__all__ = [
    "PACKAGES",
    "Conditions",
    "conditions_now",
    "first_text",
    "last_level_cache_bytes",
    "pi_throttling",
    "temperature_c",
    "throttling",
    "versions",
]

PACKAGES = ("numpy", "opencv-python", "opencv-python-headless", "ai-edge-litert", "onnxruntime", "openvino")
CPUS = "sys/devices/system/cpu"
PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PI_BITS = {
    0: "voltage too low", 1: "clock capped", 2: "slowed down", 3: "near the temperature limit",
    16: "voltage was too low", 17: "clock was capped", 18: "was slowed down", 19: "was near the temperature limit",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """One machine at one moment. What it does not tell is None.

    Attributes:
        board: the computer's product name.
        cpu: the processor's name.
        int8_kernels: its instructions for int8, on which the answers of int8 files depend.
        cores: that the system has; `affinity`, those that this process may run on.
        clock_mhz: of the first core, now.
        governor: of the first core's clock; anything but "performance" makes short measurements slow and unsteady.
        load: average number of running processes over one minute, this one among them.
        temperature_c: of the hottest zone.
        throttled: what slows it down, "no" where nothing does.
        versions: package name to version.
    """

    board: str | None
    cpu: str
    int8_kernels: str
    cores: int
    affinity: tuple[int, ...] | None
    clock_mhz: float | None
    governor: str | None
    load: float | None
    temperature_c: float | None
    throttled: str | None
    system: str
    python: str
    versions: dict[str, str]

    def __str__(self) -> str:
        """Four lines for people."""
        allowed = f", {len(self.affinity)} usable" if self.affinity and len(self.affinity) < self.cores else ""
        machine = [f"{self.cpu}, {self.cores} cores{allowed}, int8 kernels: {self.int8_kernels}"]
        if self.board:
            machine.insert(0, self.board)
        state = [
            f"{self.clock_mhz:.0f} MHz" if self.clock_mhz else None,
            f"governor {self.governor or 'unknown'}",
            f"load {self.load:.1f}" if self.load is not None else None,
            f"{self.temperature_c:.0f} °C" if self.temperature_c is not None else None,
            f"throttled: {self.throttled}" if self.throttled not in (None, "no") else None,
        ]
        packages = [f"{name} {version}" for name, version in self.versions.items()]
        lines: list[list[str | None]] = [[*machine], state, [self.system, f"Python {self.python}"], [*packages]]
        return "\n".join(", ".join(word for word in line if word) for line in lines)


def conditions_now(root: Path = Path("/")) -> Conditions:
    """Read this machine's state. Never fails; what cannot be read is None.

    Args:
        root: where /proc and /sys are, for tests.
    """
    return Conditions(
        board=first_text(root / "proc/device-tree/model", root / "sys/class/dmi/id/product_name"),
        cpu=cpu_name(root),
        int8_kernels=int8_kernels(root),
        cores=os.cpu_count() or 1,
        affinity=tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None,
        clock_mhz=_clock_mhz(root),
        governor=first_text(root / CPUS / "cpu0/cpufreq/scaling_governor"),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        temperature_c=temperature_c(root),
        throttled=throttling(root),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions(PACKAGES),
    )


def temperature_c(root: Path = Path("/")) -> float | None:
    """Of the hottest zone."""
    texts = [first_text(path) for path in (root / "sys/class/thermal").glob("thermal_zone*/temp")]
    values = [int(text) / 1000 for text in texts if text and text.lstrip("-").isdecimal()]
    return max(values, default=None)


def throttling(root: Path = Path("/")) -> str | None:
    """What slows this machine down, or did since it was started: "no", or words; None where it does not say.

    A Raspberry Pi says it in bits: raspberrypi.com/documentation, "vcgencmd get_throttled". Processors of Intel count
    how often they were too hot.
    """
    bits = first_text(root / PI_THROTTLED)
    if bits is not None:
        return pi_throttling(bits)
    counts = [first_text(path) for path in (root / CPUS).glob("cpu*/thermal_throttle/core_throttle_count")]
    total = sum(int(count) for count in counts if count and count.isdecimal())
    return None if not counts else f"too hot {total} times since the start" if total else "no"


def pi_throttling(bits: str) -> str | None:
    """What a Raspberry Pi's hexadecimal bits mean; None where they are none."""
    try:
        value = int(bits, 16)
    except ValueError:
        return None
    return ", ".join(words for bit, words in _PI_BITS.items() if value >> bit & 1) or "no"


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Name to version of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def last_level_cache_bytes(default: int = 32 << 20) -> int:
    """Size of the largest cache of the first core."""
    sizes = [_bytes_of(first_text(path)) for path in (Path("/") / CPUS / "cpu0/cache").glob("index*/size")]
    return max((size for size in sizes if size), default=default)


def _bytes_of(text: str | None) -> int:
    if not text:
        return 0
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1], 1)
    digits = text.rstrip("KMG")
    return int(digits) * unit if digits.isdecimal() else 0


def first_text(*paths: Path) -> str | None:
    """The text of the first of these files that can be read and says something."""
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
        except OSError:
            continue
        if text:
            return text
    return None


def _clock_mhz(root: Path) -> float | None:
    khz = first_text(root / CPUS / "cpu0/cpufreq/scaling_cur_freq")
    text = str(int(khz) / 1000) if khz and khz.isdecimal() else cpuinfo("cpu MHz", root)
    try:
        return round(float(text), 1) if text else None
    except ValueError:
        return None
