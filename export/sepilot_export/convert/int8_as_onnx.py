"""The int8 TFLite file as ONNX: the same integers in the same operations, for whatever runs ONNX.

The file of `onnx_file.quantize` is int8 as well, but another quantizer's. The twin has the scales, the zero points and
the rounded weights of the TFLite file, and so gives its answers, but for a rounding here and there where two
interpreters add in another order. It takes and gives float32 like every ONNX file of this project; the input is
quantized inside with scale 1/255 and zero point -128, which is exact for pictures.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import onnx_file
from sepilot_export.convert.embed import tflite_content, tflite_model
from sepilot_export.convert.in_memory import pilot_of
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.quantization import INT8_INPUT, Affine
from sepilot_runtime.engine.pilot import answers_to

__all__ = ["ALLOWED_STEPS", "Twin", "output_step", "to_onnx", "twin_gap"]

ALLOWED_STEPS = 4
"""Output steps between the twin and its TFLite file. 0 or 1 where it is made; kernels of other machines differ more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """How a twin stands to its TFLite file.

    Attributes:
        of: the TFLite file's format.
        output_step: of that file, in output values; 0.001 where its output is float32.
        steps: largest distance between the answers of the two where they were made, in output steps.
        allowed_steps: on any machine.
    """

    of: str
    output_step: float
    steps: float
    allowed_steps: int

    def distance(self, answers: NDArray[np.floating], others: NDArray[np.floating]) -> float:
        """Largest distance of (n,) answers in output steps."""
        gap = np.abs(answers.astype(np.float64) - others).max()
        return round(float(gap) / self.output_step, 3)


def to_onnx(int8: bytes, contract: Contract, pictures: NDArray[np.uint8]) -> tuple[bytes, Twin]:
    """The twin of an int8 TFLite file, and how it stands to it.

    Args:
        pictures: on which the two are held against each other.

    Raises:
        RunError: an operation has no ONNX form, or the two differ by more than `ALLOWED_STEPS`.
    """
    import tf2onnx

    with tempfile.TemporaryDirectory(prefix="sepilot-twin-") as folder:
        path = Path(folder) / "int8.tflite"
        path.write_bytes(_as_tf2onnx_reads(int8))
        model, _ = tf2onnx.convert.from_tflite(str(path), opset=onnx_file.OPSET)
    _name_ends(model, contract, _output_affine(int8))
    onnx_file.keep_float_nodes(model)
    content = onnx_file.finished(model)
    gap = twin_gap(int8, content, contract, pictures)
    if not gap <= ALLOWED_STEPS:
        raise RunError(
            f"int8-twin.onnx: at most {ALLOWED_STEPS} output steps from the int8 TFLite file expected, found {gap:.0f}"
        )
    twin = Twin(of="int8.tflite", output_step=output_step(int8), steps=gap, allowed_steps=ALLOWED_STEPS)
    return content, twin


def _as_tf2onnx_reads(int8: bytes) -> bytes:
    """The same TFLite file without what ai-edge-quantizer writes and tf2onnx misreads.

    It names the tensors between int8 and float32 operations as tf2onnx names its own, and leaves the older of two
    fields with an operation's code empty, where a zero means an addition.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_model(int8)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = tensor.name.replace(b"_dequant", b"_real").replace(b"_prequant", b"_raw")
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode = min(code.builtinCode, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    return tflite_content(model)


def twin_gap(int8: bytes, twin: bytes, contract: Contract, pictures: NDArray[np.uint8]) -> float:
    """Largest distance of the two files' answers, in steps of the output; in 1/1000 where that is float32."""
    pilots = pilot_of(int8, "tflite", contract), pilot_of(twin, "onnx", contract)
    name = contract.outputs[0].name
    ours, theirs = (answers_to(pilot.infer_picture, pictures)[name].astype(np.float64) for pilot in pilots)
    return round(float(np.abs(ours - theirs).max()) / output_step(int8), 3)


def output_step(int8: bytes) -> float:
    """The step of a TFLite file's first output, 0.001 where it is float32."""
    affine = _output_affine(int8)
    return affine.scale if affine else 1e-3


def _output_affine(int8: bytes) -> Affine | None:
    model = tflite_model(int8)
    (signature,) = model.signatureDefs
    tensor = model.subgraphs[signature.subgraphIndex].tensors[signature.outputs[0].tensorIndex]
    if tensor.quantization is None or tensor.quantization.scale is None:
        return None
    return Affine(scale=float(tensor.quantization.scale[0]), zero_point=int(tensor.quantization.zeroPoint[0]))


def _name_ends(model: Any, contract: Contract, output: Affine | None) -> None:
    """Give a converted file the contract's names, and float32 at both ends. `output`: how its answer is stored."""
    from onnx import TensorProto, helper

    graph, name, head = model.graph, contract.picture.name, contract.outputs[0].name
    (image,), (answer,) = graph.input, graph.output

    def constants(prefix: str, affine: Affine) -> list[str]:
        graph.initializer.append(helper.make_tensor(f"{prefix}_scale", TensorProto.FLOAT, [], [affine.scale]))
        graph.initializer.append(helper.make_tensor(f"{prefix}_zero", TensorProto.INT8, [], [affine.zero_point]))
        return [f"{prefix}_scale", f"{prefix}_zero"]

    quantize = helper.make_node("QuantizeLinear", [name, *constants(name, INT8_INPUT)], [image.name], name="quantize")
    graph.node.insert(0, quantize)
    if output is None:
        last = helper.make_node("Identity", [answer.name], [head], name="answer")
    else:
        last = helper.make_node("DequantizeLinear", [answer.name, *constants(head, output)], [head], name="dequantize")
    graph.node.append(last)
    image.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, *contract.picture.shape)))
    shape = [d.dim_value for d in answer.type.tensor_type.shape.dim]
    answer.CopyFrom(helper.make_tensor_value_info(head, TensorProto.FLOAT, shape))
