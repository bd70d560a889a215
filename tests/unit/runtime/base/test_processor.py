"""What a processor multiplies 8-bit numbers with, by what its system says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepilot_runtime.base.processor import NO_VNNI, int8_kernels
from sepilot_runtime.device.conditions import conditions_now

KERNELS = [
    ("x86_64", "flags\t\t: fpu sse4_2", "no AVX2"),
    ("x86_64", "flags\t\t: fpu avx2 fma", NO_VNNI),
    ("x86_64", "flags\t\t: fpu avx2 avx512f", NO_VNNI),
    ("AMD64", "flags\t\t: fpu avx2 avx_vnni", "AVX-VNNI"),
    ("x86_64", "flags\t\t: avx2 avx512f avx512_vnni avx_vnni", "AVX-512 VNNI"),
    ("aarch64", "Features\t: fp asimd evtstrm", "no dot products"),
    ("aarch64", "Features\t: fp asimd asimddp", "dot products"),
    ("aarch64", "flags\t\t: fpu avx2 avx512_vnni", "unknown (aarch64)"),  # As under emulation.
    ("riscv64", "isa\t\t: rv64imafdcv", "unknown (riscv64)"),
    ("x86_64", "", "unknown (x86_64)"),
]


@pytest.mark.parametrize(("machine", "cpuinfo", "kernels"), KERNELS)
def test_int8_kernels_are_named_by_what_the_system_says(
    tmp_path: Path, machine: str, cpuinfo: str, kernels: str
) -> None:
    if cpuinfo:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "cpuinfo").write_text(f"processor\t: 0\n{cpuinfo}\n\nprocessor\t: 1\n")
    assert int8_kernels(tmp_path, machine) == kernels


def test_the_conditions_of_a_measurement_name_them() -> None:
    now = conditions_now()
    assert now.int8_kernels == int8_kernels() and f"int8 kernels: {now.int8_kernels}" in str(now).splitlines()[0]
