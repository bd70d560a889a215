"""`sepilot check` of a net with two numbers: each has gates of its own, and neither stands in for the other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from export_factory import write_record
from model_factory import (
    BIAS,
    PICTURE,
    THROTTLE_BIAS,
    frames,
    steering_of,
    two_output_contract,
    write_onnx,
    write_tflite,
)
from sepilot_export.convert.formats import format_named
from sepilot_export.verify.reference import REFERENCE_NAME, Reference, read_reference
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.cli import main
from sepilot_runtime.contract.preprocess import picture_of

COUNT = 150
FORMS = ("float32.tflite", "int8.tflite", "float32.onnx")
MORE = {"throttle": THROTTLE_BIAS}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder, contract = tmp_path / "export", two_output_contract()
    folder.mkdir()
    write_tflite(folder / "ramp-float32.tflite", contract, more=MORE)
    write_tflite(folder / "ramp-int8.tflite", contract, int8=True, more=MORE)
    write_onnx(folder / "ramp-float32.onnx", contract, more=MORE)
    pictures = np.stack([picture_of(f, PICTURE) for f in frames(COUNT, seed=1)])
    steering = np.array([steering_of(p) for p in pictures], np.float32)
    answers = {"steering": steering, "throttle": steering - np.float32(BIAS) + np.float32(THROTTLE_BIAS)}
    driver = (steering + np.random.default_rng(0).normal(0, 0.15, COUNT)).clip(-1, 1).astype(np.float32)
    Reference(
        pictures=pictures,
        drives=("held",) * COUNT,
        names=tuple(map(str, range(COUNT))),
        labels={"steering": driver, "throttle": np.full(COUNT, np.nan, np.float32)},
        predictions=answers,
        constant={"steering": 0.0, "throttle": 0.4},
        contract=contract,
    ).save(folder / REFERENCE_NAME)
    outputs = {form: format_named(form).limits for form in FORMS}
    rows = [
        {"format": f, "sha256": "", "outputs": {name: {"limits": dict(outputs[f])} for name in answers}} for f in FORMS
    ]
    write_record(folder, rows)
    return folder


def checked(folder: Path, *words: str, code: int) -> dict[str, dict]:  # type: ignore[type-arg]
    assert main(["check", str(folder), *words]) == code
    return {row["format"]: row for row in json.loads((folder / "check.json").read_text())["files"]}


def test_each_output_has_its_figures_and_its_row(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = checked(exported, code=0)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 80 and printed.count("  steering°") == printed.count("  throttle ") == len(FORMS)
    assert "steering: R²" in printed and "throttle: R²" not in printed, "nobody recorded a throttle"
    int8 = rows["int8.tflite"]
    assert list(int8["outputs"]) == ["steering", "throttle"]
    steering, throttle = int8["outputs"].values()
    assert (steering["unit"], throttle["unit"]) == ("deg", "")
    # One output step each, of which a degree scale makes 25 times as much.
    assert 0 < throttle["max_error"] < 0.02 < steering["max_error"] < 0.4
    assert "sign_flips" in steering["figures"] and "sign_flips" not in throttle["figures"]
    assert throttle["figures"]["mae_increase"] is None and throttle["task_mae"] is None
    assert int8["max_error_deg"] == steering["max_error"], "what was there before stays"


def test_a_fault_in_the_second_output_fails_the_file(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_onnx(exported / "ramp-float32.onnx", two_output_contract(), more={"throttle": THROTTLE_BIAS + 0.2})
    rows = checked(exported, code=1)
    bad = rows["float32.onnx"]
    assert [rows[form]["passed"] for form in FORMS] == [True, True, False]
    assert bad["outputs"]["steering"]["max_error"] < 1e-4 and not bad["outputs"]["throttle"]["passed"]
    assert any(reason.startswith("throttle: max error 0.2 ") for reason in bad["reasons"])
    assert not any(reason.startswith("steering: ") for reason in bad["reasons"])
    assert "FAIL ramp-float32.onnx: throttle: max error" in " ".join(capsys.readouterr().out.split())


def test_swapped_outputs_fail_in_both(exported: Path) -> None:
    """The tensors are those of the right net, each under the other's name."""
    write_tflite(exported / "ramp-float32.tflite", two_output_contract(), bias=THROTTLE_BIAS, more={"throttle": BIAS})
    bad = checked(exported, code=1)["float32.tflite"]
    for name in ("steering", "throttle"):
        assert any(reason.startswith(f"{name}: max error") for reason in bad["reasons"]), name


def test_an_output_of_another_name_has_no_figures(exported: Path) -> None:
    contract = two_output_contract()
    other = tuple(dataclasses.replace(o, name="speed") if o.name == "throttle" else o for o in contract.outputs)
    golden = tuple(
        dataclasses.replace(g, expected={n.replace("throttle", "speed"): v for n, v in g.expected.items()})
        for g in contract.golden
    )
    tolerance = {o.name: 1e-4 for o in other}
    renamed = dataclasses.replace(contract, outputs=other, golden=golden, tolerance=tolerance)
    write_onnx(exported / "ramp-float32.onnx", renamed, more={"speed": THROTTLE_BIAS})
    bad = checked(exported, code=1)["float32.onnx"]
    assert bad["outputs"] == {} and any("outputs[1].name" in reason for reason in bad["reasons"])


def test_gates_may_be_of_one_output(exported: Path) -> None:
    rows = checked(exported, "--gate", "int8.throttle.max_error=0.0001", code=1)
    assert [rows[form]["passed"] for form in FORMS] == [True, False, True]
    outputs = rows["int8.tflite"]["outputs"]
    assert outputs["steering"]["passed"] and not outputs["throttle"]["passed"]
    assert outputs["throttle"]["limits"]["max_error"] == 0.0001 < outputs["steering"]["limits"]["max_error"]


def test_the_reference_holds_answers_by_name_and_reads_older_files(exported: Path, tmp_path: Path) -> None:
    found = read_reference(exported)
    assert list(found.predictions) == list(found.labels) == list(found.constant) == ["steering", "throttle"]
    with np.load(exported / REFERENCE_NAME) as data:
        arrays = {key: data[key] for key in data.files}
    del arrays["answer:throttle"]
    np.savez(exported / REFERENCE_NAME, **arrays)
    with pytest.raises(RunError, match="answers of steering, throttle expected, found steering"):
        read_reference(exported)
