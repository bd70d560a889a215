"""Numbers that a model takes beside its picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_factory import BIAS, PICTURE, contract_of, frames, steering_of, weights_of
from sepilot_runtime.base.errors import ContractError, ModelFileError
from sepilot_runtime.contract.contract import METADATA_KEY, Contract, Vector, golden_from
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.drive.actuation import require_drivable
from sepilot_runtime.engine.checksum import BLANK_SEAL, SEAL_KEY, seal
from sepilot_runtime.engine.names import EngineName
from sepilot_runtime.engine.pilot import load_pilot

STATE = Vector(name="state", size=2, columns=("speed", "last"))
GAINS = np.array([[0.1], [0.01]], np.float32)


def contract(size: int = 2, state: tuple[float, float] = (1.0, -2.0)) -> Contract:
    golden = tuple(
        golden_from(frame, {"steering": steering_of(picture_of(frame, PICTURE)) + 0.08}, vectors={"state": state})
        for frame in frames(3, seed=7)
    )
    vector = dataclasses.replace(STATE, size=size, columns=())
    return dataclasses.replace(contract_of(golden=0), inputs=(PICTURE, vector), golden=golden)


def write(path: Path, said: Contract) -> Path:
    """The ramp model, which turns further the faster it goes."""
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "target"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w", "b"], ["seen"]),
            helper.make_node("MatMul", ["state", "gains"], ["felt"]),
            helper.make_node("Add", ["seen", "felt"], ["steering"]),
        ],
        "ramp",
        [
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *PICTURE.shape]),
        ],
        [helper.make_tensor_value_info("steering", TensorProto.FLOAT, [1, 1])],
        [
            numpy_helper.from_array(np.array([1, -1], np.int64), "target"),
            numpy_helper.from_array(weights_of(PICTURE).reshape(-1, 1), "w"),
            numpy_helper.from_array(np.array([BIAS], np.float32), "b"),
            numpy_helper.from_array(GAINS, "gains"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {SEAL_KEY: BLANK_SEAL, METADATA_KEY: said.to_json()})
    path.write_bytes(seal(model.SerializeToString(deterministic=True)))
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_it_answers_to_both(engine: EngineName, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    pilot = load_pilot(write(tmp_path / "m.onnx", contract()), engine=engine)
    frame = frames(1)[0]
    alone = steering_of(picture_of(frame, PICTURE))
    assert pilot.predict(frame).raw["steering"] == pytest.approx(alone, abs=1e-6), "zeros until somebody says more"
    pilot.vectors["state"][:] = (0.5, 3.0)
    assert pilot.predict(frame).raw["steering"] == pytest.approx(alone + 0.08, abs=1e-6)


def test_golden_frames_go_with_their_vectors(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="golden frame 0: steering"):
        load_pilot(write(tmp_path / "m.onnx", contract(state=(1.0, -20.0))))
    without = tuple(dataclasses.replace(g, vectors={}) for g in contract().golden)
    with pytest.raises(ContractError, match="golden frame 0: values of vectors for state expected"):
        load_pilot(write(tmp_path / "none.onnx", dataclasses.replace(contract(), golden=without)))


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"input 'state': shape \(1, 3\) expected by its contract, found \(1, 2\)"):
        load_pilot(write(tmp_path / "m.onnx", contract(size=3)))
    with pytest.raises(ModelFileError, match="input 'image' expected by its contract, found 'image', 'state'"):
        load_pilot(write(tmp_path / "n.onnx", contract_of()))


def test_no_car_is_driven_by_it() -> None:
    with pytest.raises(ContractError, match=r"^m\.onnx: it takes state beside the picture"):
        require_drivable(contract(), Path("m.onnx"))
