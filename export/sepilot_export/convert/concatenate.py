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
    """Two TFLite files as one, each with one signature: what `front` gives goes where `rest` takes that name.

    A tensor that is stored otherwise on the two sides is quantized, or dequantized, with its own scale. Outputs of
    `front` and inputs of `rest` that the other does not name stay what they are, and so does everything inside.

    Raises:
        RunError: the two do not fit together.
    """
    first, model = tflite_model(front), tflite_model(rest)
    for part in (first, model):
        if len(part.subgraphs) != 1 or len(part.signatureDefs or ()) != 1:
            raise RunError("preprocessing in the file: one graph with one signature expected in each part")
    graph, before = model.subgraphs[0], first.subgraphs[0]
    index = _append(first, model)
    signature, other = model.signatureDefs[0], first.signatureDefs[0]
    for entry in (*other.inputs, *other.outputs):
        entry.tensorIndex += index
    taken = {entry.name: entry.tensorIndex for entry in signature.inputs}
    links = {entry.tensorIndex: taken[entry.name] for entry in other.outputs if entry.name in taken}
    if not links:
        raise RunError("preprocessing in the file: the parts have no name in common")
    operators = list(before.operators)
    for made, wanted in links.items():
        if graph.tensors[made].type == graph.tensors[wanted].type:
            for op in operators:
                op.outputs = [wanted if i == made else i for i in op.outputs]
        else:
            operators.append(_requantize(model, made, wanted))
    graph.operators = [*operators, *graph.operators]
    linked = {entry.name for entry in other.outputs} & set(taken)
    signature.inputs = [*other.inputs, *(e for e in signature.inputs if e.name not in linked)]
    signature.outputs = [*signature.outputs, *(e for e in other.outputs if e.name not in linked)]
    graph.inputs = [entry.tensorIndex for entry in signature.inputs]
    graph.outputs = [entry.tensorIndex for entry in signature.outputs]
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


def _requantize(model: Any, made: int, taken: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    integers = schema.TensorType.INT8, schema.TensorType.UINT8
    kinds = [model.subgraphs[0].tensors[place].type for place in (made, taken)]
    if schema.TensorType.FLOAT32 not in kinds or not set(kinds) & set(integers):
        raise RunError("preprocessing in the file: float32 or 8 bits with a scale expected where the parts meet")
    name, word = ("QUANTIZE", "Quantize") if kinds[1] in integers else ("DEQUANTIZE", "Dequantize")
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 1 if word == "Quantize" else 2
    model.operatorCodes.append(code)
    op = schema.OperatorT()
    op.opcodeIndex = len(model.operatorCodes) - 1
    op.inputs, op.outputs = [made], [taken]
    op.builtinOptionsType = getattr(schema.BuiltinOptions, f"{word}Options")
    op.builtinOptions = getattr(schema, f"{word}OptionsT")()
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
