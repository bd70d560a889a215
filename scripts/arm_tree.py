"""Debian for aarch64 in a folder, with sepilot's device base in it, to be run by qemu: no chroot, no binfmt, no second
stage of debootstrap, and root only where debootstrap asks for it.

The packages are unpacked and not configured, which is all that an interpreter and its libraries need. Python's own
path (sys.executable) is a shell script of the host that calls qemu, so that processes which Python starts run as well.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from processors import ARM_QEMU, PROCESSORS, Processor, tool
from tested_packages import Requirement, needed, requirements, wanted_by

from sepilot_runtime.base.errors import SepilotError

__all__ = ["arm_pythons", "install_sepilot"]

ROOT = Path(__file__).resolve().parents[1]
SUITE = "bookworm"
DEBIAN = ("python3", "python3-venv", "ca-certificates", "libgl1", "libglib2.0-0")
# Drivers of graphics cards, half of the tree, which OpenCV only links to.
LEFT_OUT = ("libgl1-mesa-dri", "libglx-mesa0", "libllvm15")
PACKAGES = ("numpy", "opencv-python", "ai-edge-litert", "onnxruntime", "openvino")

# LiteRT and ONNX Runtime ask /proc/cpuinfo for the processor and crash on an x86 one's; OpenVINO asks the system for
# MIDR_EL1. By the kernel's words for a real Cortex-A72 r0p3 and A76 r4p1.
IDENTITY = {
    "Cortex-A72": ("fp asimd evtstrm crc32 cpuid", 0x410FD083),
    "Cortex-A76": (
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        0x414FD0B1,
    ),
}


def arm_pythons(cache: Path, *, make: bool = True) -> dict[str, Path]:
    """Python for each aarch64 class by its name, with the tested packages; made on the first call, then kept.

    Args:
        make: False to get none where it was not made before.

    Raises:
        SepilotError: it cannot be made.
    """
    pins = [package.text.split(" ")[0] for name, package in tested().items() if name in PACKAGES]
    key = hashlib.sha256("\n".join([SUITE, *DEBIAN, *pins]).encode()).hexdigest()[:12]
    folder = cache / "processors" / f"arm64-{key}"
    arms = [p for p in PROCESSORS if p.machine == "aarch64"]
    pythons = {p.name: folder / "venv" / "bin" / f"python-{p.cpu}" for p in arms}
    if not make:
        return pythons if (folder / "done").exists() else {}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _make(folder, arms, pythons)
            (folder / "done").touch()
    return pythons


def install_sepilot(python: Path) -> None:
    """`pip install .` of the device base, with the engines, from this checkout; of the tested packages by their hashes.

    Raises:
        SepilotError: it fails; pip's own last line is in the message.
    """
    tree = python.parents[2] / "tree"
    (pip,) = (tree / "usr" / "share" / "python-wheels").glob("pip-*.whl")
    call = [str(python), str(pip / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    names = ["hatchling", *wanted_by(ROOT / "pyproject.toml", ["onnx", "openvino"])]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(package.text for package in needed(tested(), names)))
        file.flush()
        _run([*call, "--require-hashes", "-r", file.name], "pip install of the tested packages on aarch64")
    _run([*call, "--no-deps", "--no-build-isolation", str(ROOT)], "pip install . on aarch64")


def tested() -> dict[str, Requirement]:
    """The packages of requirements-tested.txt."""
    return requirements((ROOT / "requirements-tested.txt").read_text(encoding="utf-8"))


def _make(folder: Path, arms: Sequence[Processor], pythons: dict[str, Path]) -> None:
    start = time.perf_counter()
    print(f"first run: Debian and the packages for aarch64 go to {folder} (3 to 10 minutes, 1.2 GB)", flush=True)
    tree, venv = folder / "tree", folder / "venv"
    for old in (tree, venv, folder / "views"):
        shutil.rmtree(old, ignore_errors=True)
    _debian(tree)
    version = max(p.name for p in (tree / "usr" / "bin").glob("python3.*") if re.fullmatch(r"python3\.\d+", p.name))
    (venv / "bin").mkdir(parents=True)
    (venv / "lib" / version / "site-packages").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"home = {tree}/usr/bin\ninclude-system-site-packages = false\n")
    for arm in arms:
        view = _view(folder / "views" / str(arm.cpu), tree, arm)
        python = pythons[arm.name]
        python.write_text(
            f'#!/bin/sh\nexec {ARM_QEMU} -L "{view}" -cpu {arm.cpu} -0 "{python}" "{tree}/usr/bin/{version}" "$@"\n'
        )
        python.chmod(0o755)
    install_sepilot(pythons[arms[0].name])
    print(f"done in {time.perf_counter() - start:.0f} s", flush=True)


def _debian(tree: Path) -> None:
    """The packages, unpacked."""
    root = [] if os.geteuid() == 0 else ["fakeroot"]
    if root and shutil.which("fakeroot") is None:
        raise SepilotError("debootstrap needs root or fakeroot; run: apt-get install fakeroot")
    options = ["--foreign", "--arch=arm64", "--variant=minbase"]
    options += [f"--include={','.join(DEBIAN)}", f"--exclude={','.join(LEFT_OUT)}"]
    _run([*root, tool("debootstrap") or "debootstrap", *options, SUITE, str(tree)], "debootstrap")
    archives = tree / "var" / "cache" / "apt" / "archives"
    for deb in sorted(archives.glob("*.deb")):
        _run(["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink --no-same-owner', "-",
              str(deb), str(tree)], deb.name)  # fmt: skip
        deb.unlink()


def _view(view: Path, tree: Path, arm: Processor) -> Path:
    """What qemu puts before the host's files: the tree, and what the system says of this processor."""
    features, midr = IDENTITY[arm.name]
    view.mkdir(parents=True)
    for name in ("bin", "etc", "lib", "usr"):
        (view / name).symlink_to(tree / name)
    registers = view / "sys/devices/system/cpu/cpu0/regs/identification"
    registers.mkdir(parents=True)
    (registers / "midr_el1").write_text(f"{midr:#018x}\n")
    (view / "proc").mkdir()
    core = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: {midr >> 24:#04x}\nCPU architecture: 8\n"
        f"CPU variant\t: {midr >> 20 & 15:#x}\nCPU part\t: {midr >> 4 & 0xFFF:#05x}\nCPU revision\t: {midr & 15}\n\n"
    )
    (view / "proc" / "cpuinfo").write_text("".join(f"processor\t: {i}\n{core}" for i in range(os.cpu_count() or 1)))
    return view


def _run(command: Sequence[str], what: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise SepilotError(f"{what} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
