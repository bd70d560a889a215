"""A model file that was made elsewhere, wrapped so that it takes what every file of ours takes, and answers by name.

In front of it comes what makes its own input of the picture (float32 BGR or gray in [0, 1], height, width, channels):
the order of the channels, the range of values, the layout, the type. Behind it come numbers out of its tensors.
What is there already is left out: a file that takes our picture and gives what is asked for is only renamed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sepilot_export.convert import tflite
from sepilot_export.convert.concatenate import join_tflite
from sepilot_export.convert.embed import tflite_content, tflite_model
from sepilot_export.convert.keras_source import contract_inputs, contract_outputs
from sepilot_export.convert.stated import Plan
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Precision

__all__ = ["onnx_precision", "tflite_precision", "wrap_onnx", "wrap_tflite"]


def wrap_tflite(content: bytes, plan: Plan) -> bytes:
    """A TFLite file as one with the contract's signature.

    Raises:
        RunError: the parts do not fit together.
    """
    import keras

    inputs = {plan.image.name: plan.picture.name} | {tensor.name: name for name, tensor in plan.fed.items()}
    tensors = {taken.tensor.name: taken.tensor for taken in plan.taken.values()}
    outputs = {taken.tensor.name: name for name, taken in plan.taken.items() if taken.as_it_is}
    picked = len(outputs) < len(plan.taken)
    content = _with_signature(content, inputs, {name: name for name in tensors} if picked else outputs)
    if not plan.takes_pictures:
        (image, *_), fed = contract_inputs(plan)
        content = join_tflite(
            _converted({plan.picture.name: image}, {plan.picture.name: fed[plan.image.name]}), content
        )
    if picked:
        taken = {name: keras.Input(batch_shape=tensor.shape) for name, tensor in tensors.items()}
        flat = {name: keras.ops.reshape(value, (1, -1)) for name, value in taken.items()}
        content = join_tflite(content, _converted(taken, contract_outputs(plan, flat)))
    return content


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
    signature.signatureKey, signature.subgraphIndex = tflite.SIGNATURE.encode(), place
    signature.inputs, signature.outputs = ends
    graph.inputs, graph.outputs = ([entry.tensorIndex for entry in entries] for entries in ends)
    model.signatureDefs = [signature]
    return tflite_content(model)


def _converted(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> bytes:
    """A net between Keras's tensors as a TFLite file with a signature of these names, whatever they are."""
    import keras
    import tensorflow as tf

    # A SavedModel lets no input and output share a name, and no name hold a slash.
    takes, gives = ({f"{end}{i}": name for i, name in enumerate(side)} for end, side in (("x", inputs), ("y", outputs)))
    net = keras.Model(list(inputs.values()), dict(zip(gives, outputs.values(), strict=True)))
    sizes = zip(takes, inputs.values(), strict=True)
    specs = [tf.TensorSpec([n or 1 for n in tensor.shape], tf.float32, name=x) for x, tensor in sizes]
    with tempfile.TemporaryDirectory(prefix="sepilot-wrapping-") as folder:
        tflite.save_net(net, lambda *values: net(list(values), training=False), specs, Path(folder))
        content = tflite.convert(Path(folder), "float32")
    return _with_signature(content, takes, gives)


def wrap_onnx(content: bytes, plan: Plan) -> bytes:
    """An ONNX file as one with the contract's inputs and outputs.

    Raises:
        RunError: what comes out is no valid file.
    """
    import onnx
    from onnx import TensorProto, helper

    # So that no name of theirs is one of ours.
    model = onnx.compose.add_prefix(onnx.load_model_from_string(content), THEIRS)
    front, tail = _Operations("front"), _Operations("tail")
    _front_onnx(front, plan)
    for name, taken in plan.taken.items():
        flat = tail.then("Reshape", THEIRS + taken.tensor.name, np.array([1, -1], np.int64))
        picked = tail.then("Gather", flat, np.array(taken.places, np.int64), axis=1)
        tail.then("Mul", picked, np.array([taken.factor], np.float32), result=name)
    shapes = {plan.picture.name: plan.picture.shape} | {vector.name: vector.shape for vector in plan.vectors}
    wrapped = helper.make_graph(
        [*front.nodes, *model.graph.node, *tail.nodes],
        model.graph.name or "adopted",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, *shape)) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(o.name, TensorProto.FLOAT, (1, *o.shape)) for o in plan.outputs],
        [*front.constants, *model.graph.initializer, *tail.constants],
    )
    model.graph.CopyFrom(wrapped)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise RunError(f"the wrapped file is not valid: {str(e).splitlines()[0]}") from e
    return bytes(model.SerializeToString(deterministic=True))


THEIRS = "net/"
"""Before the names inside a wrapped ONNX file."""


class _Operations:
    """Operations in a row, each with constants of its own."""

    def __init__(self, place: str) -> None:
        self.place, self.nodes, self.constants = place, list[Any](), list[Any]()

    def then(self, kind: str, source: str, *values: Any, result: str = "", **attributes: Any) -> str:
        """One more operation on `source`; the name of what it gives."""
        from onnx import helper, numpy_helper

        result = result or f"{self.place}/{len(self.nodes)}"
        names = [f"{result}/{number}" for number in range(len(values))]
        self.constants += map(numpy_helper.from_array, values, names)
        self.nodes.append(helper.make_node(kind, [source, *names], [result], **attributes))
        return result


def _front_onnx(front: _Operations, plan: Plan) -> None:
    """From the picture to the file's own input, and from vectors to theirs."""
    from onnx import helper

    last = plan.picture.name
    if plan.reversed:
        last = front.then("Gather", last, np.array([2, 1, 0], np.int64), axis=3)
    if not np.allclose(plan.factor, 1 / 255, rtol=1e-6):
        last = front.then("Mul", last, (plan.factor * 255).astype(np.float32))
    if plan.offset.any():
        last = front.then("Add", last, plan.offset.astype(np.float32))
    if plan.channels_first:
        last = front.then("Transpose", last, perm=[0, 3, 1, 2])
    if plan.takes_integers:
        last = front.then("Round", last)
    for made, tensor in ((last, plan.image), *plan.fed.items()):
        shaped = made if tensor is plan.image else front.then("Reshape", made, np.array(tensor.shape, np.int64))
        kind = helper.np_dtype_to_tensor_dtype(tensor.dtype)
        front.then("Cast", shaped, to=kind, result=THEIRS + tensor.name)


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
