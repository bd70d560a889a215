"""A foreign .onnx file under a contract: what the file says, what is stated, and what catches a wrong statement."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drive_factory import angles
from foreign_models import (
    COUNT,
    CROP_TOP,
    MEAN,
    STD,
    adopted,
    throttles,
    write_drive,
    write_mobilenet_onnx,
    write_several_onnx,
)
from model_factory import write_onnx
from sepilot_export.commands import adopt, check, export
from sepilot_runtime import cli
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.exit_codes import run_verb
from sepilot_runtime.engine.pilot import load_pilot

TOML = f"""
[picture]
color = "rgb"
mean = {list(MEAN)}
std = {list(STD)}
crop_top = {CROP_TOP}
"""

STEERING = """
[outputs.steering]
index = 0
unit = "deg"
scale = 25.0
positive = "right"
"""

THROTTLE = """
[outputs.throttle]
index = 1
low = 0.0
positive = "forward"
"""


@pytest.fixture(scope="module")
def tub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("drive") / "tub")


@pytest.fixture(scope="module")
def foreign(tub: Path) -> Path:
    """A net that steers by the tub, and gives the throttle beside it in one tensor."""
    frames = [cv2.imread(str(tub / "images" / f"{i}_cam_image_array_.jpg")) for i in range(COUNT)]
    labels = np.stack([angles(COUNT), throttles()], axis=1)
    return write_mobilenet_onnx(tub.parent / "pilot.onnx", frames, labels, outputs=2)


def test_a_file_of_pytorch_becomes_one_that_is_checked_driven_and_installed(
    foreign: Path, tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adopted"
    assert adopted(foreign, tub, out, TOML + STEERING + THROTTLE) == 0
    printed = capsys.readouterr()
    assert "held against openvino" in printed.out and not printed.err
    file = out / "pilot-float32.onnx"
    pilot = load_pilot(file)
    frame = cv2.imread(str(tub / "images" / "9_cam_image_array_.jpg"))
    prediction = pilot.predict(frame)
    assert prediction.values["steering"] == pytest.approx(angles(COUNT)[9], abs=0.1)
    assert prediction.values["throttle"] == pytest.approx(throttles()[9], abs=0.1)
    assert pilot.contract.picture.color == "bgr", "the car's frames, whatever the file wanted"
    assert run_verb(lambda: check.main([str(out), "--json"])) == 0
    assert "openvino" in json.loads(capsys.readouterr().out)["reference"]["source"]
    for argv in (
        ["bench", str(file), "--rounds", "1", "--calls", "2", "--cold-starts", "0"],
        ["drive", str(file), "--source", str(tub), "--quiet"],
        ["compare", str(file), str(file), "--frames", str(tub), "--max-frames", "9"],
        ["explain", str(file), "--frames", str(tub), "--max-frames", "4"],
        ["install", str(file), "--slots", str(tmp_path / "slots")],
    ):
        assert cli.main(argv) == 0, (argv[0], capsys.readouterr().err)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('color = "rgb"', 'color = "bgr"', "--set picture.color=rgb"),
        (f"crop_top = {CROP_TOP}", "crop_top = 0.0", f"--set picture.crop_top={CROP_TOP}"),
        (f"mean = {list(MEAN)}\nstd = {list(STD)}", 'range = "0..255"', "picture.range="),
        ('positive = "right"', 'positive = "left"', "(the other sign)"),
        ("index = 0\nunit", "factor = 25.0\nunit", "(degrees)"),
    ],
    ids=["colours", "crop", "range", "sign", "scale"],
)
def test_a_wrong_statement_is_caught_by_the_labels(
    old: str, new: str, told: str, foreign: Path, tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TOML + STEERING
    assert old in text
    out = tmp_path / "adopted"
    assert adopted(foreign, tub, out, text.replace(old, new)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sepilot: ")]
    assert "labels" in line and told in line and "--accept-labels" in line
    assert not out.exists()
    assert adopted(foreign, tub, out, text.replace(old, new), "--accept-labels") == 0


def test_exchanged_outputs_are_caught_by_the_labels(
    foreign: Path, tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (TOML + STEERING + THROTTLE).replace("index = 0", "index = 9").replace("index = 1", "index = 0")
    assert adopted(foreign, tub, tmp_path / "adopted", text.replace("index = 9", "index = 1")) == 1
    assert "steering and throttle exchanged" in capsys.readouterr().err


def test_a_wrong_wrapping_is_caught_by_the_other_interpreter(
    foreign: Path, tub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sepilot_export.pipeline import adopt as pipeline

    def swapped(content: bytes, plan: object) -> bytes:
        import dataclasses

        return wrap(content, dataclasses.replace(plan, reversed=False))  # type: ignore[arg-type,type-var]

    wrap = pipeline.wrap_onnx
    monkeypatch.setattr(pipeline, "wrap_onnx", swapped)
    assert adopted(foreign, tub, tmp_path / "adopted", TOML + STEERING) == 2
    assert "golden frame" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "adopted.toml"], "nothing half-written"


def test_without_labels_it_says_that_nobody_can_tell(
    foreign: Path, tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopted(foreign, tub / "images", tmp_path / "adopted", TOML + STEERING) == 0
    assert "steering: no labels, so nobody can tell" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STEERING, "picture.color: rgb or bgr expected: the file takes input float32[1, 3, 24, 32] and gives output"),
        (TOML, "outputs.NAME: at least one output of the car expected"),
        (TOML + STEERING.replace("index", 'tensor = "no"\nindex'), "outputs.steering.tensor: one of output expected"),
        (TOML + STEERING.replace("index = 0", "index = 2"), "index of a number in output float32[1, 2]"),
        (TOML + STEERING + "[picture.more]\n", "picture.more: unknown key"),
        (TOML + STEERING.replace("25.0", "45.0"), "full scale of 45 degrees expected"),
    ],
)
def test_what_is_missing_is_asked_for_in_one_line(
    text: str, told: str, foreign: Path, tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopted(foreign, tub, tmp_path / "adopted", text) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "adopted").exists()


def test_a_file_that_only_one_interpreter_runs_needs_a_word(
    foreign: Path, tub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sepilot_export.verify import second_opinion

    def broken(*_: object) -> None:
        raise ModelFileError("knows no such operation")

    monkeypatch.setattr(second_opinion, "OPINIONS", dict.fromkeys(second_opinion.OPINIONS, ("none", "nobody", broken)))
    assert adopted(foreign, tub, tmp_path / "adopted", TOML + STEERING) == 2
    line = capsys.readouterr().err
    assert "openvino: knows no such operation" in line and "--accept-single-engine" in line
    assert adopted(foreign, tub, tmp_path / "adopted", TOML + STEERING, "--accept-single-engine") == 0
    assert "nobody else has checked its answers" in capsys.readouterr().err


def test_what_is_no_picture_is_refused(tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_several_onnx(tmp_path / "several.onnx")
    assert adopted(file, tub, tmp_path / "adopted", TOML + STEERING) == 2
    assert "picture.tensor: one of none expected: the file takes bytes uint8[1, 5]" in capsys.readouterr().err
    assert run_verb(lambda: adopt.main([str(file), "--show"])) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "gives first float32[1, 5]"


@pytest.mark.parametrize("words", [("x.pt",), ("missing.onnx",), ("missing.onnx", "--out", "x")])
def test_paths_are_looked_at_first(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(lambda: adopt.main(words)) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_verbs_that_need_a_contract_name_the_one_that_gives_it(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for call in (lambda: check.main([str(foreign)]), lambda: export.main([str(foreign), "--out", "x"])):
        assert run_verb(call) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"`sepilot adopt {foreign}`" in line


def test_a_file_that_has_a_contract_needs_none(tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adopted(write_onnx(tmp_path / "own.onnx"), tub, tmp_path / "adopted", TOML + STEERING) == 2
    assert "a file without a contract expected, it has one" in capsys.readouterr().err
