"""Foreign .tflite files and Keras nets under a contract: TensorFlow made them, LiteRT and ONNX Runtime drive them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drive_factory import angles, write_tub
from foreign_models import (
    COUNT,
    CROP_TOP,
    adopted,
    keras_mobilenet,
    ridge,
    seen,
    throttles,
    write_drive,
    write_mobilenet_tflite,
)
from sepilot_export.commands import check
from sepilot_export.convert.formats import FORMATS
from sepilot_export.pipeline import adopt as pipeline
from sepilot_export.verify.reference import read_reference
from sepilot_export.verify.second_opinion import second_opinion
from sepilot_runtime.base.exit_codes import run_verb
from sepilot_runtime.engine.bare import open_bare, random_inputs
from sepilot_runtime.engine.pilot import load_pilot

PICTURE = f"""
[picture]
color = "rgb"
range = "-1..1"
crop_top = {CROP_TOP}
"""

STEERING = """
[outputs.steering]
tensor = "steering"
unit = "deg"
scale = 25.0
positive = "right"
"""

THROTTLE = """
[outputs.throttle]
tensor = "gas"
low = 0.0
positive = "forward"
"""


@pytest.fixture(scope="module")
def tub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("drive") / "tub")


@pytest.fixture(scope="module")
def frames(tub: Path) -> list[Any]:
    return [cv2.imread(str(tub / "images" / f"{i}_cam_image_array_.jpg")) for i in range(COUNT)]


@pytest.fixture(scope="module")
def mobile(tub: Path, frames: list[Any]) -> dict[str, Path]:
    """A file of TensorFlow's converter, which sorts its outputs by name, and its int8 file with bytes at both ends."""
    labels = {"steering": angles(COUNT), "gas": throttles()}
    kinds = ("float32", "int8")
    return {kind: write_mobilenet_tflite(tub.parent / f"mobile_{kind}.tflite", frames, labels, kind) for kind in kinds}


def require_steering(out: Path, frames: list[Any], allowed: float) -> None:
    """Every file there steers by the tub, and `check` says so."""
    for file in (*out.glob("*.tflite"), *out.glob("*.onnx")):
        pilot = load_pilot(file)
        said = [pilot.predict(frame).values["steering"] for frame in frames]
        assert np.abs(np.array(said) - angles(COUNT)).max() < allowed, file.name
    assert run_verb(lambda: check.main([str(out)])) == 0


@pytest.mark.parametrize(("kind", "allowed"), [("float32", 0.06), ("int8", 0.12)])
def test_a_tflite_file_with_two_outputs(
    kind: str, allowed: float, mobile: dict[str, Path], tub: Path, frames: list[Any], tmp_path: Path
) -> None:
    assert adopted(mobile[kind], tub, tmp_path / "out", PICTURE + STEERING + THROTTLE) == 0
    require_steering(tmp_path / "out", frames, allowed)
    contract = load_pilot(tmp_path / "out" / f"mobile_{kind}-{kind}.tflite").contract
    assert contract.provenance.precision == kind


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_every_other_interpreter_says_the_same_by_the_same_names(kind: str, mobile: dict[str, Path]) -> None:
    mine, content = open_bare(mobile[kind]), mobile[kind].read_bytes()
    feed = random_inputs(mine, 1)
    said = mine.run(feed)
    assert list(said) == ["gas", "steering"] and abs(int(said["gas"].item() * 1e4) - said["steering"].item() * 1e4) > 1
    for name in ("openvino", "tensorflow", "onnxruntime"):
        other = second_opinion(mine, content, name).run(feed)
        for output, values in said.items():
            np.testing.assert_allclose(other[output], values, atol=1 if kind == "int8" else 1e-5, err_msg=name)


def test_a_range_that_the_file_says_itself_need_not_be_stated(
    mobile: dict[str, Path], tub: Path, tmp_path: Path
) -> None:
    text = PICTURE.replace('range = "-1..1"', "") + STEERING
    assert adopted(mobile["int8"], tub, tmp_path / "out", text) == 0


def test_exchanged_outputs_of_a_file_are_caught(
    mobile: dict[str, Path], tub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PICTURE + STEERING.replace('"steering"\n', '"gas"\n') + THROTTLE.replace('"gas"', '"steering"')
    assert adopted(mobile["float32"], tub, tmp_path / "out", text) == 1
    assert "steering and throttle exchanged" in capsys.readouterr().err


def test_outputs_that_the_wrapping_exchanges_are_caught_without_labels(
    mobile: dict[str, Path], tub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wrap = pipeline.wrap_tflite

    def exchanged(content: bytes, plan: Any) -> bytes:
        one, other = plan.taken.values()
        return wrap(content, dataclasses.replace(plan, taken=dict(zip(plan.taken, (other, one), strict=True))))

    monkeypatch.setattr(pipeline, "wrap_tflite", exchanged)
    assert adopted(mobile["float32"], tub / "images", tmp_path / "out", PICTURE + STEERING + THROTTLE) == 2
    assert "golden frame" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_functional_net_with_a_picture_and_a_vector(tub: Path, frames: list[Any], tmp_path: Path) -> None:
    import keras

    # The last angle, as the tub has it in a column of its own.
    last = np.array([0.0, *angles(COUNT)[:-1]], np.float32)
    net = keras_mobilenet(frames, {"steering": angles(COUNT), "gas": throttles()}, np.stack([last, last], axis=1))
    assert isinstance(net, keras.Model)
    net.save(tmp_path / "two.keras")
    text = PICTURE + STEERING + THROTTLE + '[vectors.state]\ntensor = "state"\ncolumns = ["steering", "steering"]\n'
    formats = ["float16.tflite", "float32.onnx"]
    assert adopted(tmp_path / "two.keras", tub, tmp_path / "out", text, "--formats", ",".join(formats)) == 0
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert [file["format"] for file in record["files"]] == formats
    for file in (tmp_path / "out").glob("two-*"):
        pilot = load_pilot(file)
        pilot.vectors["state"][:] = last[9]
        assert pilot.predict(frames[9]).values["steering"] == pytest.approx(angles(COUNT)[9], abs=0.1)
    assert run_verb(lambda: check.main([str(tmp_path / "out")])) == 0


def test_other_drives_are_checked_with_what_stands_beside_their_pictures(
    frames: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speed = np.cos(np.arange(COUNT) / 9).round(4)

    def write(name: str, count: int, known: int) -> Path:
        records = {i: {"user/speed": float(speed[i])} for i in range(known)}
        return write_tub(tmp_path / name, count, throttle=throttles(), records=records)

    keras_mobilenet(frames, {"steering": angles(COUNT) + speed / 9}, speed.astype(np.float32)[:, None]).save(
        tmp_path / "two.keras"
    )
    text = PICTURE + STEERING + '[vectors.speed]\ntensor = "state"\ncolumns = ["speed"]\n'
    words = ["--formats", "float32.tflite,float32.onnx"]
    assert adopted(tmp_path / "two.keras", write("own", COUNT, COUNT), tmp_path / "out", text, *words) == 0
    argv = [str(tmp_path / "out"), "--drives"]
    capsys.readouterr()
    assert run_verb(lambda: check.main([*argv, str(write("other", 100, 100)), "--json"])) == 0
    (row, _) = json.loads(capsys.readouterr().out)["drives"]["files"]
    # What the net says beside the label is the speed's part: another speed would be another error.
    expected = float(np.abs(speed[:100] / 9).mean())
    assert row["outputs"]["steering"]["task_mae"] == pytest.approx(expected, rel=0.1)
    file = str(next((tmp_path / "out").glob("*.onnx")))
    assert run_verb(lambda: check.main([file, "--data", str(tmp_path / "other"), "--json"])) == 0
    (scored,) = json.loads(capsys.readouterr().out)["engines"].values()
    assert scored["steering"]["error"]["mean"] == pytest.approx(expected, rel=0.1)
    for name, known in (("some", 90), ("none", 0)):
        other = str(write(name, 100, known))
        for words in ([*argv, other], [file, "--data", other]):
            assert run_verb(lambda: check.main(words)) == 2  # noqa: B023
            (line,) = capsys.readouterr().err.splitlines()
            assert f"{tmp_path / name}: " in line and "speed" in line, line


def test_a_keras_net_gets_the_formats_of_an_export(
    tub: Path, frames: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that are calibrated, on frames that do not judge them."""
    # As a trained net is: not exact, so that a step of int8 is now nearer to a label, now farther.
    noisy = angles(COUNT) + np.random.default_rng(0).normal(0, 0.04, COUNT)
    keras_mobilenet(frames, {"steering": noisy, "gas": throttles()}).save(tmp_path / "mobile.keras")
    out = tmp_path / "out"
    assert adopted(tmp_path / "mobile.keras", tub, out, PICTURE + STEERING + THROTTLE) == 0
    assert "sparse.tflite: left out" in capsys.readouterr().err
    formats = {file["format"] for file in json.loads((out / "export.json").read_text())["files"]}
    assert formats == {form.name for form in FORMATS} - {"sparse.tflite"}
    judged = set(read_reference(out).names)
    calibrated = {frame["name"] for frame in json.loads((out / "calibration.json").read_text())["frames"]}
    assert len(judged) == COUNT // 2 and len(calibrated) >= 16 and not judged & calibrated
    require_steering(out, frames, 0.25)


def test_a_net_that_pictures_cannot_calibrate_says_so_in_one_line(
    tub: Path, frames: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keras_mobilenet(frames, {"steering": angles(COUNT)}, np.zeros((COUNT, 2), np.float32)).save(tmp_path / "two.keras")
    text = PICTURE + STEERING + '[vectors.state]\ntensor = "state"\n'
    assert adopted(tmp_path / "two.keras", tub, tmp_path / "out", text, "--formats", "int8,float32.tflite") == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "int8" in line]
    assert notes == ["note: no int8 files: it takes state beside the picture, and int8 is of pictures alone"]
    assert adopted(tmp_path / "two.keras", tub, tmp_path / "no", text, "--formats", "int8") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "no").exists()


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_sequential_net(suffix: str, tub: Path, frames: list[Any], tmp_path: Path) -> None:
    """A .h5 file as Keras 2 writes it, and a .keras file with a net inside the net."""
    if suffix == "keras":
        import keras
    else:
        import tf_keras as keras
    pictures = np.stack([seen(frame) for frame in frames]).astype(np.float32) / 127.5 - 1
    body = keras.Sequential([
        keras.layers.InputLayer(pictures.shape[1:]), keras.layers.Conv2D(8, 3, 2), keras.layers.BatchNormalization(),
        keras.layers.ReLU(), keras.layers.Flatten(),
    ])  # fmt: skip
    head = keras.layers.Dense(1)
    layers = [keras.layers.InputLayer(pictures.shape[1:]), body] if suffix == "keras" else list(body.layers)
    net = keras.Sequential([*layers, head])
    weights, bias = ridge(np.asarray(body(pictures)), np.array(angles(COUNT))[:, None])
    net(pictures[:1])
    head.set_weights([weights, bias])
    net.save(tmp_path / f"plain.{suffix}")
    text = PICTURE + STEERING.replace('tensor = "steering"', "")
    assert adopted(tmp_path / f"plain.{suffix}", tub, tmp_path / "out", text, "--formats", "float32.tflite") == 0
    require_steering(tmp_path / "out", frames, 0.1)
