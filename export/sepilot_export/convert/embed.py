"""Writes contract and checksum into model files, and reads back how sparse their weights are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import METADATA_KEY, Contract
from sepilot_runtime.engine.checksum import BLANK_SEAL, SEAL_KEY, seal

__all__ = [
    "embed_onnx",
    "embed_tflite",
    "onnx_weights",
    "put_onnx_metadata",
    "put_tflite_metadata",
    "sparsity",
    "tflite_content",
    "tflite_model",
    "tflite_weights",
]


def embed_tflite(content: bytes, contract: Contract) -> bytes:
    """The .tflite file `content` with contract and checksum in metadata buffers, in place of what is there already."""
    return seal(put_tflite_metadata(content, _entries(contract)))


def embed_onnx(content: bytes, contract: Contract) -> bytes:
    """The .onnx file `content` with contract and checksum in its metadata, in place of what is there already."""
    return seal(put_onnx_metadata(content, _entries(contract)))


def _entries(contract: Contract) -> dict[str, str]:
    return {METADATA_KEY: contract.to_json(), SEAL_KEY: BLANK_SEAL}


def put_tflite_metadata(content: bytes, entries: Mapping[str, str]) -> bytes:
    """The .tflite file `content` with texts in metadata buffers, by name; what was there under a name is replaced."""
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_model(content)
    model.metadata = model.metadata or []
    for name, text in entries.items():
        entry = next((m for m in model.metadata if m.name == name.encode()), None)
        if entry is None:
            entry = schema.MetadataT()
            entry.name, entry.buffer = name.encode(), len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.metadata.append(entry)
        model.buffers[entry.buffer].data = np.frombuffer(text.encode(), np.uint8)
    return tflite_content(model)


def put_onnx_metadata(content: bytes, entries: Mapping[str, str]) -> bytes:
    """The .onnx file `content` with texts in its metadata, by name; what was there under a name is replaced."""
    import onnx

    model = onnx.load_model_from_string(content)
    kept = {p.key: p.value for p in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, **entries})
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def tflite_weights(content: bytes) -> list[NDArray[Any]]:
    """Constant tensors of two and more dimensions: kernels, not biases and shapes.

    Of one that is stored without its zeros, the zeros come behind the other values.
    """
    from ai_edge_litert import schema_py_generated as schema

    types = {
        schema.TensorType.FLOAT32: np.float32,
        schema.TensorType.FLOAT16: np.float16,
        schema.TensorType.INT8: np.int8,
    }
    model = tflite_model(content)
    return [
        _padded(np.asarray(model.buffers[t.buffer].data, np.uint8).view(types[t.type]), int(np.prod(t.shape)))
        for graph in model.subgraphs
        for t in graph.tensors
        if t.type in types and len(t.shape) > 1 and model.buffers[t.buffer].data is not None
    ]


def _padded(values: NDArray[Any], size: int) -> NDArray[Any]:
    return np.concatenate([values, np.zeros(max(0, size - values.size), values.dtype)])


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


def tflite_content(model: Any) -> bytes:
    """The .tflite file of a model in the schema's object form."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    # The quantizer leaves the older of the two fields empty, where a zero means an addition. OpenVINO and tf2onnx read
    # that one; the schema wants both.
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode = min(code.builtinCode, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


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
