"""A net with numbers beside its picture, from the recording to the drive, and what spoils it on the way."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from drive_factory import angles, write_tub
from sepilot_export.verify.reference import REFERENCE_NAME, read_reference
from sepilot_runtime.cli import main
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_train.run.run import open_run

RECIPE = """
name = "numbers"
summary = "steers half as far when it is fast"
picture = {height = 24, width = 32}
model = {builder = "swift", options = {stem = 8, widths = [8, 16], repeats = [0, 0], dropout = 0.0}}
[training]
epochs = 25
batch_size = 16
learning_rate = 0.01
[data]
block_s = 1.0
guard_s = 0.1
[inputs.speed]
columns = ["user/speed"]
scale = 4.0
[inputs.command]
columns = ["user/command"]
one_hot = ["left", "right"]
mirror_pairs = [["left", "right"]]
[inputs.before]
previous = "steering"
dropout = 0.5
"""
FORMATS = "float32.tflite,float16.tflite,int8.tflite,float32.onnx,int8.onnx,int8-twin.onnx"
SLOW, FAST, COUNT = 2.0, 6.0, 120


def record(i: int) -> dict[str, object]:
    """Speeds that change more often than the steering does."""
    speed = FAST if i % 2 else SLOW
    angle = angles(COUNT)[i]
    return {"user/angle": angle / 2 if speed == FAST else angle, "user/speed": speed, "user/command": i % 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("numbers")


@pytest.fixture(scope="module")
def tub(folder: Path) -> Path:
    records = {i: record(i) for i in range(COUNT)}
    records[7]["user/speed"] = None
    return write_tub(folder / "tub", COUNT, records=records)


@pytest.fixture(scope="module")
def run(tub: Path, folder: Path) -> Path:
    (folder / "numbers.toml").write_text(RECIPE)
    out, recipe = folder / "run", str(folder / "numbers.toml")
    assert main(["train", str(tub), "--recipe", recipe, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def exported(run: Path, folder: Path) -> Path:
    assert main(["export", str(run), "--out", str(folder / "export"), "--formats", FORMATS]) == 0
    return folder / "export"


def test_what_was_trained_stands_in_the_contract(run: Path) -> None:
    found = open_run(run)
    speed, command, before = found.contract.vectors
    assert (speed.size, speed.columns) == (1, ("user/speed",))
    assert (command.size, command.one_hot) == (2, ("left", "right"))
    assert (before.size, before.previous, before.columns) == (1, "steering", ("steering",))
    assert {g.vectors["speed"][0] for g in found.contract.golden} <= {SLOW, FAST}
    (skipped,) = json.loads((run / "validation.json").read_text())["skipped"].values()
    assert skipped == {"no number for an input": 1}


def test_every_file_keeps_its_gates_and_listens(exported: Path, folder: Path) -> None:
    assert main(["check", str(exported)]) == 0
    reference = read_reference(exported)
    place = int(np.abs(reference.predictions["steering"]).argmax())
    for path in exported.glob("numbers-*.*"):
        pilot, said = load_pilot(path), []
        for speed in (SLOW, FAST):
            for name, values in reference.vectors.items():
                pilot.vectors[name][:] = values[place]
            pilot.vectors["speed"][:] = speed
            said.append(float(pilot.infer_picture(reference.pictures[place])["steering"][0]))
        assert abs(said[0] - said[1]) > 0.02, path.name


def test_numbers_that_are_not_given_fail_the_check(
    exported: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planted: what the held-out frames were given beside the pictures is gone."""
    other = folder / "zeros"
    shutil.copytree(exported, other)
    reference = read_reference(other)
    (other / REFERENCE_NAME).unlink()
    none = {name: np.zeros_like(values) for name, values in reference.vectors.items()}
    dataclasses.replace(reference, vectors=none).save(other / REFERENCE_NAME)
    assert main(["check", str(other)]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_recording_drives_it_and_a_frame_without_the_number_does_not(
    exported: Path, tub: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(exported / "numbers-int8.tflite")
    assert main(["drive", file, "--source", str(tub)]) == 0
    assert "1 no number for speed" in capsys.readouterr().err
    plain = write_tub(folder / "plain", 10)
    assert main(["drive", file, "--source", str(plain)]) == 0
    assert "10 no number for speed" in capsys.readouterr().err


def test_a_recording_without_the_column_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tub = write_tub(folder / "bare", 10)
    recipe = str(folder / "numbers.toml")
    (folder / "numbers.toml").write_text(RECIPE)
    assert main(["train", str(tub), "--recipe", recipe, "--out", str(folder / "none")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "user/speed" in line
