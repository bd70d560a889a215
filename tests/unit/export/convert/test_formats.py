"""The format table and what is chosen from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_factory import steering_output
from sepilot_export.convert.formats import FORMATS, choose_formats, format_named, limits_of
from sepilot_export.verify.gates import override
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.cli import main
from sepilot_runtime.contract.contract import Scalar


def test_the_table_has_the_promised_formats() -> None:
    assert [f.name for f in FORMATS] == [
        "float32.tflite", "float16.tflite", "dynamic.tflite", "int8.tflite", "int8-float-head.tflite",
        "sparse.tflite", "float32.onnx", "float16.onnx", "int8.onnx", "int8-twin.onnx",
    ]  # fmt: skip
    for form in FORMATS:
        assert form.name.endswith(f".{form.suffix}")
        assert form.needs_calibration == form.precision.startswith("int8")
        # A file that only just passes its gate where it was made must still load.
        assert form.tolerance <= 0.2
        assert form.limits["max_error"] <= 0.12
    assert all(f.limits["max_error"] == 1e-5 for f in FORMATS if f.precision == "float32")
    assert format_named("int8.tflite").limits["max_error"] * 25 == pytest.approx(3.0)
    assert format_named("int8.tflite").limits["mae_increase"] == 0.002


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["onnx"], ["float32.onnx", "float16.onnx", "int8.onnx", "int8-twin.onnx"]),
        (["int8"], ["int8.tflite", "int8.onnx", "int8-twin.onnx"]),
        (["int8.onnx", "float32.tflite", "int8.onnx"], ["float32.tflite", "int8.onnx"]),
        (["all"], [f.name for f in FORMATS]),
    ],
)
def test_words_choose_formats(words: list[str], names: list[str]) -> None:
    assert [f.name for f in choose_formats(words)] == names


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'int4' is none of float32.tflite.*groups: all, tflite"):
        choose_formats(["int4"])
    with pytest.raises(UsageError):
        choose_formats([])


STEERING, THROTTLE = steering_output(), Scalar(name="throttle", low=0.0, high=1.0)


def test_a_recipe_overrides_single_limits_for_all_outputs_or_one() -> None:
    form = format_named("int8.tflite")
    gates = {"int8": {"max_error": 0.05, "throttle": {"max_error": 0.2}}}
    limits = limits_of(form, gates, [STEERING, THROTTLE])
    # A throttle has no sides to take for each other.
    one_sided = {gate: limit for gate, limit in form.limits.items() if gate != "sign_flips"}
    assert limits == {"steering": {**form.limits, "max_error": 0.05}, "throttle": {**one_sided, "max_error": 0.2}}
    assert limits_of(format_named("int8.onnx"), {"float16": gates["int8"]}, [STEERING]) == {"steering": form.limits}


def test_flags_override_limits() -> None:
    limits = {"steering": format_named("int8.tflite").limits}
    assert override(limits, "int8", ["max_error=0.2", "float16.mae_increase=1"])["steering"]["max_error"] == 0.2
    assert override(limits, "int8", ["int8.mae_increase=0.01"])["steering"]["mae_increase"] == 0.01
    for word in ("max_errors=1", "int4.max_error=1", "max_error", "max_error=much", "max_error=nan", "max_error=-1"):
        with pytest.raises(UsageError, match="--gate"):
            override(limits, "int8", [word])


def test_list_formats_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--list-formats", "--json"]) == 0
    assert [f["name"] for f in json.loads(capsys.readouterr().out)] == [f.name for f in FORMATS]
    assert main(["export", "--list-formats"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(any(line.startswith(f.name) for line in lines) for f in FORMATS)


def test_export_without_a_run_or_place_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export"]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert main(["export", "nowhere", "--out", "x", "--formats", "int4"]) == 2
    assert "int4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--formats", "float32.tflite", "--max-drop", "0.5"],
            "--max-drop: a format that is calibrated expected in --formats, such as int8, found float32.tflite",
        ),
        (["--formats", "float32.tflite", "--layers"], "--layers: a format that is calibrated expected"),
        (["--calibration-frames", "0", "--layers"], "--calibration-frames: at least 16 expected, found 0"),
        (["--layers", "--json"], "--layers: expected without --json"),
    ],
)
def test_options_that_nothing_would_read_are_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path), *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_an_int8_file_of_the_training_has_no_layers_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "int8.tflite").touch()
    words = ["--formats", "int8.tflite", "--layers", "--out", str(tmp_path / "out")]
    assert main(["export", str(tmp_path), *words]) == 2
    assert "found int8.tflite of the training" in capsys.readouterr().err
