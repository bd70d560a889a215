"""Putting one model file in front of another of its kind: what the first one says is what the second one takes."""

from __future__ import annotations

from typing import Any

from sepilot_export.convert.embed import tflite_content, tflite_model
from sepilot_runtime.base.errors import RunError
from sepilot_train.inspect.table import PREPROCESSING

__all__ = ["join_onnx", "join_tflite"]

PREFIX = PREPROCESSING
"""Before the names inside the first file, which may occur in the second one as well."""


def join_tflite(front: bytes, rest: bytes) -> bytes:
    """Two TFLite files as one; both have one signature, and `front` one float32 output.

    An int8 input of `rest` is quantized with its own scale. Everything in `rest` stays as it is.

    Raises:
        RunError: the two do not fit together.
    """
    first, model = tflite_model(front), tflite_model(rest)
    for part in (first, model):
        if len(part.subgraphs) != 1 or len(part.signatureDefs or ()) != 1:
            raise RunError("preprocessing in the file: one graph with one signature expected in each part")
    graph, before = model.subgraphs[0], first.subgraphs[0]
    (made,), (taken,) = before.outputs, graph.inputs
    index = _append(first, model)
    made = index + int(made)
    if graph.tensors[made].type == graph.tensors[taken].type:
        operators = [_writing(op, made, taken) for op in before.operators]
    else:
        operators = [*before.operators, _quantize(model, made, taken)]
    graph.operators = [*operators, *graph.operators]
    graph.inputs = [index + int(i) for i in before.inputs]
    signature, entry = model.signatureDefs[0], first.signatureDefs[0].inputs[0]
    entry.tensorIndex += index
    signature.inputs = [entry]
    return tflite_content(model)


def _append(first: Any, model: Any) -> int:
    """Put the tensors, buffers and kinds of operations of `first` behind those of `model`.

    Returns:
        What the tensors' numbers grew by. The operations of `first` are renumbered.
    """
    graph, before = model.subgraphs[0], first.subgraphs[0]
    tensors, buffers, codes = len(graph.tensors), len(model.buffers), len(model.operatorCodes)
    for tensor in before.tensors:
        tensor.name = PREFIX.encode() + tensor.name
        tensor.buffer += buffers
    for op in before.operators:
        op.opcodeIndex += codes
        op.inputs = [int(i) + tensors if i >= 0 else -1 for i in op.inputs]
        op.outputs = [int(i) + tensors for i in op.outputs]
    graph.tensors += before.tensors
    model.buffers += first.buffers
    model.operatorCodes += first.operatorCodes
    return tensors


def _writing(op: Any, made: int, taken: int) -> Any:
    """An operation that wrote the tensor `made`, now writing `taken`; reading stays as it is."""
    op.outputs = [taken if i == made else i for i in op.outputs]
    return op


def _quantize(model: Any, made: int, taken: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    tensors = model.subgraphs[0].tensors
    if tensors[taken].type != schema.TensorType.INT8 or tensors[made].type != schema.TensorType.FLOAT32:
        raise RunError("preprocessing in the file: a float32 or int8 input expected behind it")
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    op = schema.OperatorT()
    op.opcodeIndex = len(model.operatorCodes) - 1
    op.inputs, op.outputs = [made], [taken]
    op.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    op.builtinOptions = schema.QuantizeOptionsT()
    return op


def join_onnx(front: bytes, rest: bytes, name: str) -> bytes:
    """Two ONNX files as one: the output `name` of `front` becomes the input of that name of `rest`.

    Raises:
        RunError: the two do not fit together.
    """
    import onnx

    second = onnx.load_model_from_string(rest)
    first = onnx.compose.add_prefix(
        _like(onnx.load_model_from_string(front), second), PREFIX, rename_inputs=False, rename_outputs=False
    )
    try:
        joined = onnx.compose.merge_models(first, second, io_map=[(name, name)], producer_name=second.producer_name)
        onnx.checker.check_model(joined, full_check=True)
    except (ValueError, TypeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise RunError(f"preprocessing in the file: the parts do not fit: {str(e).splitlines()[0]}") from e
    content: bytes = joined.SerializeToString(deterministic=True)
    return content


def _like(first: Any, second: Any) -> Any:
    """`first` in the versions of the format and of its operations that `second` has."""
    import onnx

    wanted = next(o.version for o in second.opset_import if o.domain in ("", "ai.onnx"))
    if next(o.version for o in first.opset_import if o.domain in ("", "ai.onnx")) != wanted:
        first = onnx.version_converter.convert_version(first, wanted)
    first.ir_version = second.ir_version
    return first
