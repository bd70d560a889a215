"""Classes go from folders of pictures through the whole command line, and what spoils a file is caught by its gates."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sepilot_export.verify.reference import REFERENCE_NAME, Reference, read_reference
from sepilot_runtime.base.errors import RecipeError
from sepilot_runtime.cli import main
from sepilot_runtime.contract.outputs.classes.output import Classes
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_train.run.recipe import load_recipe
from sepilot_train.run.recipe_toml import to_toml
from sepilot_train.run.run import open_run
from set_factory import NAMES, class_picture, write_class_folders

RECIPE = """
name = "things"
summary = "which colour a disc has"
picture = {height = 24, width = 32, color = "bgr"}
model = {builder = "swift", options = {stem = 8, widths = [8, 16], repeats = [0, 0], dropout = 0.0}}
[training]
epochs = 12
batch_size = 16
learning_rate = 0.01
training_frames_judged = 20
[augmentation]
rotate_deg = 5.0
mixup = 0.2
[outputs.class]
kind = "classes"
"""
FORMATS = "float32.tflite,int8.tflite,float32.onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classes")


@pytest.fixture(scope="module")
def things(folder: Path) -> Path:
    write_class_folders(folder / "things" / "train", per_class=30, per_group=3)
    write_class_folders(folder / "things" / "test", per_class=12, rng=np.random.default_rng(1))
    return folder / "things"


@pytest.fixture(scope="module")
def run(things: Path, folder: Path) -> Path:
    (folder / "things.toml").write_text(RECIPE)
    assert main(["train", str(things), "--recipe", str(folder / "things.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run: Path, folder: Path) -> Path:
    assert main(["export", str(run), "--formats", FORMATS, "--out", str(folder / "export")]) == 0
    return folder / "export"


def test_a_run_learns_the_classes_and_says_what_it_learned(run: Path) -> None:
    output = open_run(run).contract.output("class")
    assert isinstance(output, Classes) and output.names == tuple(sorted(NAMES))
    figures = json.loads((run / "validation.json").read_text())
    assert figures["split"] == "groups" and figures["leak"]["close_in_time"] == 0
    assert figures["metrics"]["kind"] == "classes" and figures["metrics"]["mae"] < 0.2
    assert figures["metrics"]["constant_mae"] == pytest.approx(1 - 1 / len(NAMES))
    split = json.loads((run / "split.json").read_text())["drives"]
    assert [drive["id"] for drive in split] == ["things/train"], "the test part neither trains nor judges"
    parted = [{name.rpartition("_")[0] for name in split[0][side]} for side in ("train", "validation")]
    assert parted[1] and not parted[0] & parted[1], "a group lies on one side"
    assert "train_mae" in (run / "history.csv").read_text().splitlines()[0]
    assert {path.stem for path in (run / "figures").glob("*.png")} >= {"confusion", "recall", "sureness", "training"}


def test_files_pass_their_own_gates_and_answer_by_name(exported: Path) -> None:
    assert main(["check", str(exported)]) == 0
    files = json.loads((exported / "check.json").read_text())["files"]
    assert [row["format"] for row in files] == FORMATS.split(",")
    for row in files:
        assert list(row["outputs"]["class"]["limits"]) == ["p99_error", "mae_increase", "flips"]
    said = load_pilot(next(exported.glob("*int8.tflite"))).predict(class_picture(1, np.random.default_rng(5), (24, 32)))
    assert said.values["class"]["class"] == NAMES[1] and said.values["class"]["probability"] > 0.5


def swapped(reference: Reference) -> Reference:
    """The classes' names in another order: the file says one thing and means another."""
    turned = {"class": reference.predictions["class"][:, ::-1]}
    return dataclasses.replace(reference, predictions=turned)


def as_rgb(reference: Reference) -> Reference:
    """The file is shown pictures with red and blue exchanged."""
    return dataclasses.replace(reference, pictures=np.ascontiguousarray(reference.pictures[..., ::-1]))


@pytest.mark.parametrize("spoil", [swapped, as_rgb])
def test_what_spoils_a_file_is_caught(
    spoil: Callable[[Reference], Reference], exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(exported, tmp_path / "other")
    spoil(read_reference(other)).save(other / REFERENCE_NAME)
    assert main(["check", str(other)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "pictures of another class where the training model is sure" in said


def test_what_shows_answers_shows_these(
    exported: Path, run: Path, things: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(map(str, exported.glob("*.tflite")))
    assert main(["bench", *files, "--calls", "20", "--rounds", "1", "--cold-starts", "0"]) == 0
    assert main(["report", str(run), "--export", str(exported), "--out", str(folder / "report.html")]) == 0
    assert "Most frequent class" in (folder / "report.html").read_text()
    assert main(["tradeoff", str(exported), "--out", str(folder / "tradeoff")]) in (0, 1)


def test_a_compressed_net_still_tells_classes(run: Path, folder: Path) -> None:
    out = folder / "slim"
    words = ["--recipe", "slim", "--set", "slim.finetune.epochs=1", "--set", "slim.macs=0.97"]
    assert main(["compress", str(run), *words, "--out", str(out)]) == 0
    assert [o.name for o in open_run(out).contract.outputs] == ["class"]


def test_a_recipe_says_which_kind_and_means_a_number_where_it_says_nothing(folder: Path, run: Path) -> None:
    recipe = load_recipe(str(folder / "things.toml"))
    assert [target.kind for target in recipe.targets.values()] == ["classes"]
    assert recipe.augmentation.mirror == 0, "a mirrored sign may be another sign"
    settled = load_recipe(str(run / "recipe.toml"))
    assert settled.targets["class"].output("class", 1.0).shape == (len(NAMES),)
    again = folder / "again.toml"
    again.write_text(to_toml(settled))
    assert load_recipe(str(again)) == settled
    with pytest.raises(RecipeError, match=r"outputs.class.low: unknown key"):
        load_recipe(str(folder / "things.toml"), ["outputs.class.low=0.0"])
    with pytest.raises(RecipeError, match=r"mirror_pairs: each class in one pair expected"):
        load_recipe(str(folder / "things.toml"), ['outputs.class.mirror_pairs=[["a","b"],["b","c"]]'])


def test_a_resumed_training_knows_its_classes(run: Path, things: Path, folder: Path) -> None:
    """A run is resumed with the names that it has settled on, whatever was added to the folder meanwhile."""
    words = ["train", str(things), "--recipe", str(folder / "things.toml")]
    assert main([*words, "--resume", "--out", str(run)]) == 0


def test_sets_that_cannot_teach_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "things.toml").write_text(RECIPE)
    write_class_folders(tmp_path / "few", per_class=1)
    words = ["train", str(tmp_path / "few"), "--recipe", str(tmp_path / "things.toml"), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "name a validation set with --val" in capsys.readouterr().err.strip().splitlines()[-1]
    assert main([*words, "--set", 'outputs.class.names=["other"]']) == 2
    assert "two classes or more expected" in capsys.readouterr().err.strip().splitlines()[-1]
