"""A model file that was made elsewhere, wrapped so that it takes what every file of ours takes, and answers by name.

In front of it comes what makes its own input of the picture (float32 BGR or gray in [0, 1], height, width, channels):
the order of the channels, the range of values, the layout, the type. Behind it come single numbers out of its tensors.
What is there already is left out: a file that takes our picture and gives one number each is only renamed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from sepilot_export.convert import tflite
from sepilot_export.convert.concatenate import join_tflite
from sepilot_export.convert.embed import tflite_content, tflite_model
from sepilot_export.convert.stated import Plan
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Precision
from sepilot_runtime.contract.quantization import INT8_INPUT

__all__ = ["onnx_precision", "tflite_precision", "wrap_onnx", "wrap_tflite"]


def wrap_tflite(content: bytes, plan: Plan) -> bytes:
    """A TFLite file as one with the contract's signature.

    Raises:
        RunError: the parts do not fit together.
    """
    changed = {name for name, (t, _, f) in plan.taken.items() if f != 1.0 or int(np.prod(t.shape)) != 1}
    inner = {tensor.name: tensor.name for tensor, _, _ in plan.taken.values()} if changed else None
    outputs = inner or {tensor.name: name for name, (tensor, _, _) in plan.taken.items()}
    inputs = {plan.image.name: plan.picture.name} | {tensor.name: name for name, tensor in plan.fed.items()}
    content = _with_signature(content, inputs, outputs)
    if _needs_front(plan):
        content = join_tflite(_front_tflite(plan), content)
    if inner:
        content = join_tflite(content, _tail_tflite(plan))
    return content


def _needs_front(plan: Plan) -> bool:
    plain = np.allclose(plan.factor, 1 / 255, rtol=1e-6) and not plan.offset.any()
    affine = plan.image.affine
    bytes_ = affine is not None and np.isclose(affine.scale, INT8_INPUT.scale, rtol=1e-6)
    ours = plan.image.dtype == np.float32 or (
        plan.image.dtype == np.int8 and bytes_ and affine is not None and affine.zero_point == INT8_INPUT.zero_point
    )
    return not plain or plan.reversed or plan.channels_first or not ours


def _with_signature(content: bytes, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> bytes:
    """The file with one signature of other names. Inputs and outputs that are not named are no longer any."""
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_model(content)
    known = model.signatureDefs[0] if len(model.signatureDefs or ()) == 1 else None
    place = known.subgraphIndex if known else 0
    graph = model.subgraphs[place]
    ends: list[list[Any]] = []
    for names, tensors, said in (
        (inputs, graph.inputs, known.inputs if known else ()),
        (outputs, graph.outputs, known.outputs if known else ()),
    ):
        indices = {entry.name.decode(): entry.tensorIndex for entry in said}
        indices = indices or {graph.tensors[i].name.decode(): int(i) for i in tensors}
        entries = []
        for old, new in names.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = new.encode(), indices[old]
            entries.append(entry)
            # One picture at a time, whatever the file was made for.
            graph.tensors[indices[old]].shapeSignature = None
        ends.append(entries)
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serve", place
    signature.inputs, signature.outputs = ends
    graph.inputs, graph.outputs = ([entry.tensorIndex for entry in entries] for entries in ends)
    model.signatureDefs = [signature]
    return tflite_content(model)


@functools.lru_cache(maxsize=1)
def _front_tflite(plan: Plan) -> bytes:
    import tensorflow as tf

    name, plain = plan.picture.name, plan.image.dtype.kind in "iu" and plan.image.affine is None

    def made(image: Any) -> dict[str, Any]:
        values = tf.gather(image, [2, 1, 0], axis=3) if plan.reversed else image
        values = values * (plan.factor * 255).astype(np.float32) + plan.offset.astype(np.float32)
        values = tf.transpose(values, (0, 3, 1, 2)) if plan.channels_first else values
        return {name: tf.cast(tf.round(values), plan.image.dtype) if plain else values}

    return tflite.from_function(made, {name: tf.TensorSpec((1, *plan.picture.shape), tf.float32, name=name)})


@functools.lru_cache(maxsize=1)
def _tail_tflite(plan: Plan) -> bytes:
    import tensorflow as tf

    tensors = {tensor.name: tensor for tensor, _, _ in plan.taken.values()}
    places = {name: f"t{number}" for number, name in enumerate(tensors)}

    def made(**values: Any) -> dict[str, Any]:
        return {
            name: tf.reshape(values[places[tensor.name]], (1, -1))[:, index : index + 1] * np.float32(factor)
            for name, (tensor, index, factor) in plan.taken.items()
        }

    specs = {places[n]: tf.TensorSpec(t.shape, tf.float32, name=places[n]) for n, t in tensors.items()}
    content = tflite.from_function(made, specs)
    return _with_signature(content, {new: old for old, new in places.items()}, {name: name for name in plan.taken})


def wrap_onnx(content: bytes, plan: Plan) -> bytes:
    """An ONNX file as one with the contract's inputs and outputs.

    Raises:
        RunError: what comes out is no valid file.
    """
    import onnx
    from onnx import TensorProto, helper

    # So that no name of theirs is one of ours.
    model = onnx.compose.add_prefix(onnx.load_model_from_string(content), THEIRS)
    parts = _Nodes()
    _front_onnx(parts, plan)
    parts.nodes += model.graph.node
    parts.constants += model.graph.initializer
    for name, (tensor, index, factor) in plan.taken.items():
        flat = parts.then("Reshape", THEIRS + tensor.name, np.array([1, -1], np.int64))
        picked = parts.then("Gather", flat, np.array([index], np.int64), axis=1)
        parts.then("Mul", picked, np.array([factor], np.float32), result=name)
    shapes = {plan.picture.name: plan.picture.shape} | {vector.name: vector.shape for vector in plan.vectors}
    wrapped = helper.make_graph(
        parts.nodes,
        model.graph.name or "adopted",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, *s)) for n, s in shapes.items()],
        [helper.make_tensor_value_info(o.name, TensorProto.FLOAT, (1, 1)) for o in plan.outputs],
        parts.constants,
    )
    model.graph.CopyFrom(wrapped)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise RunError(f"the wrapped file is not valid: {str(e).splitlines()[0]}") from e
    return bytes(model.SerializeToString(deterministic=True))


THEIRS = "net/"
"""Before the names inside a wrapped ONNX file."""


class _Nodes:
    """Operations under construction, each with constants of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def then(self, kind: str, source: str, *values: Any, result: str = "", **attributes: Any) -> str:
        """One more operation on `source`; the name of what it gives."""
        from onnx import helper, numpy_helper

        result = result or f"ours/{len(self.nodes)}"
        names = [f"{result}/{place}" for place in range(len(values))]
        self.constants += [numpy_helper.from_array(np.asarray(v), n) for n, v in zip(names, values, strict=True)]
        self.nodes.append(helper.make_node(kind, [source, *names], [result], **attributes))
        return result


def _front_onnx(parts: _Nodes, plan: Plan) -> None:
    """From the picture to the file's own input, and from vectors to theirs."""
    from onnx import helper

    last = plan.picture.name
    if plan.reversed:
        last = parts.then("Gather", last, np.array([2, 1, 0], np.int64), axis=3)
    if not np.allclose(plan.factor, 1 / 255, rtol=1e-6):
        last = parts.then("Mul", last, (plan.factor * 255).astype(np.float32))
    if plan.offset.any():
        last = parts.then("Add", last, plan.offset.astype(np.float32))
    if plan.channels_first:
        last = parts.then("Transpose", last, perm=[0, 3, 1, 2])
    if plan.image.dtype.kind in "iu":
        last = parts.then("Round", last)
    if plan.image.dtype != np.float32:
        last = parts.then("Cast", last, to=helper.np_dtype_to_tensor_dtype(plan.image.dtype))
    parts.then("Identity", last, result=THEIRS + plan.image.name)
    for name, tensor in plan.fed.items():
        parts.then("Reshape", name, np.array(tensor.shape, np.int64), result=THEIRS + tensor.name)


def tflite_precision(content: bytes) -> Precision:
    """What a file computes in: int8 where tensors between operations are stored so, else by its weights."""
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_model(content)
    graph = model.subgraphs[0]
    integers = (schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16)
    constant = {i for i, t in enumerate(graph.tensors) if model.buffers[t.buffer].data is not None}
    ends = {*map(int, graph.inputs), *map(int, graph.outputs)}
    made = [graph.tensors[i].type for op in graph.operators for i in op.outputs if int(i) not in ends]
    if any(kind in integers for kind in made):
        return "int8"
    weights = {graph.tensors[i].type for i in constant if len(graph.tensors[i].shape) > 1}
    if weights & {*integers}:
        return "dynamic"
    return "float16" if schema.TensorType.FLOAT16 in weights else "float32"


def onnx_precision(content: bytes) -> Precision:
    """As `tflite_precision`."""
    import onnx

    graph = onnx.load_model_from_string(content).graph
    if any(node.op_type.startswith(("QLinear", "DequantizeLinear", "DynamicQuantize")) for node in graph.node):
        return "dynamic" if any(n.op_type == "DynamicQuantizeLinear" for n in graph.node) else "int8"
    halves = any(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.initializer)
    return "float16" if halves else "float32"
