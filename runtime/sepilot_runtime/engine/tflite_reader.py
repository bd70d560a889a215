"""TFLite files, walked by hand: metadata, signature and work, with every offset checked against the length of the file.

The generated FlatBuffers schema costs more import time than the whole walk. FlatBuffers layout:
flatbuffers.dev/internals; the fields: tensorflow/lite/schema/schema.fbs.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from sepilot_runtime.base.caps import TABLE_ENTRIES
from sepilot_runtime.contract.quantization import Affine

__all__ = ["Signature", "SignatureTensor", "macs_of", "metadata_of", "operator_macs", "signature_of"]

_MODEL_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_METADATA, _MODEL_SIGNATURES = 1, 2, 4, 6, 7
_CODE_OLD, _CODE = 0, 3
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_SUBGRAPH_TENSORS, _SUBGRAPH_OPERATORS = 0, 3
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTIZATION = 0, 2, 3, 4
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT = 2, 3
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS, _SIGNATURE_SUBGRAPH = 0, 1, 4
_MAP_NAME, _MAP_TENSOR = 0, 1
_CONV_2D, _DEPTHWISE_CONV_2D, _FULLY_CONNECTED = 3, 4, 9
_BATCH_TO_SPACE_ND, _SPACE_TO_BATCH_ND = 37, 38


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureTensor:
    """The tensor behind a name of the signature; `affine` None where it is not quantized with a single scale."""

    name: str
    affine: Affine | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Names of inputs and outputs, each with its tensor."""

    inputs: dict[str, SignatureTensor]
    outputs: dict[str, SignatureTensor]


def metadata_of(content: bytes, name: str) -> bytes | None:
    """The metadata called `name`; None where there is none.

    Raises:
        struct.error, IndexError: the file is not whole.
    """
    flat = _Flatbuffer(content)
    model = flat.indirect(0)
    for entry in flat.tables(model, _MODEL_METADATA):
        if flat.vector(entry, _METADATA_NAME) != name.encode():
            continue
        buffer = flat.tables(model, _MODEL_BUFFERS)[flat.number("<I", entry, _METADATA_BUFFER)]
        data = flat.vector(buffer, _BUFFER_DATA)
        if not data:  # Files over 2 GB, and some writers, keep the bytes behind the FlatBuffer.
            start, size = flat.number("<Q", buffer, _BUFFER_OFFSET), flat.number("<Q", buffer, _BUFFER_SIZE)
            data = flat.slice(start, size)
        return data
    return None


def signature_of(content: bytes) -> Signature | None:
    """The file's signature; None where it has none or several.

    Raises:
        struct.error, IndexError, UnicodeDecodeError: the file is not whole.
    """
    flat = _Flatbuffer(content)
    model = flat.indirect(0)
    signatures = flat.tables(model, _MODEL_SIGNATURES)
    if len(signatures) != 1:
        return None
    graph = flat.tables(model, _MODEL_SUBGRAPHS)[flat.number("<I", signatures[0], _SIGNATURE_SUBGRAPH)]
    tensors = flat.tables(graph, _SUBGRAPH_TENSORS)

    def named(field: int) -> dict[str, SignatureTensor]:
        return {
            flat.vector(entry, _MAP_NAME).decode(): _tensor(flat, tensors[flat.number("<I", entry, _MAP_TENSOR)])
            for entry in flat.tables(signatures[0], field)
        }

    return Signature(inputs=named(_SIGNATURE_INPUTS), outputs=named(_SIGNATURE_OUTPUTS))


def macs_of(content: bytes) -> int:
    """Multiplications with addition of one picture: convolutions and dense layers of the first subgraph.

    Raises:
        struct.error, IndexError: the file is not whole.
    """
    return sum(operator_macs(content))


def operator_macs(content: bytes) -> list[int]:
    """What `macs_of` adds up: of each operator of the first subgraph.

    A dilated convolution may come as a plain one between two operators that deal the picture's pixels out to a batch of
    small pictures and put them together again. The batch is followed from the first of them to the second: in a file
    for any number of pictures the tensors' shapes do not tell it.

    Raises:
        struct.error, IndexError: the file is not whole.
    """
    flat = _Flatbuffer(content)
    model = flat.indirect(0)
    codes = [
        max(flat.number("<b", code, _CODE_OLD), flat.number("<i", code, _CODE))
        for code in flat.tables(model, _MODEL_CODES)
    ]
    graph = flat.tables(model, _MODEL_SUBGRAPHS)[0]
    tensors, buffers = flat.tables(graph, _SUBGRAPH_TENSORS), flat.tables(model, _MODEL_BUFFERS)
    shapes = [flat.integers(tensor, _TENSOR_SHAPE) for tensor in tensors]
    batches: dict[int, int] = {}
    found = []
    for operator in flat.tables(graph, _SUBGRAPH_OPERATORS):
        code = codes[flat.number("<I", operator, _OPERATOR_CODE)]
        inputs, outputs = flat.integers(operator, _OPERATOR_INPUTS), flat.integers(operator, _OPERATOR_OUTPUTS)
        batch = batches.get(inputs[0], 1) if inputs else 1
        if code in (_SPACE_TO_BATCH_ND, _BATCH_TO_SPACE_ND):
            buffer = buffers[flat.number("<I", tensors[inputs[1]], _TENSOR_BUFFER)]
            block = struct.iter_unpack("<i", flat.vector(buffer, _BUFFER_DATA))
            pieces = max(1, math.prod(size for (size,) in block))
            batch = batch * pieces if code == _SPACE_TO_BATCH_ND else max(1, batch // pieces)
        batches.update(dict.fromkeys(outputs, batch))
        worked = code in (_CONV_2D, _DEPTHWISE_CONV_2D, _FULLY_CONNECTED)
        found.append(_macs(code, shapes[inputs[1]], shapes[outputs[0]], batch) if worked else 0)
    return found


def _macs(code: int, weights: list[int], output: list[int], batch: int) -> int:
    """Weights: (out, h, w, in), depthwise (1, h, w, channels), dense (out, in)."""
    if code == _FULLY_CONNECTED:
        return math.prod(output) * math.prod(weights[1:])
    per_value = math.prod(weights[1:3] if code == _DEPTHWISE_CONV_2D else weights[1:])
    return batch * math.prod(output[1:]) * per_value


def _tensor(flat: _Flatbuffer, tensor: int) -> SignatureTensor:
    affine = None
    if quantization := flat.table(tensor, _TENSOR_QUANTIZATION):
        scales = flat.scalars("<f", quantization, _QUANTIZATION_SCALE)
        zero_points = flat.scalars("<q", quantization, _QUANTIZATION_ZERO_POINT)
        if len(scales) == len(zero_points) == 1:
            affine = Affine(scale=scales[0], zero_point=int(zero_points[0]))
    return SignatureTensor(name=flat.vector(tensor, _TENSOR_NAME).decode(), affine=affine)


class _Flatbuffer:
    """Reads tables and vectors; raises struct.error or IndexError instead of reading past the end."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def _unpack(self, form: str, at: int) -> int:
        if at < 0:
            raise IndexError(at)
        value: int = struct.unpack_from(form, self._content, at)[0]
        return value

    def slice(self, start: int, size: int) -> bytes:
        if start < 0 or start + size > len(self._content):
            raise IndexError(start)
        return self._content[start : start + size]

    def indirect(self, at: int) -> int:
        return at + self._unpack("<I", at)

    def _field(self, table: int, index: int) -> int:
        """Position of a table's field, 0 where it is left out."""
        vtable = table - self._unpack("<i", table)
        entry = 4 + 2 * index
        if entry + 2 > self._unpack("<H", vtable):
            return 0
        offset = self._unpack("<H", vtable + entry)
        return table + offset if offset else 0

    def _count(self, at: int) -> int:
        """Entries of a vector that becomes a list."""
        count = self._unpack("<I", at)
        if count > TABLE_ENTRIES:
            raise IndexError(at)
        return count

    def number(self, form: str, table: int, index: int) -> int:
        at = self._field(table, index)
        return self._unpack(form, at) if at else 0

    def vector(self, table: int, index: int) -> bytes:
        """A vector of bytes, or a string."""
        at = self._field(table, index)
        if not at:
            return b""
        at = self.indirect(at)
        return self.slice(at + 4, self._unpack("<I", at))

    def scalars(self, form: str, table: int, index: int) -> list[float]:
        """A vector of numbers of one struct format."""
        at = self._field(table, index)
        if not at:
            return []
        at = self.indirect(at)
        data = self.slice(at + 4, struct.calcsize(form) * self._count(at))
        return [value for (value,) in struct.iter_unpack(form, data)]

    def integers(self, table: int, index: int) -> list[int]:
        return [int(value) for value in self.scalars("<i", table, index)]

    def table(self, table: int, index: int) -> int:
        """Position of the table in a field, 0 where it is left out."""
        at = self._field(table, index)
        return self.indirect(at) if at else 0

    def tables(self, table: int, index: int) -> list[int]:
        """Positions of the tables in a vector."""
        at = self._field(table, index)
        if not at:
            return []
        at = self.indirect(at)
        count = self._count(at)
        self.slice(at + 4, 4 * count)
        return [self.indirect(at + 4 + 4 * i) for i in range(count)]
