"""Classes of processors, and how to run Python as one of them: natively where this machine is one, else under qemu.

Emulation gives a real processor's answers (those with AVX2 were the numbers of a real Zen 3), not its speed.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["PROCESSORS", "Processor", "clean_environment", "processor_named", "python_under", "tool", "why_not"]

X86_QEMU, ARM_QEMU = "qemu-x86_64-static", "qemu-aarch64-static"
INSTALL_QEMU = "apt-get install qemu-user-static"
INSTALL_ARM = "apt-get install qemu-user-static debootstrap debian-archive-keyring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """A class of processors, and the model that stands for it.

    Attributes:
        name, what: head its column, 10 characters at most.
        cpu: qemu's name of the model; None where qemu has none that can do this, and only a real one will do.
        flags: of /proc/cpuinfo, one of which a real one has; for classes without `cpu`.
    """

    name: str
    machine: Literal["x86_64", "aarch64"]
    what: str
    cpu: str | None = None
    flags: frozenset[str] = frozenset()

    @property
    def how(self) -> str:
        return "emulated" if self.cpu else "native"


# qemu 7.2 emulates neither AVX-512 nor VNNI.
PROCESSORS = (
    Processor(name="Nehalem", machine="x86_64", what="no AVX2", cpu="Nehalem"),
    Processor(name="Haswell", machine="x86_64", what="no VNNI", cpu="Haswell"),
    Processor(name="AVX-512", machine="x86_64", what="/AVX-VNNI", flags=frozenset({"avx512_vnni", "avx_vnni"})),
    Processor(name="Cortex-A72", machine="aarch64", what="no dotprod", cpu="cortex-a72"),
    Processor(name="Cortex-A76", machine="aarch64", what="dotprod", cpu="cortex-a76"),
)


def processor_named(name: str) -> Processor:
    """The class called `name`, in any case.

    Raises:
        KeyError: there is none.
    """
    return {p.name.lower(): p for p in PROCESSORS}[name.lower()]


def why_not(processor: Processor) -> str | None:
    """Why it cannot be had on this machine, with the way out where there is one; None where it can."""
    if platform.machine() != "x86_64":
        return f"an x86-64 machine expected, found {platform.machine()}"
    if processor.cpu is None:
        wanted = ", ".join(sorted(processor.flags))
        return None if processor.flags & _flags() else f"this machine's processor has none of {wanted}"
    if processor.machine == "x86_64":
        return None if shutil.which(X86_QEMU) else f"{X86_QEMU} is missing; run: {INSTALL_QEMU}"
    missing = [name for name in (ARM_QEMU, "debootstrap") if tool(name) is None]
    return f"{' and '.join(missing)} missing; run: {INSTALL_ARM}" if missing else None


def python_under(processor: Processor, arm_pythons: Mapping[str, Path]) -> list[str]:
    """The command that runs Python as this processor; what it is given goes behind.

    Args:
        arm_pythons: by name of the processor, of `arm_tree.arm_pythons`.
    """
    if processor.machine == "aarch64":
        return [str(arm_pythons[processor.name])]
    qemu = [X86_QEMU, "-cpu", processor.cpu] if processor.cpu else []
    return [*qemu, sys.executable]


def tool(name: str) -> str | None:
    """The path of a program, also where only root's search path leads."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def clean_environment() -> dict[str, str]:
    """This process's environment with this checkout's runtime, and nothing that fits this machine's processor alone."""
    runtime = Path(__file__).resolve().parents[1] / "runtime"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(runtime)}


def _flags() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())
