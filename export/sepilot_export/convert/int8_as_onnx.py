"""The int8 TFLite file as ONNX: the same integers in the same operations, for whatever runs ONNX.

The file of `onnx_file.quantize` is int8 as well, but another quantizer's. The twin has the scales, the zero points and
the rounded weights of the TFLite file, and so gives its answers, but for a rounding here and there where two
interpreters add in another order. It takes and gives float32 like every ONNX file of this project; the input is
quantized inside with scale 1/255 and zero point -128, which is exact for pictures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import onnx_file
from sepilot_export.convert.embed import tflite_content, tflite_model
from sepilot_export.convert.in_memory import pilot_of
from sepilot_export.convert.tflite import tensor_names
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract, Output
from sepilot_runtime.contract.outputs.protocol import parted
from sepilot_runtime.contract.quantization import INT8_INPUT, Affine
from sepilot_runtime.engine.pilot import answers_to

__all__ = ["ALLOWED_STEPS", "Twin", "output_steps", "to_onnx"]

FLOAT32_STEP = 1e-3
"""What stands for a step of an output that has none, in output values."""

Answers = Mapping[str, NDArray[np.floating]]

ALLOWED_STEPS = 4
"""Output steps between the twin and its TFLite file: 0 or 1 where it is made; kernels of other machines differ more."""

KERNELS_A_STEP = 8
"""And one more for so many kernels in a row, each of which may round otherwise: 7 were seen with 34 of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """How a twin stands to its TFLite file.

    Attributes:
        of: the TFLite file's format.
        output_steps: of that file by output tensor, in output values; 0.001 where one is float32.
        output_step: the same, as exports tell it that are from before there were several outputs.
        steps: largest distance between the answers of the two where they were made, in output steps.
        allowed_steps: on any machine.
    """

    of: str
    output_steps: Mapping[str, float] = field(default_factory=dict)
    output_step: float | None = None
    steps: float
    allowed_steps: int

    def step_of(self, tensor: str) -> float:
        """Of an output's tensor, in output values."""
        return self.output_steps.get(tensor, self.output_step or FLOAT32_STEP)

    def distance(self, answers: Answers, others: Answers, outputs: Sequence[Output]) -> float:
        """Largest distance of answers by output, (n,) or (n, *shape), in output steps."""
        return _gap(answers, others, outputs, self.step_of)


def to_onnx(int8: bytes, contract: Contract, pictures: NDArray[np.uint8]) -> tuple[bytes, Twin]:
    """The twin of an int8 TFLite file, and how it stands to it.

    Args:
        pictures: on which the two are held against each other.

    Raises:
        RunError: an operation has no ONNX form, or the two differ by too much.
    """
    import tf2onnx

    readable = _as_tf2onnx_reads(int8)
    with tempfile.TemporaryDirectory(prefix="sepilot-twin-") as folder:
        path = Path(folder) / "int8.tflite"
        path.write_bytes(readable)
        model, _ = tf2onnx.convert.from_tflite(str(path), opset=onnx_file.OPSET)
    _name_ends(model, contract, tensor_names(readable), _heads(readable))
    onnx_file.keep_float_nodes(model)
    content = onnx_file.finished(model)
    steps, pilots = output_steps(int8), (pilot_of(int8, "tflite", contract), pilot_of(content, "onnx", contract))
    ours, theirs = (answers_to(pilot.infer_picture, pictures) for pilot in pilots)
    gap = _gap(ours, theirs, contract.outputs, steps.__getitem__)
    allowed = ALLOWED_STEPS + _kernels(int8) // KERNELS_A_STEP
    if not gap <= allowed:
        raise RunError(
            f"int8-twin.onnx: at most {allowed} output steps from the int8 TFLite file expected, found {gap:.0f}"
        )
    return content, Twin(of="int8.tflite", output_steps=steps, steps=gap, allowed_steps=allowed)


def _kernels(int8: bytes) -> int:
    """How many operations of a TFLite file multiply by weights."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator as Op

    model = tflite_model(int8)
    mixing = {Op.CONV_2D, Op.DEPTHWISE_CONV_2D, Op.FULLY_CONNECTED}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return sum(codes[operator.opcodeIndex] in mixing for operator in model.subgraphs[0].operators)


def _as_tf2onnx_reads(int8: bytes) -> bytes:
    """The same TFLite file without what tf2onnx misreads.

    ai-edge-quantizer names the tensors between int8 and float32 operations as tf2onnx names its own.
    """
    model = tflite_model(int8)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = tensor.name.replace(b"_dequant", b"_real").replace(b"_prequant", b"_raw")
    return tflite_content(model)


def _gap(ours: Answers, theirs: Answers, outputs: Sequence[Output], step_of: Callable[[str], float]) -> float:
    gaps = []
    for output in outputs:
        apart = parted(np.abs(ours[output.name].astype(np.float64) - theirs[output.name]), output)
        gaps += [values.max() / step_of(name) for name, values in apart.items()]
    return round(float(max(gaps)), 3)


def output_steps(int8: bytes) -> dict[str, float]:
    """The steps of a TFLite file's outputs, 0.001 where one is float32."""
    return {name: head.affine.scale if head.affine else FLOAT32_STEP for name, head in _heads(int8).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """The tensor of an output, and how its answer is stored; None for float32."""

    tensor: str
    affine: Affine | None


def _heads(int8: bytes) -> dict[str, _Head]:
    """The outputs by their names in the signature: TFLite keeps them in another order than the contract."""
    model, found = tflite_model(int8), {}
    (signature,) = model.signatureDefs
    for entry in signature.outputs:
        tensor = model.subgraphs[signature.subgraphIndex].tensors[entry.tensorIndex]
        stored, affine = tensor.quantization, None
        if stored is not None and stored.scale is not None:
            affine = Affine(scale=float(stored.scale[0]), zero_point=int(stored.zeroPoint[0]))
        found[entry.name.decode()] = _Head(tensor=tensor.name.decode(), affine=affine)
    return found


def _name_ends(model: Any, contract: Contract, given: Mapping[str, str], heads: Mapping[str, _Head]) -> None:
    """Give a converted file the contract's names, and float32 at both ends. `given`: tensors of the inputs."""
    from onnx import TensorProto, helper

    graph, name = model.graph, contract.picture.name
    inputs, answers = {i.name: i for i in graph.input}, {answer.name: answer for answer in graph.output}
    image = inputs[given[name]]

    def constants(prefix: str, affine: Affine) -> list[str]:
        graph.initializer.append(helper.make_tensor(f"{prefix}_scale", TensorProto.FLOAT, [], [affine.scale]))
        graph.initializer.append(helper.make_tensor(f"{prefix}_zero", TensorProto.INT8, [], [affine.zero_point]))
        return [f"{prefix}_scale", f"{prefix}_zero"]

    quantize = helper.make_node("QuantizeLinear", [name, *constants(name, INT8_INPUT)], [image.name], name="quantize")
    graph.node.insert(0, quantize)
    for vector in contract.vectors:
        behind = given[vector.name]
        graph.node.insert(0, helper.make_node("Identity", [vector.name], [behind], name=f"{vector.name}_given"))
        inputs[behind].CopyFrom(helper.make_tensor_value_info(vector.name, TensorProto.FLOAT, (1, vector.size)))
    for said in contract.tensors:
        head = heads[said]
        prefix = f"{said}_" if len(contract.tensors) > 1 else ""
        answer = answers[head.tensor]
        if head.affine is None:
            last = helper.make_node("Identity", [answer.name], [said], name=f"{prefix}answer")
        else:
            stored = [answer.name, *constants(said, head.affine)]
            last = helper.make_node("DequantizeLinear", stored, [said], name=f"{prefix}dequantize")
        graph.node.append(last)
        shape = [d.dim_value for d in answer.type.tensor_type.shape.dim]
        answer.CopyFrom(helper.make_tensor_value_info(said, TensorProto.FLOAT, shape))
    image.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, *contract.picture.shape)))
