"""Model files that are whole, sealed and made to do harm: an endless loop, one that eats memory, a heavy one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_factory import BIAS, PICTURE, contract_of, weights_of
from sepilot_runtime.contract.contract import METADATA_KEY, Contract
from sepilot_runtime.engine.checksum import BLANK_SEAL, SEAL_KEY, seal


def write_endless(path: Path) -> Path:
    """An .onnx file whose answer waits for a loop of 2**62 rounds."""
    from onnx import TensorProto, helper, numpy_helper

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["carried", "carried"], ["doubled"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, [1, 1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("doubled", TensorProto.FLOAT, [1, 1]),
        ],
    )
    nodes = [helper.make_node("Loop", ["rounds", "yes", "ramp"], ["steering"], body=body)]
    more = [numpy_helper.from_array(np.array(2**62), "rounds"), numpy_helper.from_array(np.array(True), "yes")]
    return _write(path, nodes, more, contract_of())


def write_greedy(path: Path, gigabytes: int = 64) -> Path:
    """An .onnx file that fills memory before it answers."""
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("Mul", ["zeros", "ramp"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=1),
        helper.make_node("Add", ["ramp", "sum"], ["steering"]),
    ]
    size = np.array([gigabytes << 18, 1024 // 4 * 4])
    return _write(path, nodes, [numpy_helper.from_array(size, "size")], contract_of())


def _write(path: Path, nodes: Sequence[Any], constants: Sequence[Any], contract: Contract) -> Path:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "target"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w", "b"], ["ramp"]),
            *nodes,
        ],
        "hostile",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *PICTURE.shape])],
        [helper.make_tensor_value_info("steering", TensorProto.FLOAT, [1, 1])],
        [
            numpy_helper.from_array(np.array([1, -1], np.int64), "target"),
            numpy_helper.from_array(weights_of(PICTURE).reshape(-1, 1), "w"),
            numpy_helper.from_array(np.array([BIAS], np.float32), "b"),
            *constants,
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {SEAL_KEY: BLANK_SEAL, METADATA_KEY: contract.to_json()})
    path.write_bytes(seal(model.SerializeToString(deterministic=True)))
    return path
