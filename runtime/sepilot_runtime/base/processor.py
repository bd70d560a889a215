"""What processor this is, and with which instructions it multiplies 8-bit numbers.

Int8 files are summed differently by different processors: those with AVX2 and no VNNI add pairs of products in 16 bits,
which saturate (`vpmaddubsw`), the others in 32. So a figure of an int8 file is one of its processor.
"""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["NO_VNNI", "cpu_name", "cpuinfo", "int8_kernels"]

NO_VNNI = "AVX2 without VNNI"

_X86 = (("avx512_vnni", "AVX-512 VNNI"), ("avx_vnni", "AVX-VNNI"), ("avx2", NO_VNNI))


def int8_kernels(root: Path = Path("/"), machine: str | None = None) -> str:
    """The best instructions for int8 that this processor has; "unknown (…)" where the system does not say.

    Args:
        root: where /proc is, for tests.
        machine: its kind, as `platform.machine` says it.
    """
    machine = machine or platform.machine()
    if machine.lower() in ("x86_64", "amd64") and (flags := cpuinfo("flags", root)):
        found = flags.split()
        return next((name for flag, name in _X86 if flag in found), "no AVX2")
    if machine.lower() in ("aarch64", "arm64") and (features := cpuinfo("Features", root)):
        return "dot products" if "asimddp" in features.split() else "no dot products"
    return f"unknown ({machine or 'no name'})"


def cpu_name(root: Path = Path("/")) -> str:
    """The processor's name, or that of its kind."""
    return cpuinfo("model name", root) or cpuinfo("Model", root) or platform.processor() or platform.machine()


def cpuinfo(key: str, root: Path = Path("/")) -> str | None:
    """A value of /proc/cpuinfo for the first core; None where it is not there."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
