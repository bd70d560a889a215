"""A pilot steers as its model was trained to, and proves it before the first frame."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import ConstantEngine
from model_factory import PICTURE, contract_of, frames, steering_of, steering_output, write_onnx, write_tflite
from sepilot_runtime.base.errors import ContractError, FrameError, ModelFileError
from sepilot_runtime.contract.contract import Contract, Golden, Picture, golden_from
from sepilot_runtime.contract.outputs.points.output import Points
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.engine.golden import verify_golden
from sepilot_runtime.engine.pilot import Pilot, load_pilot

Writer = Callable[..., Path]
WRITERS = [(write_tflite, "m.tflite"), (write_onnx, "m.onnx")]


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_a_good_file_passes_and_steers(write: Writer, name: str, tmp_path: Path) -> None:
    pilot = load_pilot(write(tmp_path / name))
    for frame in frames(6):
        expected = steering_of(picture_of(frame, PICTURE))
        prediction = pilot.predict(frame)
        assert prediction.raw["steering"] == pytest.approx(expected, abs=1e-6)
        assert prediction.values["steering"] == pytest.approx(expected, abs=1e-6)
        assert prediction.in_unit("steering") == pytest.approx(25 * expected, abs=1e-4)
        assert prediction.preprocess_us > 0 and prediction.infer_us > 0
        assert pilot.infer(frame)["steering"] == prediction.raw["steering"]
        assert pilot.infer_picture(picture_of(frame, PICTURE))["steering"] == prediction.raw["steering"]
    assert verify_golden(pilot.engine)["steering"] < 1e-6


def with_expected(change: Callable[[float], float], contract: Contract) -> Contract:
    """Golden frames that expect something else; `to_json` gives them a digest that fits."""
    golden = tuple(
        Golden(frame_png=g.frame_png, expected={name: (change(value),) for name, (value,) in g.expected.items()})
        for g in contract.golden
    )
    return dataclasses.replace(contract, golden=golden)


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_a_wrong_golden_value_with_a_right_digest_is_caught(write: Writer, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, with_expected(lambda value: value + 0.01, contract_of()))
    with pytest.raises(
        ModelFileError, match=r"golden frame 0: steering -?0\.\d+ within 0\.0001 expected, found -?0\.\d+"
    ):
        load_pilot(path)
    # Who knows what they do may look at it.
    assert load_pilot(path, verify=False)


def test_a_tampered_golden_frame_is_caught(tmp_path: Path) -> None:
    body = json.loads(contract_of().to_json())
    body["golden"][0]["expected"]["steering"][0] += 0.5
    with pytest.raises(ContractError, match="digest"):
        load_pilot(write_tflite(tmp_path / "m.tflite", text=json.dumps(body)))


@pytest.mark.parametrize(
    "planted",
    [
        {"gain": 1.02},
        {"gain": -1.0},
        {"gain": float("nan")},
        {"text": dataclasses.replace(contract_of(), inputs=(Picture(height=12, width=20, crop_top=0.5),)).to_json()},
        {"text": dataclasses.replace(contract_of(), inputs=(Picture(height=12, width=20, crop_left=0.2),)).to_json()},
    ],
    ids=["weights", "sign", "nan", "crop top", "crop left"],
)
@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_faults_show_at_load(write: Writer, name: str, planted: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="golden frame"):
        load_pilot(write(tmp_path / name, **planted))


def test_a_model_that_ignores_its_input_is_caught_in_spite_of_a_wide_tolerance() -> None:
    black, white = (np.full((8, 8, 3), level, np.uint8) for level in (0, 255))
    contract = dataclasses.replace(
        contract_of(golden=0),
        golden=(golden_from(black, {"steering": -0.09}), golden_from(white, {"steering": 0.09})),
        tolerance={"steering": 0.1},
    )
    with pytest.raises(ModelFileError, match="ignores its input"):
        verify_golden(ConstantEngine(contract, 0.0))


LINEAR = Picture(height=12, width=20, crop_top=0.25, resize="linear")


def engine_with(picture: Picture, recorded: NDArray[np.uint8], off: float, **versions: str) -> ConstantEngine:
    """One golden frame that training made the picture `recorded` of, and an answer that is `off` by so much."""
    contract = contract_of(picture, golden=0)
    golden = (golden_from(frames(1)[0], {"steering": 0.5}, recorded),)
    provenance = dataclasses.replace(contract.provenance, versions={**contract.provenance.versions, **versions})
    return ConstantEngine(dataclasses.replace(contract, golden=golden, provenance=provenance), 0.5 + off)


def test_other_linear_pixels_than_in_training_widen_the_tolerance_and_no_more() -> None:
    pixels = picture_of(frames(1)[0], LINEAR)
    assert verify_golden(engine_with(LINEAR, pixels ^ 1, 0.01))["steering"] == pytest.approx(0.01)
    for recorded, off in ((pixels, 0.01), (pixels ^ 1, 0.2)):
        with pytest.raises(ModelFileError, match="golden frame 0"):
            verify_golden(engine_with(LINEAR, recorded, off))


def test_other_exact_pixels_than_in_training_are_refused_in_one_line_that_helps() -> None:
    pixels = picture_of(frames(1)[0], PICTURE)
    assert verify_golden(engine_with(PICTURE, pixels, 0.0))["steering"] == 0.0
    other = pixels.copy()
    other[5, 7] ^= 1
    for versions, install in (
        ({"opencv-python": "4.12.0.88"}, "opencv-python==4.12.0.88"),
        ({}, "opencv-python-headless"),
    ):
        with pytest.raises(ModelFileError) as caught:
            verify_golden(engine_with(PICTURE, other, 0.0, **versions))
        assert str(caught.value) == (
            f"constant: golden frame 0: the picture that it was trained with expected, OpenCV {cv2.__version__} makes "
            f"another of it; install the OpenCV of the training: pip install {install}"
        )


def test_a_fault_in_the_exact_resize_is_refused_at_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight in 1024 that an OpenCV has otherwise: no answer moves by a hundredth of what "linear" files may."""
    pixels = [picture_of(frame, PICTURE) for frame in frames(3, seed=7)]
    golden = [
        golden_from(frame, {"steering": steering_of(made)}, made)
        for frame, made in zip(frames(3, seed=7), pixels, strict=True)
    ]
    path = write_tflite(tmp_path / "m.tflite", dataclasses.replace(contract_of(golden=0), golden=tuple(golden)))
    assert load_pilot(path)
    remap = cv2.remap

    def otherwise(image: Any, places: Any, shares: Any, *rest: Any, **named: Any) -> Any:
        return remap(image, places, shares ^ 1, *rest, **named)

    monkeypatch.setattr(cv2, "remap", otherwise)
    with pytest.raises(ModelFileError, match=r"m\.tflite: golden frame 0: the picture .* OpenCV"):
        load_pilot(path)


def test_golden_frames_that_agree_ask_for_no_difference() -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    contract = dataclasses.replace(contract_of(golden=0), golden=(golden_from(frame, {"steering": 0.5}),) * 2)
    assert verify_golden(ConstantEngine(contract, 0.5))["steering"] == 0.0


def test_a_file_without_golden_frames_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no golden frames"):
        load_pilot(write_tflite(tmp_path / "m.tflite", contract_of(golden=0)))


@pytest.mark.parametrize("expected", [{}, {"throttle": 0.0}, {"steering": 0.0, "throttle": 0.0}])
def test_golden_frames_must_name_every_output(expected: dict[str, float]) -> None:
    golden = (golden_from(frames(1)[0], expected),)
    with pytest.raises(ContractError, match="golden frame 0"):
        verify_golden(ConstantEngine(dataclasses.replace(contract_of(golden=0), golden=golden)))


def test_a_golden_frame_that_is_no_picture_is_named() -> None:
    torn = golden_from(frames(1)[0], {}).frame_png[:400]
    golden = (Golden(frame_png=torn, expected={"steering": (0.0,)}),)
    with pytest.raises(ContractError, match="golden frame 0: truncated image"):
        verify_golden(ConstantEngine(dataclasses.replace(contract_of(golden=0), golden=golden)))


def test_steering_is_clipped_to_the_contract() -> None:
    contract = dataclasses.replace(contract_of(), outputs=(steering_output(scale=30.0, low=-0.5, high=0.75),))
    engine = ConstantEngine(contract, 2.0)
    pilot = Pilot(engine)
    prediction = pilot.predict(frames(1)[0])
    assert (prediction.values, prediction.raw) == ({"steering": 0.75}, {"steering": 2.0})
    assert prediction.in_unit("steering") == 22.5
    engine.answers["steering"][0] = -2.0
    assert pilot.predict(frames(1)[0]).in_unit("steering") == -15.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_never_becomes_steering(value: float) -> None:
    with pytest.raises(ModelFileError, match="for steering, not a number"):
        Pilot(ConstantEngine(contract_of(), value)).predict(frames(1)[0])


def test_impossible_frames_are_refused() -> None:
    pilot = Pilot(ConstantEngine(contract_of()))
    with pytest.raises(FrameError):
        pilot.predict(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(FrameError):
        pilot.infer_picture(np.zeros((1, 2, 1), np.uint8))


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_no_array_is_made_per_frame(write: Writer, name: str, tmp_path: Path) -> None:
    """What a frame takes meanwhile is less than its picture: numpy's 32 kB for the conversion to float32."""
    picture = Picture(height=200, width=400, crop_top=0.25)
    pilot = load_pilot(write(tmp_path / name, contract_of(picture)))
    given = frames(4, height=240, width=320)
    for frame in given:
        pilot.predict(frame)
    tracemalloc.start()
    try:
        for frame in given * 10:
            pilot.predict(frame)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.75 * picture.height * picture.width and now < 20_000


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_places_are_in_pixels_of_the_frame(fit: Literal["stretch", "letterbox"]) -> None:
    """The middle of the picture is the middle of what the model sees of the frame, wherever its crop lies."""
    picture = Picture(height=12, width=20, crop_top=0.25, fit=fit)
    points = Points(name="points", names=("middle", "corner"))
    contract = dataclasses.replace(contract_of(picture, golden=0), outputs=(points,), tolerance={"points": 1e-3})
    engine = ConstantEngine(contract)
    engine.answers["points"][:] = (0.5, 0.5, 0.0, 0.0)
    prediction = Pilot(engine).predict(np.zeros((80, 100, 3), np.uint8))
    # Of 80 rows the lower 60 are seen; they and the 100 columns have the picture's own proportions.
    assert prediction.values["points"]["points"] == {"middle": [50.0, 50.0], "corner": [0.0, 20.0]}
    assert prediction.post_us > 0 and prediction.total_us >= prediction.infer_us + prediction.post_us
