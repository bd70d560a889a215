"""`sepilot run`: a file that does not steer, over what `sepilot drive` takes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_factory import classes_contract, frames, write_classes, write_frames, write_onnx
from sepilot_runtime import cli
from sepilot_runtime.contract.outputs.embedding.output import Embedding


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("model") / "sides.tflite")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders. Of four pictures, from the brightest left to the brightest right, the last lies in the wrong one;
    the names' order is not the model's."""
    folder = tmp_path_factory.mktemp("set") / "test"
    for number, (name, frame) in enumerate(zip(("left", "left", "right", "left"), frames(4), strict=True)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name / f"{number}.png"), frame)
    (folder / "behind").mkdir()
    cv2.imwrite(str(folder / "behind" / "4.png"), frames(4)[0])
    return folder


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_set_is_played_with_what_was_recorded_by_name(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "out.mp4"
    assert cli.main(["run", str(model), "--source", str(pictures), "--overlay", str(overlay)]) == 0
    printed = capsys.readouterr()
    lines = lines_of(printed.out)
    said = [line["outputs"]["class"] for line in lines]  # type: ignore[index]
    assert [(one["value"]["class"], one["recorded"]) for one in said] == [
        ("left", "behind"), ("left", "left"), ("left", "left"), ("right", "left"), ("right", "right"),
    ]  # fmt: skip
    assert all(len(one["raw"]) == 2 and 0.5 <= one["value"]["probability"] <= 1 for one in said)
    assert all(line["state"] == "running" and line["post_us"] > 0 for line in lines)  # type: ignore[operator]
    assert not {"steering", "throttle", "steering_deg", "raw", "recorded"} & lines[0].keys()
    assert "frame to answer" in printed.err and "decoding" in printed.err
    video = cv2.VideoCapture(str(overlay))
    shown = [video.read()[1] for _ in range(5)]
    assert shown[0].shape[0] == 720 and shown[0].shape[1] >= 480

    # Red where the recorded class is another one of the model's own: only the fourth.
    def red(image: np.ndarray) -> bool:
        return bool((image.astype(int)[..., 2] - image[..., 1] > 90).sum() > 1500)

    assert [red(image[300:, -400:]) for image in shown] == [False, False, False, True, False]


def test_a_set_played_as_a_camera_ends_with_stopped(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["run", str(model), "--source", str(pictures), "--as-camera", "--quiet", "--rate-hz", "40"]
    assert cli.main([*argv, "--set", "limits.max_gap_periods=50"]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines[-1] == {"state": "stopped", "reason": "end of source"}
    assert any("outputs" in line for line in lines)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--to", "serial:/dev/ttyACM0"], "--to serial:/dev/ttyACM0: for a car"),
        (["--record", "tub"], "--record tub: for a car"),
        (["--set", "actuation.trim=0.1"], "--set actuation.trim=0.1: a limit expected"),
    ],
)
def test_what_only_a_car_can_be_asked_for_is_one_line(
    model: Path, tmp_path: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", str(model), "--source", str(tmp_path), *flags]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and says in err


def test_either_verb_names_the_other(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, steering = write_frames(tmp_path / "frames", 1), write_onnx(tmp_path / "swift.onnx")
    for verb, path, other in (("drive", model, "sepilot run"), ("run", steering, "sepilot drive")):
        assert cli.main([verb, str(path), "--source", str(folder)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and f"{other} {path}" in err


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """A model whose vector says which side is the brighter one: of two numbers, each the other's opposite."""
    return write_classes(
        tmp_path / "vectors.tflite", classes_contract(outputs=(Embedding(name="class", size=2, threshold=0.9),))
    )


def test_a_gallery_names_who_is_seen_and_a_claim_is_held_against_one(
    vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, team = write_frames(tmp_path / "seen", 4), tmp_path / "team.json"
    assert cli.main(["enrol", str(team), "lefty", str(seen / "0.png"), "--model", str(vectors)]) == 0
    run = ["run", str(vectors), "--source", str(seen), "--quiet"]

    def said(*words: str) -> list[dict[str, object]]:
        capsys.readouterr()
        assert cli.main([*run, *words]) == 0
        return [line["outputs"]["class"]["value"] for line in lines_of(capsys.readouterr().out)]  # type: ignore[index]

    names = [one["name"] for one in said("--gallery", str(team), "--overlay", str(tmp_path / "out.mp4"))]
    assert names == ["lefty", "lefty", None, None]
    assert cli.main(["enrol", str(team), "righty", str(seen / "3.png"), "--model", str(vectors)]) == 0
    assert [one["name"] for one in said("--gallery", str(team))] == ["lefty", "lefty", "righty", "righty"]
    claimed = said("--gallery", str(team), "--claim", "righty")
    assert [one["name"] for one in claimed] == [None, None, "righty", "righty"]
    assert claimed[3]["similarity"] == 1 and set(said()[0]) == {"vector"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gallery", "team.json", "--claim", "nobody"], "nobody: somebody who is enrolled expected"),
        (["--claim", "lefty"], "--claim lefty: --gallery FILE expected beside it"),
        (["--gallery", "no.json"], "no.json: no such file"),
    ],
)
def test_a_gallery_that_does_not_fit_is_one_line(
    vectors: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], words: list[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "seen", 2)
    assert cli.main(["enrol", "team.json", "lefty", "seen", "--model", str(vectors)]) == 0
    capsys.readouterr()
    assert cli.main(["run", str(vectors), "--source", "seen", *words]) == 2
    assert says in (line := capsys.readouterr().err) and line.count("\n") == 1
    # Of a model without vectors there is nobody to name.
    assert cli.main(["run", str(model), "--source", "seen", "--gallery", "team.json"]) == 2
    assert "a model with an embedding expected" in capsys.readouterr().err
