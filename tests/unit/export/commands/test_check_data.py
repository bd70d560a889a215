"""A classifier that was made elsewhere: adopted by what its labels say, and scored on sets of pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from foreign_models import CROP_TOP, MEAN, STD, adopted, write_classifier_onnx
from model_factory import write_onnx
from sepilot_export.commands import check
from sepilot_export.convert.stated_outputs import StatedClasses, Taken
from sepilot_runtime.base.bootstrap import grouped_mean
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.exit_codes import run_verb
from sepilot_runtime.engine.bare import Tensor
from sepilot_runtime.engine.pilot import load_pilot
from set_factory import NAMES, write_class_folders

STATED = f"""
[picture]
color = "rgb"
mean = {list(MEAN)}
std = {list(STD)}
crop_top = {CROP_TOP}
[outputs.class]
kind = "classes"
"""
NAMED = STATED + f"names = {json.dumps(NAMES)}\n"
SIZE = (32, 32)


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("sets") / "signs", NAMES, 16, SIZE)


@pytest.fixture(scope="module")
def foreign(signs: Path) -> Path:
    """A net that knows the classes of `signs`, in the natural order of their folders."""
    files = sorted(signs.rglob("*.png"))
    order = sorted(NAMES)
    labels = [order.index(file.parent.name) for file in files]
    return write_classifier_onnx(signs.parent / "signs.onnx", [cv2.imread(str(file)) for file in files], labels)


@pytest.fixture(scope="module")
def file(foreign: Path, signs: Path) -> Path:
    out = foreign.parent / "adopted"
    assert adopted(foreign, signs, out, STATED) == 0
    return out / "signs-float32.onnx"


def test_a_classifier_is_adopted_with_the_names_of_the_folders(
    foreign: Path, file: Path, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopted(foreign, signs, tmp_path / "out", STATED) == 0
    told = capsys.readouterr().err
    assert "natural order" in told and "'car', 'cone', 'sign'" in told and "gives logits" in told
    pilot = load_pilot(file)
    for name in NAMES:
        said = pilot.predict(cv2.imread(str(signs / name / "00003.png"))).values["class"]
        assert said["class"] == name and said["probability"] > 0.5
    assert run_verb(lambda: check.main([str(file.parent)])) == 0


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"rgb"', '"bgr"', "--set picture.color=rgb"),
        (f"mean = {list(MEAN)}\nstd = {list(STD)}", 'range = "0..255"', "--set picture.range="),
        (json.dumps(NAMES), '["cone", "car", "sign"]', """--set 'outputs.class.names=["car", "cone", "sign"]'"""),
    ],
    ids=["colours", "range", "order of the names"],
)
def test_a_wrong_statement_about_a_classifier_is_caught_by_its_labels(
    old: str, new: str, told: str, foreign: Path, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = NAMED.replace(json.dumps(NAMES), '["car", "cone", "sign"]') if old != json.dumps(NAMES) else NAMED
    assert adopted(foreign, signs, tmp_path / "out", text.replace(old, new)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sepilot: ")]
    assert "error against 48 labels" in line and told in line
    assert not (tmp_path / "out").exists()


def test_without_labels_a_classifier_is_adopted_as_it_was_stated(
    foreign: Path, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopted(foreign, signs / "car", tmp_path / "out", NAMED) == 0
    assert "class: no labels, so nobody can tell" in capsys.readouterr().err
    assert adopted(foreign, signs / "car", tmp_path / "no", STATED) == 2
    assert "outputs.class.names: 3 names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STATED + 'names = ["a", "b"]\n', "outputs.class.names: 3 names, one for each number of output float32[1, 3]"),
        (STATED.replace('"classes"', '"boxes"'), "outputs.class.kind: one of scalar, classes expected, found 'boxes'"),
        (NAMED.replace("outputs.class", "outputs.steering"), "outputs.steering.kind: scalar"),
        (NAMED + 'gives = "probabilities"\n', "outputs.class.gives: logits expected"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    text: str, told: str, foreign: Path, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopted(foreign, signs, tmp_path / "out", text) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_what_a_file_gives_is_found_out_from_its_answers() -> None:
    stated = StatedClasses(names=NAMES)
    taken = Taken(tensor=Tensor(name="x", shape=(1, 3), dtype=np.dtype(np.float32)), places=(0, 1, 2))
    for said, gives in (([0.2, 0.3, 0.5], "probabilities"), ([1.0, -1.0, 1.0], "logits"), ([0.9, 0.8, 0.1], "logits")):
        found, line = stated.found_out("class", taken, np.array([said], np.float32))
        assert found.gives == gives and gives in line
    assert "sigmoid" in line
    with pytest.raises(UsageError, match="do not add up"):
        StatedClasses(names=NAMES, gives="probabilities").found_out("class", taken, np.ones((1, 3), np.float32))


def test_a_file_is_scored_on_a_set_of_another_order_of_classes(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name: "bus" comes first here, and the file does not know it."""
    data = write_class_folders(tmp_path / "more", NAMES, 5, SIZE, np.random.default_rng(5))
    shutil.copytree(data / "car", data / "bus")
    assert run_verb(lambda: check.main([str(file), "--data", str(data), "--json"])) == 0
    document = json.loads(capsys.readouterr().out)
    assert "5 pictures of 1 classes that the file does not name: 'bus'" in document["notes"][0]
    (found,) = (engine["class"] for engine in document["engines"].values())
    assert found["pictures"] == 15 and found["error"]["mean"] == 0.0 and found["error"]["high"] > 0.1
    assert found["constant_error"] == pytest.approx(2 / 3)
    # A third of the labels is wrong: the figure falls by as much.
    for picture in (data / "sign").iterdir():
        picture.write_bytes((data / "car" / picture.name).read_bytes())
    assert run_verb(lambda: check.main([str(file), "--data", str(data), "--png", str(tmp_path / "c.png")])) == 0
    printed = capsys.readouterr().out
    assert "66.67%" in printed and "Weakest class" in printed and "found of sign" in printed
    assert (tmp_path / "c.png").stat().st_size > 5000


def test_the_test_part_of_a_set_is_what_scores(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("train", "test"):
        write_class_folders(tmp_path / "set" / side, NAMES, 3, SIZE)
    assert run_verb(lambda: check.main([str(file), "--data", str(tmp_path / "set")])) == 0
    printed = capsys.readouterr().out
    assert "9 pictures of set/test" in printed and "train left out" in printed


@pytest.mark.parametrize("fault", ["strange classes", "no labels", "no contract", "a directory", "with --drives"])
def test_what_cannot_be_scored_is_told_in_one_line(
    fault: str, file: Path, foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_class_folders(tmp_path / "set", ("bus", "tram"), 2, SIZE)
    words, told = {
        "strange classes": ([str(file), "--data", str(data)], "'bus', 'tram'"),
        "no labels": ([str(write_onnx(tmp_path / "own.onnx")), "--data", str(data)], "labels of steering"),
        "no contract": ([str(foreign), "--data", str(data)], "sepilot adopt"),
        "a directory": ([str(file.parent), "--data", str(data)], str(file.parent)),
        "with --drives": ([str(file), "--data", str(data), "--drives", str(data)], "--data: "),
    }[fault]
    assert run_verb(lambda: check.main(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line, line


def test_pictures_that_are_alike_are_one_observation() -> None:
    right = np.repeat(np.random.default_rng(0).random(40) < 0.7, 5).astype(float)
    alone = grouped_mean(right, [str(i) for i in range(200)])
    grouped = grouped_mean(right, [str(i // 5) for i in range(200)])
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    # Wilson 1927 for 174 of 200.
    figure = grouped_mean(np.r_[np.ones(174), np.zeros(26)], [str(i) for i in range(200)])
    assert (figure.low, figure.high) == (pytest.approx(0.8164, abs=1e-4), pytest.approx(0.9097, abs=1e-4))
