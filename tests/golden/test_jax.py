"""Training on JAX with TensorFlow out of reach, and the run exported by the TensorFlow side unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sepilot_runtime.cli import main

pytestmark = pytest.mark.slow

WITHOUT_TENSORFLOW = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_keras", "tensorflow_model_optimization"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked by the test)", name=name)

sys.meta_path.insert(0, Block())
from sepilot_runtime.cli import main
code = main(sys.argv[1:])
assert "tensorflow" not in sys.modules
import keras
assert keras.backend.backend() == "jax"
sys.exit(code)
"""


def test_a_run_trained_on_jax_is_exported_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jax", reason="JAX is not installed")
    drives, run, exported = tmp_path / "drives", tmp_path / "run", tmp_path / "export"
    assert main(["record", "--simulator", "builtin", "--drives", "2", "--frames", "120", "--out", str(drives)]) == 0
    small = ["--set", "training.epochs=2", "--set", "training.batch_size=32", "--set", "training.ema=0.9"]
    small += ["--set", "training.min_epoch_frames=1600"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, "train", str(drives), *small, "--out", str(run)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    capsys.readouterr()
    formats = "float32.tflite,float32.onnx"
    assert main(["export", str(run), "--formats", formats, "--out", str(exported)]) == 0
    capsys.readouterr()
    # The gate compares with the predictions that JAX made.
    assert main(["check", str(exported), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["files"]
    assert len(rows) == 2 and all(r["passed"] for r in rows)
    with np.load(run / "predictions.npz") as data:
        assert np.ptp(data["answer:steering"]) > 0
