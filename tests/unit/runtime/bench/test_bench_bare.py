"""Files without a contract are timed at once, and the table says what nobody knows about them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foreign_models import write_mobilenet_onnx, write_several_onnx
from model_factory import write_onnx, write_tflite
from sepilot_runtime import cli
from sepilot_runtime.engine.bare import open_bare, random_inputs

ONCE = ("--rounds", "2", "--calls", "3", "--cold-starts", "0")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sepilot_runtime.bench.roofline.gemm_rate", lambda: 50.0)


def test_anybodys_files_are_benched_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        write_tflite(tmp_path / "other.tflite", text="", int8=True, output_name="Identity"),
        write_mobilenet_onnx(tmp_path / "mobilenet.onnx"),
        write_several_onnx(tmp_path / "several.onnx"),
    ]
    words = ["bench", *map(str, files), *ONCE, "--engine", "litert,onnxruntime,openvino"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "random inputs to outputs" in printed and "to angle" not in printed
    assert printed.count("no contract: answers not checked") == 6
    assert max(map(len, printed[printed.index("file ") :].splitlines())) <= 80
    assert cli.main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["file"], row["engine"]) for row in rows] == [
        ("other.tflite", "litert"), ("mobilenet.onnx", "onnxruntime"), ("several.onnx", "onnxruntime"),
        ("other.tflite", "openvino"), ("mobilenet.onnx", "openvino"), ("several.onnx", "openvino"),
    ]  # fmt: skip
    assert not any(row["contract"] for row in rows)
    assert all(row["us_p50"] > 0 for row in rows)


def test_it_stands_beside_files_with_a_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(write_onnx(tmp_path / "own.onnx")), str(write_mobilenet_onnx(tmp_path / "other.onnx"))]
    assert cli.main(["bench", *files, *ONCE]) == 0
    printed = capsys.readouterr().out
    assert "to angle" in printed and printed.count("no contract") == 1


def test_its_cold_start_is_measured_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_several_onnx(tmp_path / "several.onnx")
    assert cli.main(["bench", str(file), *ONCE[:-1], "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["cold_start"]["seconds"] > 0 and row["cold_start"]["peak_rss_bytes"] > 1e6


@pytest.mark.parametrize("words", [("--paced", "30"), ("--frames", "x"), ("--write-profile", "p.json")])
def test_what_needs_a_contract_is_refused_in_one_line(
    words: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_mobilenet_onnx(tmp_path / "other.onnx")
    assert cli.main(["bench", str(file), *ONCE, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sepilot: {words[0]}: ") and f"`sepilot adopt {file}`" in line


def test_interpreters_call_everything_the_same_and_agree(tmp_path: Path) -> None:
    tflite = write_tflite(tmp_path / "other.tflite", text="", int8=True, output_name="Identity")
    onnx = write_mobilenet_onnx(tmp_path / "other.onnx")
    for path, engines in ((tflite, ("litert", "openvino")), (onnx, ("onnxruntime", "openvino"))):
        one, other = (open_bare(path, engine=name) for name in engines)  # type: ignore[arg-type]
        assert [t.name for t in one.inputs + one.outputs] == [t.name for t in other.inputs + other.outputs]
        assert [t.affine is None for t in one.outputs] == [t.affine is None for t in other.outputs]
        feed = random_inputs(one, seed=1)
        for name, values in one.run(feed).items():
            np.testing.assert_allclose(values, other.run(feed)[name], atol=1 if values.dtype == np.int8 else 1e-5)


def test_drive_sends_it_to_adopt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_mobilenet_onnx(tmp_path / "other.onnx")
    assert cli.main(["drive", str(file), "--source", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"sepilot: {file}: no contract; bring it under one with `sepilot adopt {file}`\n"
