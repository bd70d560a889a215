"""A file that `sepilot check` failed is never installed or driven by silently."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from model_factory import write_frames, write_tflite
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.cli import main
from sepilot_runtime.device.checked import failure_of
from sepilot_runtime.device.slots import read_slots

REASONS = ["max error 20.2 deg, at most 3 (0.12 of full scale) allowed", "53 of 2400 frames steered to the other side"]


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    """A file with a check.json beside it that says no."""
    file = write_tflite(tmp_path / "m.tflite")
    write_check(file)
    return file


def write_check(file: Path, engines: dict[str, Any] | None = None, **changes: Any) -> None:
    row = {"file": file.name, "sha256": sha256_of(file), "engine": "litert", "passed": False, "reasons": REASONS}
    record = {"files": [row | changes], "engines": engines or {}}
    (file.parent / "check.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_failed_file_is_installed_only_when_it_is_said(failed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slots = failed.parent / "slots"
    assert main(["install", str(failed), "--slots", str(slots)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(reason in error for reason in REASONS) and "--failed" in error
    assert not slots.exists()
    assert main(["install", str(failed), "--slots", str(slots), "--failed"]) == 0
    assert read_slots(slots).active


def test_a_failed_file_may_look_on(failed: Path) -> None:
    slots = failed.parent / "slots"
    good = write_tflite(failed.parent / "good.tflite", int8=True)
    assert main(["install", str(good), "--slots", str(slots)]) == 0
    assert main(["install", str(failed), "--slots", str(slots), "--shadow"]) == 0
    # And is refused where it is to steer after all.
    assert main(["install", str(failed), "--slots", str(slots)]) == 2


def test_a_failed_file_steers_with_a_warning(failed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--source", str(write_frames(failed.parent / "frames", 2)), "--quiet"]
    assert main(["drive", str(failed), *source]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert said.err.startswith("warning: m.tflite steers, though ") and said.err.count("\n") == 1
    assert REASONS[0] in said.err
    write_check(failed, passed=True)
    assert main(["drive", str(failed), *source]) == 0
    assert capsys.readouterr().err == ""


def test_a_check_counts_for_these_bytes_whatever_they_are_called(failed: Path) -> None:
    assert failure_of(failed)
    assert failure_of(failed.rename(failed.with_name("other.tflite")))
    file = write_tflite(failed.with_name("m.tflite"), gain=0.5)
    assert failure_of(file) is None


def test_what_was_said_of_an_interpreter_goes_first(failed: Path) -> None:
    row = {"sha256": sha256_of(failed), "engine": "openvino", "passed": True, "reasons": []}
    write_check(failed, {"openvino": {"files": [row]}})
    assert failure_of(failed, "openvino") is None and failure_of(failed, "litert") and failure_of(failed)
    write_check(failed, {"openvino": {"files": [row | {"passed": False, "reasons": ["no"]}]}}, passed=True)
    assert failure_of(failed, "litert") is None
    assert str(failure_of(failed, "openvino")).endswith("check.json says that it failed: no")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', '{"files": [1, {}]}', "[" * 100_000, "null", "pipe"])
def test_a_check_that_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    file, path = write_tflite(tmp_path / "m.tflite"), tmp_path / "check.json"
    if text == "pipe":
        os.mkfifo(path)
    else:
        path.write_text(text, encoding="utf-8")
    assert failure_of(file) is None
