"""ONNX files from the deploy graph: tf2onnx for float32, ONNX Runtime's tools for float16 and int8.

Opset 17: above it, global average pooling becomes a transpose and a mean. Input and output keep the contract's names
and the channels-last layout; with one channel the change of layout is free.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.ranges import Activations, Range, as_input
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.quantization import INT8_INPUT

__all__ = ["OPSET", "Constants", "activations_of", "beside_pictures", "convert_float32", "finished", "from_function",
           "keep_float_nodes", "prepare", "quantize", "to_float16"]  # fmt: skip

OPSET = 17


def convert_float32(deployed: Any, contract: Contract) -> bytes:
    """The deploy graph as a float32 ONNX file. Raises what `from_function` raises."""
    import tensorflow as tf

    names, inputs = list(contract.tensors), [i.name for i in contract.inputs]

    def answers(*values: Any) -> dict[str, Any]:
        found = deployed(dict(zip(inputs, values, strict=True)) if len(values) > 1 else values[0], training=False)
        return {name: found[name] for name in names}

    return from_function(answers, [tf.TensorSpec((1, *i.shape), tf.float32, name=i.name) for i in contract.inputs])


def from_function(function: Callable[..., Mapping[str, Any]], specs: Sequence[Any]) -> bytes:
    """A TensorFlow function of tensors of `specs`, which gives its outputs by name, as a float32 ONNX file.

    Raises:
        RunError: tf2onnx left out an operation, which it only logs, or the file does not pass the ONNX checker.
    """
    import tensorflow as tf
    import tf2onnx

    # tf2onnx names an output after the operation that makes it.
    named = tf.function(lambda *values: {n: tf.identity(v, name=n) for n, v in function(*values).items()})
    model, _ = tf2onnx.convert.from_function(named, input_signature=tuple(specs), opset=OPSET)
    return finished(model)


def finished(model: Any) -> bytes:
    """A model of tf2onnx as a file. Raises RunError: an operation was left out, or the ONNX checker refuses it."""
    from onnx.defs import has

    kinds = {(n.op_type, n.domain) for n in model.graph.node}
    foreign = sorted({kind for kind, domain in kinds if domain not in ("", "ai.onnx", "ai.onnx.ml")})
    unknown = sorted({kind for kind, domain in kinds if domain in ("", "ai.onnx") and not has(kind)})
    if foreign or unknown:
        raise RunError(f"conversion to ONNX: no standard operation for {', '.join(foreign + unknown)}")
    return _checked(model)


def to_float16(float32: bytes) -> bytes:
    """A float32 ONNX file with float16 weights and arithmetic, float32 in and out."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = convert_float_to_float16(onnx.load_model_from_string(float32), keep_io_types=True)
    # It appends the casts of inputs and outputs at the end, which ONNX Runtime forgives and the standard does not.
    OnnxModel.graph_topological_sort(model.graph)
    return _checked(model)


def activations_of(float32: bytes, contract: Contract, only: Sequence[str] = ()) -> Activations:
    """All activations of a float32 file, or of an int8 file as numbers, by tensor name; or only those named.

    Vectors are zeros: what depends on them stays in float32 (`beside_pictures`), and is of no account here.
    """
    import onnx
    import onnxruntime as ort

    model = onnx.load_model_from_string(float32)
    kinds = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    outputs = [o.name for o in model.graph.output]
    # A quantized file still lists tensors that the quantizer took out.
    made = [name for node in model.graph.node for name in node.output]
    inner = [n for n in made if kinds.get(n) == onnx.TensorProto.FLOAT and n not in outputs]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in inner)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # Fused operations have no values in between.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = list(only) or outputs + inner
    beside = {v.name: np.zeros((1, v.size), np.float32) for v in contract.vectors}

    def run(picture: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        return dict(zip(names, session.run(names, {contract.picture.name: as_input(picture), **beside}), strict=True))

    return run


def beside_pictures(float32: bytes, contract: Contract) -> list[str]:
    """Nodes that depend on a vector input."""
    import onnx

    known, found = {v.name for v in contract.vectors}, []
    for node in onnx.load_model_from_string(float32).graph.node:
        if known.intersection(node.input):
            known.update(node.output)
            found.append(node.name)
    return found


def prepare(float32: bytes) -> bytes:
    """A float32 ONNX file folded and fused as the quantizer wants it, each kernel with a bias of its own."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="sepilot-onnx-") as folder:
        source, prepared = Path(folder) / "float32.onnx", Path(folder) / "prepared.onnx"
        source.write_bytes(float32)
        # Symbolic shapes need sympy, and there are none: the batch is fixed.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        model = onnx.load(str(prepared))
    _give_own_biases(model)
    return bytes(model.SerializeToString(deterministic=True))


def _give_own_biases(model: Any) -> None:
    """To each convolution and dense layer, in place, to be corrected alone: a constant may be kept once for several."""
    from onnx import numpy_helper

    constants = {constant.name: constant for constant in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in node.input)
    for number, node in enumerate(model.graph.node):
        if node.op_type not in ("Conv", "Gemm") or node.input[1] not in constants:
            continue
        if len(node.input) > 2:
            shared = constants.get(node.input[2])
            if shared is None or readers[shared.name] == 1:
                continue
            readers[shared.name] -= 1
            values = numpy_helper.to_array(shared)
        else:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            channels = constants[node.input[1]].dims[0 if node.op_type == "Conv" or transposed else 1]
            values = np.zeros(channels, np.float32)
            node.input.append("")
        # The quantizer makes five more names of each, so a short one.
        node.input[2] = f"bias{number}"
        model.graph.initializer.append(numpy_helper.from_array(values, node.input[2]))


def quantize(
    prepared: bytes,
    contract: Contract,
    pictures: NDArray[np.uint8],
    ranges: Mapping[str, Range],
    *,
    keep_float: Sequence[str] = (),
    alone: Sequence[str] = (),
) -> bytes:
    """A file of `prepare` as int8 with quantize / dequantize pairs, float32 in and out.

    Args:
        pictures: a few (n, h, w, c) uint8, as the quantizer calibrates whatever has no range.
        ranges: of the file's activations, by tensor name.
        keep_float: nodes that stay in float32.
        alone: the only nodes to quantize; all where it is empty.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory(prefix="sepilot-onnx-") as folder:
        source, result = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(prepared)
        quantize_static(
            str(source),
            str(result),
            _Reader(contract, pictures),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_quantize=list(alone),
            nodes_to_exclude=list(keep_float),
            extra_options={"TensorQuantOverrides": _overrides(contract, ranges)},
        )
        model = onnx.load(str(result))
    keep_float_nodes(model)
    return _checked(model)


def _overrides(contract: Contract, ranges: Mapping[str, Range]) -> dict[str, list[dict[str, Any]]]:
    """What the quantizer must not find out by itself: the ranges, and the scale of the picture."""
    from onnxruntime.quantization import QuantType

    settings: dict[str, dict[str, Any]] = {
        name: {"rmin": np.float32(low), "rmax": np.float32(high)} for name, (low, high) in ranges.items()
    }
    settings[contract.picture.name] = {
        "scale": np.array(INT8_INPUT.scale, np.float32),
        "zero_point": np.array(INT8_INPUT.zero_point, np.int8),
    }
    return {name: [{"quant_type": QuantType.QInt8, **setting}] for name, setting in settings.items()}


def keep_float_nodes(model: Any) -> None:
    """Shield the float32 layers of an int8 model, in place, from ONNX Runtime.

    At load it quantizes the weights of a convolution or dense layer between int8 ones by itself, with one scale for
    the whole kernel ("WeightBiasQuantization"). A sum of one number in front does nothing, and is no pattern it knows.
    """
    import onnx

    constants = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    restored = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    for node in list(model.graph.node):
        inputs = node.input
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        if inputs[0] in restored and inputs[1] in constants:
            shield = onnx.helper.make_node("Sum", [inputs[0]], [f"{node.name}_shield"], name=f"{node.name}_shield")
            inputs[0] = shield.output[0]
            model.graph.node.insert(list(model.graph.node).index(node), shield)


class _Reader:
    """Feeds pictures to the calibrator, one a time, as float32."""

    def __init__(self, contract: Contract, pictures: NDArray[np.uint8]) -> None:
        name, beside = contract.picture.name, {v.name: np.zeros((1, v.size), np.float32) for v in contract.vectors}
        self._feed: Iterator[dict[str, Any]] = ({name: as_input(p), **beside} for p in pictures)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feed, None)


class Constants:
    """The constants of an ONNX model by name, to read and to replace."""

    def __init__(self, model: Any) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def __getitem__(self, name: str) -> NDArray[Any]:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._tensors[name]))

    def __setitem__(self, name: str, values: NDArray[Any]) -> None:
        from onnx import numpy_helper

        self._tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))


def _checked(model: Any) -> bytes:
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise RunError(f"conversion to ONNX: the file is not valid: {str(e).splitlines()[0]}") from e
    content: bytes = model.SerializeToString(deterministic=True)
    return content
