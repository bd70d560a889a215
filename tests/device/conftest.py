"""The runtime alone, in processes of its own in which training and export tools cannot be imported."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from model_factory import write_frames, write_onnx, write_tflite
from repository import ROOT

BLOCKER = '''\
"""Python imports this at its start. A device has none of these packages."""

import sys

BLOCKED = {blocked!r}


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {{name!r}}: blocked by the test", name=name)
        return None


sys.meta_path.insert(0, Blocker())
'''

TRAINING_TOOLS = (
    "tensorflow", "keras", "tf_keras", "jax", "onnx", "tf2onnx", "tensorflow_model_optimization", "ai_edge_quantizer",
    "matplotlib", "rich", "psutil", "sepilot_train", "sepilot_export",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Runs Python as on a car.

    Attributes:
        runtime: a copy of the repository's runtime folder, with nothing beside it.
    """

    runtime: Path
    blocker: Path

    def python(self, *arguments: str, blocked: tuple[str, ...] = TRAINING_TOOLS) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS…` with `blocked` packages out of reach."""
        self.blocker.mkdir(exist_ok=True)
        (self.blocker / "sitecustomize.py").write_text(BLOCKER.format(blocked=set(blocked)))
        env = {**os.environ, "PYTHONPATH": str(self.blocker)}
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env)

    def sepilot(self, *arguments: str, blocked: tuple[str, ...] = TRAINING_TOOLS) -> subprocess.CompletedProcess[str]:
        """Run `python runtime VERB …`."""
        return self.python(str(self.runtime), *arguments, blocked=blocked)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    runtime = tmp_path / "car" / "runtime"
    shutil.copytree(ROOT / "runtime", runtime, ignore=shutil.ignore_patterns("__pycache__"))
    return Device(runtime=runtime, blocker=tmp_path / "blocker")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model in every format that a car runs."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "float32.tflite": write_tflite(folder / "float32.tflite"),
        "int8.tflite": write_tflite(folder / "int8.tflite", int8=True),
        "float32.onnx": write_onnx(folder / "float32.onnx"),
    }


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("images") / "frames", 6)


@pytest.fixture
def cpu_seconds() -> Callable[[Callable[[], object]], float]:
    """Processor time of the child processes that a call starts: steady on a busy machine, unlike the clock."""

    def measured(call: Callable[[], object]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        call()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return measured
