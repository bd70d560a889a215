"""Small nets as other people's tools leave them: no contract, names, ranges, layouts and types of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_mobilenet_onnx(path: Path, *, size: tuple[int, int] = (24, 32), channels: int = 3, seed: int = 0) -> Path:
    """A depthwise separable net as PyTorch's exporter writes it: NCHW, one input, a batch of any size, one output."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    constants = {
        "conv.w": rng.normal(0, 0.3, (8, channels, 3, 3)), "conv.b": rng.normal(0, 0.1, 8),
        "dw.w": rng.normal(0, 0.4, (8, 1, 3, 3)), "dw.b": rng.normal(0, 0.1, 8),
        "pw.w": rng.normal(0, 0.4, (12, 8, 1, 1)), "pw.b": rng.normal(0, 0.1, 12),
        "fc.w": rng.normal(0, 0.5, (1, 12)), "fc.b": np.zeros(1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["input", "conv.w", "conv.b"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "dw.w", "dw.b"], ["c"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c", "zero", "six"], ["d"]),
        helper.make_node("Conv", ["d", "pw.w", "pw.b"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"]),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "fc.w", "fc.b"], ["output"], transB=1),
    ]
    tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()]
    tensors += [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in (("zero", 0), ("six", 6))]
    graph = helper.make_graph(
        nodes, "torch_jit",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", channels, *size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", 1])],
        tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def write_several_onnx(path: Path) -> Path:
    """Bytes, whole numbers and real numbers in, two tensors out; nothing of a picture."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["bytes"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["ids"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["a"], ["c"], keepdims=0),
        helper.make_node("Add", ["b", "reals"], ["first"]),
        helper.make_node("Add", ["first", "c"], ["second"]),
    ]
    inputs: list[tuple[str, Any]] = [("bytes", TensorProto.UINT8), ("ids", TensorProto.INT64)]
    inputs.append(("reals", TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes, "mixed",
        [helper.make_tensor_value_info(name, kind, [1, 5]) for name, kind in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5]) for name in ("second", "first")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
