"""The demo goes on past a file that fails, and says so in the end."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from repository import ROOT

LOST = {"format": "int8-twin.onnx", "reason": "11 output steps away", "way_out": "take int8.onnx"}


def row(name: str, reasons: list[str], golden_error: float | None = 0.0) -> dict[str, Any]:
    found = {"file": name, "precision": "int8", "engine": "litert", "bytes": 9, "golden_error": golden_error}
    figures = dict.fromkeys(("mean_error_deg", "p99_error_deg", "max_error_deg", "task_mae"), 0.1)
    return (
        found | figures | {"passed": not reasons, "reasons": reasons, "next_step": "export again" if reasons else None}
    )


ROWS = [row("a.tflite", ["max error 20 deg"]), row("b.onnx", []), row("c.onnx", ["golden frame 0"], None)]


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, in an empty folder, with commands that only leave their results behind."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "scripts" / "demo.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["demo"])
    module.codes, module.said = {"export": 1, "check": 1}, []

    def run(head: str, step: Any) -> int:
        words = [str(word) for word in step.arguments()]
        module.said.append(words)
        code = int(module.codes.get(words[0], 0))
        if code < 2:
            leave(module, step.result)
        return code

    monkeypatch.setattr(module, "run", run)
    yield module


def leave(demo: ModuleType, path: Path) -> None:
    """What a step's command would have written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents: dict[Path, dict[str, Any]] = {
        demo.DRIVING.check: {"files": ROWS, "not_exported": [LOST]},
        demo.DRIVING.bench: {"rows": [{"file": name, "us_p50": 30.0} for name in ("a.tflite", "b.onnx")]},
        demo.DRIVING.closed_loop: {"results": []},
    }
    if path in contents:
        path.write_text(json.dumps(contents[path]))
    elif path.suffix in (".keras", ".mp4", ".html"):
        path.write_bytes(b"")
        metrics = {"r2": 0.9, "mae": 0.1, "constant_mae": 0.5}
        demo.DRIVING.run.mkdir(parents=True, exist_ok=True)
        (demo.DRIVING.run / "validation.json").write_text(json.dumps({"metrics": metrics, "seconds": 1}))
    else:
        path.mkdir()
        (path / "manifest.json").write_text("")


FAILED = [
    "FAILED a.tflite: max error 20 deg; next: export again",
    "FAILED c.onnx: golden frame 0; next: export again",
    "FAILED int8-twin.onnx: was not exported: 11 output steps away; next: take int8.onnx",
]


def test_a_failing_file_does_not_end_the_demo_and_is_named_last(
    demo: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main() == 1
    assert [words[0] for words in demo.said][-4:] == ["bench", "closed-loop", "drive", "report"]
    bench, loop, drive = demo.said[-4], demo.said[-3], demo.said[-2]
    # What fails its golden frames cannot be run, and what fails a gate is not shown at the wheel.
    assert bench[1:3] == loop[1:3] == ["demo/export/a.tflite", "demo/export/b.onnx"] and "c.onnx" not in " ".join(bench)
    assert drive[1] == "demo/export/b.onnx"
    assert capsys.readouterr().out.splitlines()[-3:] == FAILED
    summary = json.loads(demo.DRIVING.summary.read_text())
    assert [f["file"] for f in summary["failed"]] == ["a.tflite", "c.onnx", "int8-twin.onnx"]
    assert [f["us_p50"] for f in summary["formats"]] == [30.0, 30.0, None]


def test_a_demo_that_is_kept_still_says_what_failed(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    demo.main()
    demo.said.clear()
    capsys.readouterr()
    assert demo.main() == 1 and demo.said == []
    assert capsys.readouterr().out.splitlines()[-3:] == FAILED


@pytest.mark.parametrize("verb", ["train", "export", "bench"])
def test_a_command_that_breaks_ends_the_demo(demo: ModuleType, verb: str) -> None:
    demo.codes[verb] = 2
    assert demo.main() == 2 and demo.said[-1][0] == verb and not demo.DRIVING.summary.exists()
