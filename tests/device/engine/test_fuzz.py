"""`scripts/fuzz-models`, short: no changed file is accepted, and the count of what goes wrong is not blind."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from model_factory import contract_of, write_onnx, write_tflite
from repository import ROOT

pytest.importorskip("cryptography", reason="the fuzzer signs its originals: extra `signing`")
pytest.importorskip("onnx", reason="the fuzzer puts contracts into files: extra `export`")

SCRIPT = ROOT / "scripts" / "fuzz_models.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_models", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_changed_files_are_refused(tmp_path: Path) -> None:
    files = [write_tflite(tmp_path / "a.tflite"), write_tflite(tmp_path / "b.tflite", int8=True)]
    files.append(write_onnx(tmp_path / "c.onnx"))
    argv = [sys.executable, str(SCRIPT), *map(str, files), "--count", "300", "--workers", "1"]
    done = subprocess.run([*argv, "--json", str(tmp_path / "found.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = json.loads((tmp_path / "found.json").read_text())["kinds"]
    for kind in ("bytes", "contract", "hostile contract"):
        assert kinds[kind]["refused"] > 15
        assert kinds[kind]["accepted"] == kinds[kind]["crashed"] == kinds[kind]["hung"] == 0
    for kind in ("consistent bytes", "consistent contract"):
        assert kinds[kind]["refused"] > 10 and kinds[kind]["accepted"] == kinds[kind]["unsigned"]


def test_every_kind_of_change_changes(fuzz: ModuleType, tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "m.tflite")
    content, contract = path.read_bytes(), contract_of().to_json()
    for change in fuzz.BYTE_CHANGES:
        assert any(change(random.Random(seed), content) != content for seed in range(20)), change
    hostile = {fuzz.contract_hostile(random.Random(seed), contract) for seed in range(300)}
    assert len(hostile) >= sum(map(len, fuzz.HOSTILE.values())) * 0.9
    texts = {fuzz.contract_changed(random.Random(seed), contract, fitting=True) for seed in range(100)}
    assert len(texts - {contract}) > 80


WORKER = """
import os, sys, time
for _ in range(2):
    print("refused", flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("end", "outcome", "note"),
    [
        ("os.abort()", "crashed", "ended with -6"),
        ("time.sleep(60)", "hung", "said nothing for 1.5 s"),
        ("1 / 0", "crashed", "ended with 1"),
    ],
)
def test_a_worker_that_dies_or_falls_silent_is_counted_and_replaced(
    end: str, outcome: str, note: str, fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(end=end))
    monkeypatch.setattr(fuzz, "__file__", str(script))
    monkeypatch.setattr(fuzz, "SILENCE_S", 1.5)
    counts, notes = fuzz.run([], 6, 0, 1)
    assert sum(counts.values()) == 6
    assert sum(n for (_, found), n in counts.items() if found == outcome) == 2
    assert sum(n for (_, found), n in counts.items() if found == "refused") == 4
    assert len(notes) == 2 and notes[0].endswith(f"number 2 of seed 0 {note}")


def test_an_accepted_file_fails_the_run(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "worker.py"
    script.write_text('for _ in range(200): print("accepted", flush=True)')
    monkeypatch.setattr(fuzz, "__file__", str(script))
    monkeypatch.setattr(fuzz, "BATCH", 200)
    model = write_tflite(tmp_path / "m.tflite")
    assert fuzz.main([str(model), "--count", "200", "--workers", "1"]) == 1
    script.write_text('for _ in range(200): print("refused", flush=True)')
    assert fuzz.main([str(model), "--count", "200", "--workers", "1"]) == 0
    assert "200 files in" in capsys.readouterr().out
