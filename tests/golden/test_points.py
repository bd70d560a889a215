"""Points go from a set of pictures through the whole command line, and what spoils a file is caught by its gates."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sepilot_export.verify.reference import REFERENCE_NAME, Reference, read_reference
from sepilot_runtime.cli import main
from sepilot_runtime.contract.outputs.points.output import Points
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_train.run.run import open_run
from set_factory import disc_scenes, write_coco

RECIPE = """
name = "ends"
summary = "where the red disc has its ends"
picture = {height = 24, width = 32, color = "bgr"}
model = {builder = "landmarks", options = {stem = 12, widths = [16, 24], repeats = [0, 0], squeeze = 12, dense = [48]}}
[training]
epochs = 40
batch_size = 20
learning_rate = 0.01
keep = "last"
[augmentation]
mirror = 0.5
shift_x = 0.05
[outputs.points]
kind = "points"
flip_pairs = [["corner", "other"]]
skeleton = [["corner", "other"]]
normalize_by = ["corner", "other"]
"""
FORMATS = "float32.tflite,int8.tflite,float32.onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("points")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    for side, count, seed in (("train", 200, 0), ("val", 60, 1)):
        write_coco(folder / "set", disc_scenes(count, np.random.default_rng(seed)), side=side, points=True)
    (folder / "ends.toml").write_text(RECIPE)
    words = ["train", str(folder / "set"), "--recipe", str(folder / "ends.toml")]
    assert main([*words, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run: Path, folder: Path) -> Path:
    assert main(["export", str(run), "--formats", FORMATS, "--out", str(folder / "export")]) == 0
    return folder / "export"


def test_a_run_learns_points_and_says_what_it_learned(run: Path) -> None:
    output = open_run(run).contract.output("points")
    assert isinstance(output, Points) and output.names == ("corner", "other", "middle") and output.presence
    figures = json.loads((run / "validation.json").read_text())["metrics"]
    assert figures["mae"] < 0.5 * figures["constant_mae"] and figures["presence_accuracy"] > 0.9
    assert {path.stem for path in (run / "figures").glob("*.png")} >= {"errors", "points", "examples", "pictures"}


def test_files_pass_their_own_gates_and_answer_by_name(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(exported)]) == 0
    files = json.loads((exported / "check.json").read_text())["files"]
    assert [row["format"] for row in files] == FORMATS.split(",")
    for row in files:
        assert list(row["outputs"]["points"]["limits"]) == ["max_error", "shift_p99", "mae_increase", "flips"]
    pilot = load_pilot(next(exported.glob("*int8.tflite")))
    scenes = disc_scenes(40, np.random.default_rng(9))
    said = [pilot.predict(scene.picture).values["points"] for scene in scenes]
    assert np.mean([bool(s["points"]) == bool(scene.points) for s, scene in zip(said, scenes, strict=True)]) > 0.9
    off = [
        abs(s["points"]["middle"][0] - scene.points[2][0])
        for s, scene in zip(said, scenes, strict=True)
        if s["points"] and scene.points
    ]
    assert np.median(off) < 0.08 * 32, "in pixels of the frame"


def x_for_y(reference: Reference) -> Reference:
    """The file gives y before x."""
    turned = reference.predictions["points"].copy()
    turned[:, :6] = turned[:, [1, 0, 3, 2, 5, 4]]
    return dataclasses.replace(reference, predictions={"points": turned})


def without_pairs(reference: Reference) -> Reference:
    """The file was trained on mirrored pictures whose points kept their names."""
    turned = reference.predictions["points"].copy()
    turned[:, :4] = turned[:, [2, 3, 0, 1]]
    return dataclasses.replace(reference, predictions={"points": turned})


def as_rgb(reference: Reference) -> Reference:
    """The file is shown pictures with red and blue exchanged."""
    return dataclasses.replace(reference, pictures=np.ascontiguousarray(reference.pictures[..., ::-1]))


def in_a_letterbox(reference: Reference) -> Reference:
    """The file is shown pictures between bars, which the training model saw stretched."""
    boxed = np.full_like(reference.pictures, 114)
    boxed[:, 3:-3] = [cv2.resize(picture, (32, 18)) for picture in reference.pictures]
    return dataclasses.replace(reference, pictures=boxed)


@pytest.mark.parametrize("spoil", [x_for_y, without_pairs, as_rgb, in_a_letterbox])
def test_what_spoils_a_file_is_caught(
    spoil: Callable[[Reference], Reference], exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(exported, tmp_path / "other")
    spoil(read_reference(other)).save(other / REFERENCE_NAME)
    assert main(["check", str(other)]) == 1
    assert "shift of a point" in " ".join(capsys.readouterr().out.split())


def test_what_shows_answers_shows_these(exported: Path, run: Path, folder: Path) -> None:
    assert main(["report", str(run), "--export", str(exported), "--out", str(folder / "report.html")]) == 0
    assert "Mean shape" in (folder / "report.html").read_text()
    file = str(next(exported.glob("*int8.tflite")))
    pictures = str(folder / "set" / "val2017")
    assert main(["explain", file, "--frames", pictures, "--count", "2", "--out", str(folder / "explained.png")]) == 0
