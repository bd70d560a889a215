"""TFLite files from the deploy graph.

The float files come from TensorFlow's converter, by way of an `ExportArchive`: handing it a Keras 3 model's concrete
function gives a file without weights that answers NaN, and says nothing. The int8 files come from ai-edge-quantizer
with ranges of our own (`ranges.py`). Its default calibration, a moving average, shrinks the range of a single output
number to almost nothing, also without a word; the converter's own calibrator is wrong where a batch normalization
cannot be folded (tensorflow/tensorflow#127842), and leaves the scale of the input to chance.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.embed import tflite_content, tflite_model
from sepilot_export.convert.ranges import Activations, Range
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.preprocess import write_input
from sepilot_runtime.contract.quantization import INT8_INPUT, Affine

__all__ = ["SIGNATURE", "activations_of", "beside_pictures", "convert", "from_function", "quantize", "quantize_alone",
           "require_exact_input", "save_graph", "save_net", "tensor_names"]  # fmt: skip

SIGNATURE = "serve"


def save_graph(deployed: Any, contract: Contract, folder: Path) -> None:
    """Write the deploy graph as a SavedModel with the one signature `serve`."""
    import tensorflow as tf

    specs = [tf.TensorSpec((1, *i.shape), tf.float32, name=i.name) for i in contract.inputs]
    names = [i.name for i in contract.inputs]

    def serve(image: Any, *beside: Any) -> Any:
        return deployed(dict(zip(names, (image, *beside), strict=True)) if beside else image, training=False)

    save_net(deployed, serve, specs, folder)


def save_net(net: Any, function: Callable[..., Any], specs: Sequence[Any], folder: Path) -> None:
    """Write a Keras net as a SavedModel with the one signature `serve`, a function of tensors of `specs`."""
    import keras

    archive = keras.export.ExportArchive()
    archive.track(net)
    archive.add_endpoint(SIGNATURE, function, input_signature=list(specs))
    archive.write_out(str(folder), verbose=False)


def from_function(function: Callable[..., Mapping[str, Any]], specs: Mapping[str, Any]) -> bytes:
    """A TensorFlow function of named tensors of `specs` as a float32 TFLite file with a signature of these names."""
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(function).get_concrete_function(**specs)
    with tempfile.TemporaryDirectory(prefix="sepilot-tflite-") as folder:
        tf.saved_model.save(module, folder, signatures={SIGNATURE: module.serve})
        return convert(Path(folder), "float32")


def convert(saved: Path, way: Literal["float32", "float16", "dynamic", "sparse", "trained int8"]) -> bytes:
    """A SavedModel with the signature `serve` as a TFLite file that needs no calibration.

    Args:
        way: "sparse" is float32 with kernels of many zeros stored as the values that are none and their places; with
            int8 weights LiteRT's default kernels refuse such a file ("failed to prepare"). "trained int8" takes the
            ranges that the graph has from a training for int8.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[SIGNATURE])
    if way != "float32":
        optimize = tf.lite.Optimize
        converter.optimizations = [optimize.EXPERIMENTAL_SPARSITY if way == "sparse" else optimize.DEFAULT]
    if way == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if way == "trained int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def activations_of(content: bytes, only: Collection[str] = ()) -> Activations:
    """All activations of a float32 file, or of an int8 file as numbers, by tensor name; or only those named.

    Vectors are zeros: what depends on them stays in float32 (`beside_pictures`), and is of no account here.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # A delegate would keep what happens inside it to itself.
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    image = _picture_of(interpreter.get_input_details())
    for vector in (t for t in interpreter.get_input_details() if t["index"] != image["index"]):
        interpreter.set_tensor(vector["index"], np.zeros(vector["shape"], vector["dtype"]))
    names = only or _activation_names(content)
    details = [t for t in interpreter.get_tensor_details() if t["name"] in names]
    places = {t["name"]: (t["index"], *t["quantization"]) for t in details}

    def run(picture: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        tensor = np.empty(image["shape"], image["dtype"])
        write_input(picture, tensor)
        interpreter.set_tensor(image["index"], tensor)
        interpreter.invoke()
        return {name: value(*place) for name, place in places.items()}

    def value(index: int, scale: float, zero_point: int) -> NDArray[np.float32]:
        stored = interpreter.get_tensor(index)
        return Affine(scale=scale, zero_point=zero_point).dequantize(stored) if stored.dtype == np.int8 else stored

    return run


def _picture_of(details: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of a file's inputs the one that is no vector."""
    return next(t for t in details if len(t["shape"]) == 4)


def beside_pictures(content: bytes) -> list[str]:
    """Tensors that depend on a vector input."""
    graph = tflite_model(content).subgraphs[0]
    vectors = _vectors(graph)
    found = dict.fromkeys(vectors)
    for operator in graph.operators:
        if any(i in found for i in operator.inputs.tolist()):
            found |= dict.fromkeys(operator.outputs.tolist())
    return [graph.tensors[i].name.decode() for i in found if i not in vectors]


def _vectors(graph: Any) -> list[int]:
    """Places of the input tensors that are no picture."""
    return [i for i in graph.inputs.tolist() if len(graph.tensors[i].shape) != 4]


def _with_float_vectors(content: bytes) -> bytes:
    """An int8 file that takes its vectors in float32.

    The quantizer has one rule for all inputs: what depends on a vector is float32, but the vector itself comes as int8
    and is turned into float32 first. It is taken behind that.
    """
    model = tflite_model(content)
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    behind = {
        operator.inputs[0]: (operator.outputs[0], operator)
        for operator in graph.operators
        if operator.inputs[0] in _vectors(graph)
    }
    if not behind:
        return content
    graph.inputs = np.array([behind[i][0] if i in behind else i for i in graph.inputs], np.int32)
    for entry in signature.inputs:
        if entry.tensorIndex in behind:
            entry.tensorIndex = behind[entry.tensorIndex][0]
    turned = [operator for _, operator in behind.values()]
    graph.operators = [operator for operator in graph.operators if not any(operator is t for t in turned)]
    return tflite_content(model)


def _activation_names(content: bytes) -> dict[str, int]:
    """Names of the float32 and int8 tensors that are no constants, each with its number of dimensions."""
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_model(content)
    graph = model.subgraphs[0]
    # `_with_float_vectors` leaves tensors that nothing reads or writes.
    alive = {*graph.inputs.tolist(), *(i for operator in graph.operators for i in operator.outputs.tolist())}
    return {
        tensor.name.decode(): len(tensor.shape)
        for place, tensor in enumerate(graph.tensors)
        if place in alive
        and tensor.type in (schema.TensorType.FLOAT32, schema.TensorType.INT8)
        and model.buffers[tensor.buffer].data is None
    }


def tensor_names(content: bytes) -> dict[str, str]:
    """The signature's names of inputs and outputs, each with the name of the tensor behind it."""
    model = tflite_model(content)
    (signature,) = model.signatureDefs
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    return {m.name.decode(): tensors[m.tensorIndex].name.decode() for m in (*signature.inputs, *signature.outputs)}


def quantize(
    float32: bytes, contract: Contract, ranges: Mapping[str, Range], *, keep_float: Sequence[str] = ()
) -> bytes:
    """An int8 file from a float32 file.

    The input gets scale 1/255 and zero point -128 by definition, so that `pixel - 128` is its exact value.

    Args:
        ranges: of the file's activations, by tensor name.
        keep_float: tensors whose operations stay in float32; an output among them is float32 as well.

    Raises:
        RunError: the file that came out does not have the input that the runtime writes.
    """
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    manager = _static_int8(".*")
    for name in keep_float:
        manager.add_quantization_config(
            _scope(name), qtyping.TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    content = _with_float_vectors(_quantized(float32, contract, ranges, manager))
    require_exact_input(content, contract)
    return content


def quantize_alone(float32: bytes, contract: Contract, ranges: Mapping[str, Range], tensors: Sequence[str]) -> bytes:
    """A float32 file in which only the operations that make `tensors` are int8."""
    return _quantized(float32, contract, ranges, _static_int8("|".join(map(_scope, tensors))))


def _scope(tensor: str) -> str:
    # The quantizer searches in the names of an operation's outputs, each with a semicolon behind it.
    return f"(?:^|;){re.escape(tensor)};"


def _static_int8(scope: str) -> Any:
    from ai_edge_quantizer import recipe, recipe_manager

    manager = recipe_manager.RecipeManager()
    (config,) = recipe.static_wi8_ai8()
    manager.load_quantization_recipe([{**config, "regex": scope}])
    return manager


def _quantized(float32: bytes, contract: Contract, ranges: Mapping[str, Range], manager: Any) -> bytes:
    from ai_edge_quantizer import quantizer

    fixed = {**ranges, tensor_names(float32)[contract.picture.name]: (0.0, 1.0)}
    shapes = {name: (1,) * rank for name, rank in _activation_names(float32).items()}
    values = {
        name: {"min": np.full(shapes[name], low, np.float32), "max": np.full(shapes[name], high, np.float32)}
        for name, (low, high) in fixed.items()
    }
    work = quantizer.Quantizer(float32)
    work.load_quantization_recipe(manager.get_quantization_recipe())
    return bytes(work.quantize(values, enable_progress_report=False).quantized_model)


def require_exact_input(content: bytes, contract: Contract) -> None:
    """Raise RunError unless the int8 input is `pixel - 128`, as the runtime writes it."""
    from ai_edge_litert.interpreter import Interpreter

    detail = _picture_of(Interpreter(model_content=content).get_input_details())
    scale, zero_point = detail["quantization"]
    exact = np.float32(scale) == np.float32(INT8_INPUT.scale) and zero_point == INT8_INPUT.zero_point
    if detail["dtype"] != np.int8 or not exact:
        raise RunError(
            f"the int8 file's input {contract.picture.name!r}: int8 with scale 1/255 and zero point -128 expected, "
            f"found {np.dtype(detail['dtype'])}, {scale:.9g} and {zero_point}"
        )
