"""Several outputs: told apart by their names in the file's signature, never by their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fakes import ConstantEngine
from model_factory import (
    BIAS,
    PICTURE,
    THROTTLE_BIAS,
    contract_of,
    frames,
    steering_of,
    two_output_contract,
    write_onnx,
    write_tflite,
)
from sepilot_runtime.base.errors import ContractError, ModelFileError
from sepilot_runtime.contract.contract import Scalar
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.drive.actuation import require_drivable
from sepilot_runtime.engine.golden import verify_golden
from sepilot_runtime.engine.names import EngineName
from sepilot_runtime.engine.pilot import Pilot, answers_to, load_pilot

Writer = Callable[..., Path]
RUNS: list[tuple[Writer, str, EngineName]] = [
    (write_tflite, "m.tflite", "litert"),
    (write_onnx, "m.onnx", "onnxruntime"),
    (write_tflite, "m.tflite", "openvino"),
    (write_onnx, "m.onnx", "openvino"),
]
MORE = {"throttle": THROTTLE_BIAS}


@pytest.mark.parametrize(("write", "name", "engine"), RUNS)
@pytest.mark.parametrize("reverse", [False, True])
def test_answers_have_the_right_names(
    write: Writer, name: str, engine: EngineName, reverse: bool, tmp_path: Path
) -> None:
    """TFLite sorts them: "steering" comes before "throttle" in the file, whatever the contract's order."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    pilot = load_pilot(write(tmp_path / name, two_output_contract(reverse=reverse), more=MORE), engine=engine)
    for frame in frames(3):
        steering = steering_of(picture_of(frame, PICTURE))
        found = pilot.predict(frame)
        assert found.raw["steering"] == pytest.approx(steering, abs=1e-6)
        assert found.raw["throttle"] == pytest.approx(steering - BIAS + THROTTLE_BIAS, abs=1e-6)
        assert found.values["throttle"] == max(0.0, found.raw["throttle"])
        assert found.in_unit("throttle") == found.values["throttle"]


@pytest.mark.parametrize("engine", ["litert", "openvino"])
def test_quantized_outputs_have_the_right_names(engine: EngineName, tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    path = write_tflite(tmp_path / "m.tflite", two_output_contract(reverse=True), more=MORE, int8=True)
    found = load_pilot(path, engine=engine).predict(frames(3)[2]).raw
    assert found["throttle"] - found["steering"] == pytest.approx(THROTTLE_BIAS - BIAS, abs=0.02)


@pytest.mark.parametrize(("write", "name", "engine"), RUNS[:2])
def test_swapped_outputs_are_refused_at_load(write: Writer, name: str, engine: EngineName, tmp_path: Path) -> None:
    """The planted fault: each answer stands under the other's name, as where a converter goes by their order."""
    swapped = {"output_name": "throttle", "more": {"steering": THROTTLE_BIAS}}
    path = write(tmp_path / name, two_output_contract(), **swapped)
    with pytest.raises(ModelFileError, match=r"golden frame 0: (steering|throttle) -?0\.\d+ within 0\.0001 expected"):
        load_pilot(path, engine=engine)


@pytest.mark.parametrize(("write", "name", "engine"), RUNS[:2])
def test_an_output_that_the_contract_does_not_know(
    write: Writer, name: str, engine: EngineName, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match="'steering' expected by its contract, found 'steering', 'throttle'"):
        load_pilot(write(tmp_path / name, contract_of(), more=MORE), engine=engine)
    with pytest.raises(ModelFileError, match="'steering', 'throttle' expected by its contract, found 'steering'"):
        load_pilot(write(tmp_path / name, two_output_contract()), engine=engine)


def test_golden_frames_hold_each_output_to_its_own_tolerance() -> None:
    contract = dataclasses.replace(two_output_contract(), tolerance={"steering": 0.2, "throttle": 1e-4})
    engine = ConstantEngine(dataclasses.replace(contract, golden=contract.golden[:1]))
    for name, (value,) in contract.golden[0].expected.items():
        engine.answers[name][0] = value
    engine.answers["steering"][0] += 0.1
    found = verify_golden(engine)
    assert found["steering"] == pytest.approx(0.1, abs=1e-6) and found["throttle"] < 1e-6
    engine.answers["throttle"][0] += 0.001
    with pytest.raises(ModelFileError, match=r"golden frame 0: throttle 0\.\d+ within 0\.0001 expected"):
        verify_golden(engine)


def test_answers_of_many_pictures_are_copies_in_order() -> None:
    engine = ConstantEngine(two_output_contract())
    pilot = Pilot(engine)

    def rising(frame: np.ndarray) -> dict[str, np.ndarray]:
        engine.answers["throttle"] += np.float32(0.25)
        return dict(pilot.infer(frame))

    found = answers_to(rising, frames(3))
    assert found["throttle"].tolist() == [0.25, 0.5, 0.75] and found["steering"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "outputs",
    [(Scalar(name="throttle"),), (Scalar(name="steering", positive="right"),), (Scalar(name="steering", unit="deg"),)],
)
def test_who_cannot_say_where_to_go_drives_no_car(outputs: tuple[Scalar, ...]) -> None:
    require_drivable(contract_of(), Path("m.tflite"))
    with pytest.raises(ContractError, match=r"^m\.tflite: 'steering' in degrees with \+ = right expected"):
        require_drivable(contract_of(outputs=outputs, golden=0), Path("m.tflite"))
