"""Writes the contract into model files, and reads back how sparse their weights are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract import METADATA_KEY, Contract

__all__ = ["embed_onnx", "embed_tflite", "onnx_weights", "sparsity", "tflite_model", "tflite_weights"]


def embed_tflite(content: bytes, contract: Contract) -> bytes:
    """The .tflite file `content` with the contract in a metadata buffer, in place of one that it may carry already."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_model(content)
    model.metadata = model.metadata or []
    entry = next((m for m in model.metadata if m.name == METADATA_KEY.encode()), None)
    if entry is None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = METADATA_KEY.encode(), len(model.buffers)
        model.buffers.append(schema.BufferT())
        model.metadata.append(entry)
    text = contract.to_json().encode()
    model.buffers[entry.buffer].data = np.frombuffer(text, np.uint8)
    builder = flatbuffers.Builder(len(content) + len(text) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def embed_onnx(content: bytes, contract: Contract) -> bytes:
    """The .onnx file `content` with the contract in its metadata, in place of one that it may carry already."""
    import onnx

    model = onnx.load_model_from_string(content)
    kept = {p.key: p.value for p in model.metadata_props if p.key != METADATA_KEY}
    onnx.helper.set_model_props(model, {**kept, METADATA_KEY: contract.to_json()})
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def tflite_weights(content: bytes) -> list[NDArray[Any]]:
    """Constant tensors of two and more dimensions: kernels, not biases and shapes."""
    from ai_edge_litert import schema_py_generated as schema

    types = {
        schema.TensorType.FLOAT32: np.float32,
        schema.TensorType.FLOAT16: np.float16,
        schema.TensorType.INT8: np.int8,
    }
    model = tflite_model(content)
    return [
        np.asarray(model.buffers[t.buffer].data, np.uint8).view(types[t.type])
        for graph in model.subgraphs
        for t in graph.tensors
        if t.type in types and len(t.shape) > 1 and model.buffers[t.buffer].data is not None
    ]


def onnx_weights(content: bytes) -> list[NDArray[Any]]:
    """Initializers of two and more dimensions that hold float or int8 numbers."""
    import onnx

    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8)
    model = onnx.load_model_from_string(content)
    return [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) > 1 and t.data_type in kinds]


def sparsity(weights: list[NDArray[Any]]) -> float:
    """Share of weights that are exactly zero; int8 kernels have their zero at 0."""
    total = sum(w.size for w in weights)
    return sum(int((w == 0).sum()) for w in weights) / total if total else 0.0


def tflite_model(content: bytes) -> Any:
    """A .tflite file in the schema's object form, all constants inside.

    Writers may keep large constants behind the FlatBuffer, where an offset in the file points to them; packed again the
    offset would point elsewhere.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model
