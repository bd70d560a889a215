"""What tests may use: real drives where they are present, a private cache, no warnings that hide.

tests/unit     one module at a time, tiny inputs.
tests/parity   Keras against the exported files; TensorFlow allowed.
tests/device   the runtime alone; TensorFlow, Keras and the ONNX tool chain are blocked from import there.
tests/golden   the command line from end to end, as a user runs it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Before any test imports TensorFlow: its start-up chatter drowns the output, and two threads are what CI has.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


def pytest_configure() -> None:
    try:
        from hypothesis import settings
    except ModuleNotFoundError:
        return
    # A random example must never be why a green build turns red.
    settings.register_profile("sepilot", derandomize=True, deadline=None, max_examples=60)
    settings.load_profile("sepilot")


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's own picture cache."""
    base = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("SEPILOT_CACHE", str(base))


@pytest.fixture(scope="session")
def real_drives() -> Path:
    """The folder of real drives recorded by others; the test is skipped where it is absent."""
    folder = Path(os.environ.get("SEPILOT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "club_track_run_a" / "manifest.json").exists():
        pytest.skip(f"real drives are absent: no club_track_run_a in {folder}; set SEPILOT_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def real_sets() -> Path:
    """The folder of labelled sets made by others; the test is skipped where it is absent."""
    folder = Path(os.environ.get("SEPILOT_SETS", ROOT.parent / "shared" / "task_data"))
    if not (folder / "detection").is_dir():
        pytest.skip(f"real sets are absent: no detection in {folder}; set SEPILOT_SETS to their folder")
    return folder
