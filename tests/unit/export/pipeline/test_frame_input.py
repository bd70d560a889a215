"""Files that take the camera's frame: their contract, and the runtime that hands them the frame as it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fakes import ConstantEngine
from model_factory import (
    BIAS,
    contract_of,
    frames,
    steering_of,
    weights_of,
    write_frames,
    write_onnx,
    write_tflite,
)
from sepilot_runtime.base.errors import ContractError, FrameError, ModelFileError
from sepilot_runtime.cli import main
from sepilot_runtime.contract.contract import METADATA_KEY, Contract, FrameInput, Picture
from sepilot_runtime.contract.preprocess import enlarge_frame, picture_of
from sepilot_runtime.engine.checksum import BLANK_SEAL, SEAL_KEY, seal
from sepilot_runtime.engine.engines import open_engine
from sepilot_runtime.engine.pilot import Pilot, load_pilot

COLOUR = Picture(height=48, width=64, color="bgr")
"""A picture that is the whole frame, so that making it takes one multiplication."""
FRAME = FrameInput(height=48, width=64)


def frame_contract(**changes: Any) -> Contract:
    return dataclasses.replace(contract_of(COLOUR), **{"frame": FRAME, **changes})


def write_frame_onnx(
    path: Path, contract: Contract | None = None, *, name: str = "frame", kind: str = "UINT8", gain: float = 1.0
) -> Path:
    """The ramp model for the picture `COLOUR`, with the making of the picture inside."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Cast", [name], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "scale"], ["scaled"]),
            helper.make_node("Reshape", ["scaled", "target"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w", "b"], ["steering"]),
        ],
        "ramp",
        [helper.make_tensor_value_info(name, getattr(TensorProto, kind), [1, *FRAME.shape])],
        [helper.make_tensor_value_info("steering", TensorProto.FLOAT, [1, 1])],
        [
            numpy_helper.from_array(np.array(1 / 255, np.float32), "scale"),
            numpy_helper.from_array(np.array([1, -1], np.int64), "target"),
            numpy_helper.from_array(weights_of(COLOUR).reshape(-1, 1) * np.float32(gain), "w"),
            numpy_helper.from_array(np.array([BIAS], np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {SEAL_KEY: BLANK_SEAL, METADATA_KEY: (contract or frame_contract()).to_json()})
    path.write_bytes(seal(model.SerializeToString(deterministic=True)))
    return path


def test_a_contract_with_a_frame_survives_the_round_trip() -> None:
    contract = frame_contract()
    found = Contract.from_json(contract.to_json(), "file")
    assert found == contract and found.frame == FRAME
    assert (found.input_name, found.input_shape) == ("frame", (1, 48, 64, 3))
    plain = dataclasses.replace(contract, frame=None)
    assert (plain.input_name, plain.input_shape) == ("image", (1, 48, 64, 3))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("height", 0, "frame: height and width"), ("depth", 3, "frame.depth: unknown key"), ("source", "rgb", "bgr")],
)
def test_a_spoilt_frame_is_refused(key: str, value: Any, words: str) -> None:
    body = json.loads(frame_contract().to_json())
    del body["digest"]
    body["frame"][key] = value
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    signed = json.dumps({**body, "digest": hashlib.sha256(text.encode()).hexdigest()})
    with pytest.raises(ContractError, match=words):
        Contract.from_json(signed, "model.onnx")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_frame_goes_in_as_it_is(engine: Any, tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    pilot = load_pilot(write_frame_onnx(tmp_path / "m.onnx"), engine=engine)
    assert pilot.engine.input_dtype == np.uint8
    said = []
    for frame in frames(9):
        prediction = pilot.predict(frame)
        assert prediction.raw["steering"] == pytest.approx(steering_of(picture_of(frame, COLOUR), COLOUR), abs=1e-5)
        assert pilot.infer(frame)["steering"] == prediction.raw["steering"]
        # What a person sees of it is made outside, the same way.
        assert np.array_equal(pilot.picture_of(frame), picture_of(frame, COLOUR))
        said.append(prediction.raw["steering"])
    assert max(said) - min(said) > 0.5


def test_golden_frames_are_enlarged_to_the_cameras_size(tmp_path: Path) -> None:
    small = [enlarge_frame(frame, 12, 16) for frame in frames(3, seed=7)]
    from sepilot_runtime.contract.contract import golden_from

    golden = tuple(
        golden_from(s, {"steering": steering_of(picture_of(enlarge_frame(s, 48, 64), COLOUR), COLOUR)}) for s in small
    )
    assert load_pilot(write_frame_onnx(tmp_path / "m.onnx", frame_contract(golden=golden)))
    with pytest.raises(ModelFileError, match="golden frame"):
        load_pilot(write_frame_onnx(tmp_path / "m.onnx", frame_contract(golden=golden), gain=1.5))


def test_enlarging_keeps_each_pixel_at_its_place() -> None:
    small = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    large = enlarge_frame(small, 5, 7)
    assert large.shape == (5, 7, 3)
    for y in range(5):
        for x in range(7):
            assert np.array_equal(large[y, x], small[y * 2 // 5, x * 3 // 7])


def test_another_size_is_refused_in_one_line_that_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_frame_onnx(tmp_path / "m.onnx")
    words = (
        f"{path}: frames of 48x64 (height x width) expected, found 120x160; "
        "export for those: sepilot export RUN --with-preprocessing 120x160"
    )
    pilot = load_pilot(path)
    for call in (pilot.predict, pilot.infer):
        with pytest.raises(ContractError) as caught:
            call(np.zeros((120, 160, 3), np.uint8))
        assert str(caught.value) == words
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / "0.png"), np.zeros((120, 160, 3), np.uint8))
    assert main(["drive", str(path), "--source", str(tmp_path / "frames"), "--quiet"]) == 2
    assert capsys.readouterr().err == f"sepilot: {words}\n"


def test_what_is_no_frame_is_refused_as_ever() -> None:
    pilot = Pilot(ConstantEngine(frame_contract()))
    for wrong in (np.zeros((48, 64), np.uint8), np.zeros((48, 64, 4), np.uint8), np.zeros((48, 64, 3), np.float32)):
        with pytest.raises(FrameError):
            pilot.predict(wrong)  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="wrong shape"):
        pilot.infer_picture(np.zeros((12, 20, 1), np.uint8))


def test_a_file_that_is_not_what_its_contract_says_is_refused(tmp_path: Path) -> None:
    for path in (
        write_frame_onnx(tmp_path / "a.onnx", name="image"),
        write_frame_onnx(tmp_path / "b.onnx", kind="FLOAT"),
        write_frame_onnx(tmp_path / "c.onnx", frame_contract(frame=FrameInput(height=47, width=64))),
        write_tflite(tmp_path / "d.tflite", text=frame_contract().to_json(), contract=contract_of(COLOUR)),
        write_onnx(tmp_path / "e.onnx", contract_of(COLOUR), text=frame_contract().to_json(), input_name="frame"),
    ):
        with pytest.raises(ModelFileError, match="expected"):
            open_engine(path)


def test_drive_bench_and_overlay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_frames(tmp_path / "frames", 6)
    path, video = str(write_frame_onnx(tmp_path / "m.onnx")), tmp_path / "o.mp4"
    assert main(["drive", path, "--source", str(tmp_path / "frames"), "--overlay", str(video), "--quiet"]) == 0
    steering = [json.loads(line)["steering"] for line in capsys.readouterr().out.splitlines()]
    assert steering == pytest.approx([steering_of(picture_of(f, COLOUR), COLOUR) for f in frames(6)], abs=1e-5)
    assert cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT) == 6
    # The noise has the size that the file takes; a file that takes pictures goes along.
    plain = str(write_onnx(tmp_path / "plain.onnx", contract_of(COLOUR)))
    assert main(["bench", plain, path, "--rounds", "2", "--calls", "5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["settings"]["frame_height"], document["settings"]["frame_width"]) == (48, 64)
    assert document["rows"][1]["preprocess"]["p50_us"] < document["rows"][0]["preprocess"]["p50_us"]
