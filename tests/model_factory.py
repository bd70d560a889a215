"""Tiny real model files with contracts, made without TensorFlow.

The model is one dense layer whose weights are a horizontal ramp: a picture that is brighter on the right steers right.
`steering_of` is the same in numpy, so a test knows the right answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import METADATA_KEY, Contract, Picture, Provenance, Scalar, golden_from
from sepilot_runtime.contract.outputs.classes.output import Classes
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.engine.checksum import BLANK_SEAL, SEAL_KEY, seal, signed_bytes, with_signature
from sepilot_runtime.engine.pilot import Prediction

PICTURE = Picture(height=12, width=20, crop_top=0.25)
STEERING = Scalar(name="steering", unit="deg", scale=25.0, positive="right")
BIAS = 0.05
OUTPUT_SCALE, OUTPUT_ZERO_POINT = 2.0 / 255.0, 3
INT8_TOLERANCE = 0.03


def steering_output(**changes: Any) -> Scalar:
    """The factory's output, or another one like it."""
    return dataclasses.replace(STEERING, **changes)


def weights_of(picture: Picture) -> NDArray[np.float32]:
    """(h, w, c): a ramp over the columns, with full steering for black on the left and white on the right."""
    height, width, channels = picture.shape
    ramp = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :, None] * np.ones((height, 1, channels), np.float32)
    return (ramp / (np.clip(ramp, 0, None).sum() * 1.25)).astype(np.float32)


def steering_of(pixels: NDArray[np.uint8], picture: Picture = PICTURE) -> float:
    """The right answer for a picture (h, w, c)."""
    return float((pixels.astype(np.float64) / 255.0 * weights_of(picture)).sum() + BIAS)


def frames(count: int, *, height: int = 48, width: int = 64, seed: int = 0) -> list[NDArray[np.uint8]]:
    """BGR frames with a bright band that wanders from left to right."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        frame = rng.integers(0, 90, (height, width, 3), np.uint8)
        center = int((i + 0.5) / count * width)
        frame[:, max(center - width // 6, 0) : center + width // 6] += 120
        made.append(frame)
    return made


def write_frames(folder: Path, count: int) -> Path:
    """A new folder with `frames` as pictures."""
    folder.mkdir()
    for index, frame in enumerate(frames(count)):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return folder


def prediction_of(
    steering: float, *, preprocess_us: float = 10.0, infer_us: float = 20.0, **further: float
) -> Prediction:
    """What a pilot of the factory's output says, and of further numbers in [0, 1]."""
    said = {"steering": steering, **further}
    outputs = {"steering": STEERING, **{name: Scalar(name=name, low=0.0) for name in further}}
    return Prediction(values=said, raw=said, outputs=outputs, preprocess_us=preprocess_us, infer_us=infer_us)


def contract_of(picture: Picture = PICTURE, *, golden: int = 3, tolerance: float = 1e-4, **changes: Any) -> Contract:
    """A contract whose golden frames the factory's models fulfil. `tolerance`: of every output."""
    outputs: tuple[Scalar, ...] = changes.pop("outputs", (STEERING,))
    contract = Contract(
        inputs=(picture,),
        outputs=outputs,
        provenance=Provenance(
            recipe="ramp",
            recipe_sha256="0" * 64,
            dataset_fingerprint="1" * 64,
            drives=("synthetic",),
            validation_drives=(),
            validation={"r2": 0.5},
            versions={"numpy": np.__version__},
        ),
        golden=tuple(
            golden_from(frame, {"steering": steering_of(picture_of(frame, picture), picture)})
            for frame in frames(golden, seed=7)
        ),
        tolerance={output.name: tolerance for output in outputs},
    )
    return dataclasses.replace(contract, **changes)


THROTTLE = Scalar(name="throttle", low=0.0, positive="forward")
THROTTLE_BIAS = 0.4


def two_output_contract(*, reverse: bool = False) -> Contract:
    """Of the ramp model with `more={"throttle": THROTTLE_BIAS}`. `reverse`: the outputs the other way round."""
    plain = contract_of()
    golden = tuple(
        dataclasses.replace(g, expected={**g.expected, "throttle": (g.expected["steering"][0] - BIAS + THROTTLE_BIAS,)})
        for g in plain.golden
    )
    outputs = (THROTTLE, STEERING) if reverse else (STEERING, THROTTLE)
    return dataclasses.replace(plain, outputs=outputs, golden=golden, tolerance=dict.fromkeys(golden[0].expected, 1e-4))


def with_precision(contract: Contract, precision: str) -> Contract:
    """The contract of the int8 file: another precision and a wider tolerance."""
    provenance = dataclasses.replace(contract.provenance, precision=precision)  # type: ignore[arg-type]
    return dataclasses.replace(
        contract, provenance=provenance, tolerance=dict.fromkeys(contract.tolerance, INT8_TOLERANCE)
    )


def write_tflite(
    path: Path,
    contract: Contract | None = None,
    *,
    text: str | None = None,
    int8: bool = False,
    bias: float = BIAS,
    input_scale: float = 1.0 / 255.0,
    input_name: str = "image",
    output_name: str = "steering",
    gain: float = 1.0,
    more: Mapping[str, float] | None = None,
) -> Path:
    """Write the ramp model as .tflite.

    Args:
        contract: goes into the file (its precision is set to int8 with `int8`).
        text: instead of the contract's JSON, "" for a file without a contract.
        input_scale, input_name, output_name, gain, bias: for planted faults.
        more: further outputs, each of them the ramp with another bias.
    """
    contract = contract or contract_of()
    if int8:
        contract = with_precision(contract, "int8")
    weights = weights_of(contract.picture).reshape(1, -1) * gain
    graph = _Graph()
    shape = [1, *contract.picture.shape]
    if int8:
        # As in exported files: two products fit into 16 bits, which processors without VNNI add them up in.
        weight_scale = float(np.abs(weights).max() / 64)
        kernel = np.rint(weights / weight_scale).astype(np.int8)
        image = graph.tensor(f"serve_{input_name}:0", shape, "INT8", scale=input_scale, zero_point=-128)
        flat = graph.tensor("flat", [1, weights.size], "INT8", scale=input_scale, zero_point=-128)
        w = graph.tensor("w", [1, weights.size], "INT8", data=kernel, scale=weight_scale, zero_point=0)
    else:
        image = graph.tensor(f"serve_{input_name}:0", shape, "FLOAT32")
        flat = graph.tensor("flat", [1, weights.size], "FLOAT32")
        w = graph.tensor("w", [1, weights.size], "FLOAT32", data=weights)
    target = graph.tensor("target", [2], "INT32", data=np.array([1, -1], np.int32))
    graph.reshape(image, target, flat)
    outputs: dict[str, int] = {}
    for name, offset in {output_name: bias, **(more or {})}.items():
        place = len(outputs)
        if int8:
            step = input_scale * weight_scale
            data = np.array([round(offset / step)], np.int32)
            b = graph.tensor(f"b{place}", [1], "INT32", data=data, scale=step, zero_point=0)
            scale, zero_point = OUTPUT_SCALE, OUTPUT_ZERO_POINT
            outputs[name] = graph.tensor(f"out:{place}", [1, 1], "INT8", scale=scale, zero_point=zero_point)
        else:
            b = graph.tensor(f"b{place}", [1], "FLOAT32", data=np.array([offset], np.float32))
            outputs[name] = graph.tensor(f"out:{place}", [1, 1], "FLOAT32")
        graph.fully_connected(flat, w, b, outputs[name])
    if text is None:
        text = contract.to_json()
    path.write_bytes(seal(graph.finish({input_name: image}, outputs, _metadata(text))))
    return path


def _metadata(contract: str) -> dict[str, str]:
    return {SEAL_KEY: BLANK_SEAL} | ({METADATA_KEY: contract} if contract else {})


class _Graph:
    """A TFLite model under construction, in the schema's own object form."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.buffers: list[Any] = [schema.BufferT()]
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[Any] = []

    def tensor(
        self,
        name: str,
        shape: list[int],
        kind: str,
        *,
        data: NDArray[Any] | None = None,
        scale: float | None = None,
        zero_point: int = 0,
    ) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape = name.encode(), shape
        tensor.type = getattr(self.schema.TensorType, kind)
        tensor.buffer = self._buffer(data.tobytes()) if data is not None else 0
        if scale is not None:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def reshape(self, source: int, shape: int, result: int) -> None:
        options = self.schema.ReshapeOptionsT()
        self._operator("RESHAPE", "ReshapeOptions", options, [source, shape], result)

    def fully_connected(self, source: int, weights: int, bias: int, result: int) -> None:
        options = self.schema.FullyConnectedOptionsT()
        self._operator("FULLY_CONNECTED", "FullyConnectedOptions", options, [source, weights, bias], result)

    def finish(self, inputs: dict[str, int], outputs: dict[str, int], metadata: dict[str, str]) -> bytes:
        import flatbuffers

        schema = self.schema
        graph = schema.SubGraphT()
        graph.name = b"main"
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey = b"serve"
        signature.inputs = [self._map(name, index) for name, index in inputs.items()]
        signature.outputs = [self._map(name, index) for name, index in outputs.items()]
        model = schema.ModelT()
        model.version = 3
        model.operatorCodes, model.subgraphs, model.signatureDefs = self.codes, [graph], [signature]
        model.metadata = []
        for name, text in metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name.encode(), self._buffer(text.encode())
            model.metadata.append(entry)
        model.buffers = self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _buffer(self, data: bytes) -> int:
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def _operator(self, code: str, option_kind: str, options: Any, inputs: list[int], result: int) -> None:
        schema = self.schema
        operator_code = schema.OperatorCodeT()
        operator_code.builtinCode = getattr(schema.BuiltinOperator, code)
        operator_code.deprecatedBuiltinCode = operator_code.builtinCode
        operator_code.version = 4 if code == "FULLY_CONNECTED" else 1
        self.codes.append(operator_code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.codes) - 1
        operator.inputs, operator.outputs = inputs, [result]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, option_kind)
        operator.builtinOptions = options
        self.operators.append(operator)

    def _map(self, name: str, index: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        return entry


def write_onnx(
    path: Path,
    contract: Contract | None = None,
    *,
    text: str | None = None,
    input_name: str = "image",
    output_name: str = "steering",
    gain: float = 1.0,
    more: Mapping[str, float] | None = None,
) -> Path:
    """Write the ramp model as .onnx; the arguments are those of `write_tflite`."""
    from onnx import TensorProto, helper, numpy_helper

    contract = contract or contract_of()
    weights = weights_of(contract.picture).reshape(-1, 1) * np.float32(gain)
    outputs = {output_name: BIAS, **(more or {})}
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", [input_name, "target"], ["flat"]),
            *(helper.make_node("Gemm", ["flat", "w", f"b_{name}"], [name]) for name in outputs),
        ],
        "ramp",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [1, *contract.picture.shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in outputs],
        [
            numpy_helper.from_array(np.array([1, -1], np.int64), "target"),
            numpy_helper.from_array(weights, "w"),
            *(numpy_helper.from_array(np.array([bias], np.float32), f"b_{name}") for name, bias in outputs.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if text is None:
        text = contract.to_json()
    helper.set_model_props(model, _metadata(text))
    path.write_bytes(seal(model.SerializeToString(deterministic=True)))
    return path


CLASSES = Classes(name="class", names=("left", "right"))
"""Of the brighter side of a picture."""

SURENESS = 8.0


def classes_contract(**changes: Any) -> Contract:
    """Of the file of `write_classes`."""
    golden = tuple(
        golden_from(frame, {"class": [SURENESS * sign * steering_of(picture_of(frame, PICTURE)) for sign in (-1, 1)]})
        for frame in frames(2, seed=7)
    )
    changes = {"outputs": (CLASSES,), "golden": golden, "tolerance": {"class": 1e-3}, **changes}
    return dataclasses.replace(contract_of(golden=0), **changes)


def write_classes(path: Path, contract: Contract | None = None) -> Path:
    """Write as .tflite what says of a picture which of its sides is the brighter one: the ramp, with either sign."""
    signs = SURENESS * np.array([[-1.0], [1.0]], np.float32)
    weights, graph = signs * weights_of(PICTURE).reshape(1, -1), _Graph()
    image = graph.tensor("serve_image:0", [1, *PICTURE.shape], "FLOAT32")
    flat = graph.tensor("flat", [1, weights.shape[1]], "FLOAT32")
    target = graph.tensor("target", [2], "INT32", data=np.array([1, -1], np.int32))
    graph.reshape(image, target, flat)
    w = graph.tensor("w", list(weights.shape), "FLOAT32", data=weights)
    b = graph.tensor("b", [2], "FLOAT32", data=BIAS * signs[:, 0])
    answer = graph.tensor("out:0", [1, 2], "FLOAT32")
    graph.fully_connected(flat, w, b, answer)
    metadata = _metadata((contract or classes_contract()).to_json())
    path.write_bytes(seal(graph.finish({"image": image}, {"class": answer}, metadata)))
    return path


def write_old_onnx(path: Path, key: Path) -> Path:
    """Write the ramp model as .onnx with a seal of format 1, without a sequence number, signed by a private key."""
    import onnx
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    model = onnx.load_model_from_string(write_onnx(path).read_bytes())
    blank = f"sepilot-seal:1:{'0' * 64}:{'0' * 128}"
    onnx.helper.set_model_props(model, {p.key: p.value for p in model.metadata_props} | {SEAL_KEY: blank})
    content = seal(model.SerializeToString(deterministic=True))
    private = load_pem_private_key(key.read_bytes(), password=None)
    assert isinstance(private, Ed25519PrivateKey)
    path.write_bytes(with_signature(content, private.sign(signed_bytes(content))))
    return path


def write_qdq_onnx(path: Path, contract: Contract | None = None, *, weight_bits: int = 8) -> Path:
    """Write the ramp model as int8 .onnx of quantize / dequantize pairs: unsigned activations, signed weights.

    With 8 bits the outer columns' weights are near 127. `vpmaddubsw`, which ONNX Runtime multiplies with where there is
    AVX2 and no VNNI, adds two products in 16 bits, and 2 x 255 x 127 is twice what those hold: where the picture is
    bright at its right edge, the answer comes out too small, on such processors alone. With 7 bits the sums fit.
    """
    from onnx import TensorProto, helper, numpy_helper

    contract = with_precision(contract or contract_of(), "int8")
    weights = weights_of(contract.picture).reshape(-1, 1)
    scale = float(np.abs(weights).max()) / (2 ** (weight_bits - 1) - 1)
    constants: dict[str, NDArray[Any]] = {
        "target": np.array([1, -1], np.int64),
        "in_scale": np.array(1.0 / 255.0, np.float32),
        "in_zero": np.array(0, np.uint8),
        "w_q": np.rint(weights / scale).astype(np.int8),
        "w_scale": np.array(scale, np.float32),
        "w_zero": np.array(0, np.int8),
        "out_scale": np.array(OUTPUT_SCALE, np.float32),
        "out_zero": np.array(128 + OUTPUT_ZERO_POINT, np.uint8),
        "b": np.array([BIAS], np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "target"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "in_scale", "in_zero"], ["flat_q"]),
        helper.make_node("DequantizeLinear", ["flat_q", "in_scale", "in_zero"], ["flat_dq"]),
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w"]),
        helper.make_node("MatMul", ["flat_dq", "w"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "out_scale", "out_zero"], ["sum_q"]),
        helper.make_node("DequantizeLinear", ["sum_q", "out_scale", "out_zero"], ["sum_dq"]),
        helper.make_node("Add", ["sum_dq", "b"], ["steering"]),
    ]
    graph = helper.make_graph(
        nodes,
        "ramp",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *contract.picture.shape])],
        [helper.make_tensor_value_info("steering", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, _metadata(contract.to_json()))
    path.write_bytes(seal(model.SerializeToString(deterministic=True)))
    return path
