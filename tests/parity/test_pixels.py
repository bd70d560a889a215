"""The same pixels on every processor: `exact` pictures have these checksums here, and under emulation.

They were found on x86-64 (Nehalem, Haswell, with AVX-512) and aarch64 (Cortex-A72, A76), with OpenCV 4.6 to 5.0.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from typing import Any

import cv2
import pytest

from parity import pixels

EXACT = {
    "bgr to gray": 1971673025,
    "gray to gray": 4094382825,
    "nv12 to gray": 1137112540,
    "yuyv to gray": 1546285513,
    "bgr to bgr": 3466288419,
}
LINEAR_ON_X86 = {
    "bgr to gray": 3131804698,
    "gray to gray": 886662546,
    "nv12 to gray": 477469862,
    "yuyv to gray": 4211555903,
    "bgr to bgr": 4109014134,
}
"""What sepilot 0.1.0 made, of OpenCV 4.6 to 5.0. On aarch64 gray frames differ in all of these versions, and colours
from 4.14 on."""

X86 = platform.machine() == "x86_64"
QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")


def test_exact_pictures_are_the_same_here() -> None:
    assert pixels.checksums("exact") == EXACT


@pytest.mark.skipif(not X86, reason="OpenCV rounds linear pictures otherwise on other processors")
def test_linear_pictures_are_what_they_always_were() -> None:
    assert pixels.checksums("linear") == LINEAR_ON_X86


@pytest.mark.skipif(not (X86 and QEMU), reason="needs an x86-64 host and qemu-user (apt install qemu-user-static)")
@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])
def test_pictures_are_the_same_on_another_processor(processor: str) -> None:
    found = _emulated(processor)
    assert found == {"exact": EXACT, "linear": LINEAR_ON_X86}


def test_a_weight_that_another_build_has_otherwise_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 32nd of a pixel to the side moves single pixels, by a gray level or so."""
    remap = cv2.remap

    def otherwise(image: Any, places: Any, shares: Any, *rest: Any, **named: Any) -> Any:
        return remap(image, places, shares ^ 1, *rest, **named)

    monkeypatch.setattr(cv2, "remap", otherwise)
    found = pixels.checksums("exact")
    assert all(found[name] != EXACT[name] for name in EXACT)


def _emulated(processor: str) -> Any:
    assert QEMU
    # The child has the packages of this process, wherever they lie.
    paths = filter(None, sys.path)
    done = subprocess.run(
        [QEMU, "-cpu", processor, sys.executable, "-P", pixels.__file__],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
