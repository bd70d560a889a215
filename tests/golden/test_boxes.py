"""A tiny detector from a labelled set to files that find the same boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sepilot_runtime.cli import main as sepilot
from sepilot_runtime.contract.window import window_of
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_runtime.recording.opening import open_apart
from sepilot_runtime.recording.options import ReaderOptions
from set_factory import NAMES, scenes, write_voc

pytestmark = pytest.mark.slow

SMALL = (
    "picture.height=48", "picture.width=64", "training.epochs=10", "training.ema=0", "training.learning_rate=0.01",
    "training.min_epoch_frames=256", "outputs.boxes.anchor_count=2", "outputs.boxes.strides=[8,16]",
    "augmentation.zoom=0", "augmentation.hue_deg=0",
    "model.options={stem=8,widths=[16,24,32],repeats=[0,0,0],strides=[8,16],head=24}",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of plain rectangles, a run and an export."""
    folder = tmp_path_factory.mktemp("boxes")
    lists = {"train": range(120), "val": range(120, 160)}
    write_voc(folder / "set", scenes(160, np.random.default_rng(0)), lists=lists)
    words = [word for override in SMALL for word in ("--set", override)]
    assert sepilot(["train", str(folder / "set"), "--recipe", "spot", *words, "--out", str(folder / "run")]) == 0
    files = ["--formats", "float32.tflite", "int8.tflite", "--calibration-frames", "40"]
    assert sepilot(["export", str(folder / "run"), *files, "--out", str(folder / "files")]) == 0
    return folder


def test_it_learns_to_find_plain_shapes(made: Path) -> None:
    found = json.loads((made / "run" / "validation.json").read_text())["metrics"]
    assert found["map50"] > 0.4 and found["mae"] < found["constant_mae"]
    contract = json.loads((made / "run" / "contract.json").read_text())
    (output,) = contract["outputs"]
    assert output["names"] == sorted(NAMES) and output["grid"] == [[6, 8], [3, 4]]
    assert len((made / "run" / "contract.json").read_bytes()) < 100_000
    assert {path.name for path in (made / "run" / "figures").iterdir()} >= {"precision.png", "overlap.png"}


def test_every_file_finds_the_same_boxes(made: Path) -> None:
    assert sepilot(["check", str(made / "files")]) == 0
    drives, _ = open_apart([made / "set"], [], ReaderOptions(labels=("boxes",)))
    frame = drives[-1].read(0)
    window = window_of(*frame.shape[:2], load_pilot(made / "files" / "spot-float32.tflite").contract.picture)
    said = {}
    for name in ("float32", "int8"):
        pilot = load_pilot(made / "files" / f"spot-{name}.tflite")
        assert set(pilot.contract.tensors) == {"boxes.boxes", "boxes.scores"}
        said[name] = pilot.predict(frame).values["boxes"]
        assert isinstance(json.dumps(said[name]), str), "JSON can hold it"
    assert [thing["class"] for thing in said["float32"]] == [thing["class"] for thing in said["int8"]]
    assert window == (0, 0, 64, 48)


def test_the_report_draws_every_class(made: Path) -> None:
    out = made / "report.html"
    assert sepilot(["report", str(made / "run"), "--export", str(made / "files"), "--out", str(out)]) == 0
    assert "What is found, and at what price" in out.read_text()


def test_a_line_says_boxes_and_not_thousands_of_numbers(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    words = ["--source", str(made / "set"), "--max-frames", "3"]
    assert sepilot(["run", str(made / "files" / "spot-float32.tflite"), *words]) == 0
    lines = [json.loads(line)["outputs"]["boxes"] for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3 and all(line.keys() == {"value", "recorded"} for line in lines)
