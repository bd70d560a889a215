"""The same code on other processors, for tests: `under("Haswell")` runs files or Python there, or skips the test.

x86-64 classes need qemu-user-static. The aarch64 ones are run only where `scripts/check-processors` has made their tree
already, which takes minutes.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arm_tree import arm_pythons
from numpy.typing import NDArray
from processor_answers import USUAL
from processor_runs import ask
from processors import clean_environment, processor_named, python_under, why_not

from sepilot_train.base.cache import default_cache

USERS_CACHE = default_cache()  # Before a test is given one of its own.
LIMIT_S = 240


class Under:
    """A processor that this machine has or emulates."""

    def __init__(self, python: Sequence[str]) -> None:
        self._python = python

    def answers(self, path: Path, inputs: Sequence[NDArray[np.uint8]], engine: str = USUAL) -> NDArray[np.float64]:
        """(n,) answers of a model file to pictures, or to frames where it takes those; its golden frames have passed.

        Raises:
            AssertionError: the file does not open, a golden frame fails, or the process dies.
        """
        job = f"{engine}:{path.resolve()}"
        with tempfile.TemporaryDirectory() as folder:
            frames = Path(folder) / "frames.npz"
            np.savez(frames, inputs=np.stack(list(inputs)))
            answer: dict[str, Any] = ask(self._python, frames, [job], LIMIT_S)[job]
        assert "error" not in answer, answer["error"]
        assert answer["golden"] is None, answer["golden"]
        return np.array(answer["answers"])

    def python(self, code: str, *words: str) -> str:
        """What a piece of Python prints; numpy, OpenCV and sepilot_runtime are there, and `words` in sys.argv[1:].

        Raises:
            AssertionError: it ends with another exit code than 0.
        """
        done = subprocess.run(
            [*self._python, "-c", code, *words],
            capture_output=True, text=True, env=clean_environment(), timeout=LIMIT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


def under(name: str) -> Under:
    """The processor that scripts/processors.py calls `name`; the test is skipped, with the reason, without it."""
    processor = processor_named(name)
    if reason := why_not(processor):
        pytest.skip(f"{name}: {reason}")
    arms = arm_pythons(USERS_CACHE, make=False) if processor.machine == "aarch64" else {}
    if processor.machine == "aarch64" and not arms:
        pytest.skip(f"{name}: there is no aarch64 tree yet; it is made by: scripts/check-processors EXPORT_DIR")
    return Under(python_under(processor, arms))
