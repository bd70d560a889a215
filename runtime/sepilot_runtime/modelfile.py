"""Model files: what kind one is, and the contract that it carries, without running it.

Both formats are walked by hand, with every offset checked against the length of the file. The generated FlatBuffers
schema costs more import time than the whole walk, the ONNX package is no part of the runtime, and neither promises to
survive a file that is cut off or is not what its name says.

FlatBuffers layout: flatbuffers.dev/internals; the TFLite fields: `Model` in tensorflow/lite/schema/schema.fbs.
Protobuf layout: protobuf.dev/programming-guides/encoding; the ONNX fields: `ModelProto` in onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sepilot_runtime.contract import METADATA_KEY, Contract
from sepilot_runtime.errors import ContractError, ModelFileError

__all__ = ["MODEL_SUFFIXES", "ModelFile", "ModelKind", "read_contract", "read_model_file"]


class ModelKind(StrEnum):
    """The formats that the car runs; the value is also the suffix of the file, without its dot."""

    TFLITE = "tflite"
    ONNX = "onnx"


MODEL_SUFFIXES = tuple(f".{kind}" for kind in ModelKind)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelFile:
    """A model file in memory.

    It is read once and everything (contract, interpreter) works on the same bytes, so a file that is replaced in the
    meantime cannot give the contract of one model to the weights of another.

    Attributes:
        content: the whole file.
        contract: what it promises.
    """

    path: Path
    kind: ModelKind
    content: bytes
    contract: Contract


def read_contract(path: Path) -> Contract:
    """The contract inside a .tflite or .onnx file.

    Raises:
        ModelFileError: missing, unreadable, damaged, or not a model of this kind.
        ContractError: it carries no contract, or one that `Contract.from_json` refuses.
    """
    return read_model_file(path).contract


def read_model_file(path: Path) -> ModelFile:
    """Read a .tflite or .onnx file with its contract.

    Raises:
        ModelFileError: missing, unreadable, damaged, or not a model of this kind.
        ContractError: it carries no contract, or one that `Contract.from_json` refuses.
    """
    kind = _kind_by_suffix(path)
    content = _read(path)
    _require_content_of(kind, content, path)
    try:
        text = (_tflite_metadata if kind is ModelKind.TFLITE else _onnx_metadata)(content)
    except (struct.error, IndexError, UnicodeDecodeError) as e:
        raise ModelFileError(f"{path}: damaged: it is not a whole {kind.upper()} file; copy or export it again") from e
    if text is None:
        raise ContractError(f"{path}: carries no contract; export it with `sepilot export`")
    return ModelFile(path=path, kind=kind, content=content, contract=Contract.from_json(text, where=str(path)))


def _kind_by_suffix(path: Path) -> ModelKind:
    try:
        return ModelKind(path.suffix.lower().removeprefix("."))
    except ValueError as e:
        hint = "; `sepilot export` makes them" if path.suffix in (".keras", ".h5", ".pb") or path.is_dir() else ""
        raise ModelFileError(f"{path}: a model file ends in {' or '.join(MODEL_SUFFIXES)}{hint}") from e


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as e:
        raise ModelFileError(f"{path}: no such file") from e
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read: {e.strerror or e}") from e
    if not content:
        raise ModelFileError(f"{path}: is empty")
    return content


def _require_content_of(kind: ModelKind, content: bytes, path: Path) -> None:
    # An ONNX file starts with the ModelProto field 1 (ir_version), which every writer puts first.
    found = ModelKind.TFLITE if content[4:8] == b"TFL3" else ModelKind.ONNX if content[0] == 0x08 else None
    if found is not kind:
        what = f"a {found.upper()} file by its content" if found else "something else by its content"
        raise ModelFileError(f"{path}: {kind.upper()} expected from its name, found {what}")


# --- TFLite ---------------------------------------------------------------------------------------------------------

_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2


def _tflite_metadata(content: bytes) -> str | None:
    flat = _Flatbuffer(content)
    model = flat.indirect(0)
    for entry in flat.tables(model, _MODEL_METADATA):
        if flat.vector(entry, _METADATA_NAME) != METADATA_KEY.encode():
            continue
        buffer = flat.tables(model, _MODEL_BUFFERS)[flat.number("<I", entry, _METADATA_BUFFER)]
        data = flat.vector(buffer, _BUFFER_DATA)
        if not data:  # Files over 2 GB, and some writers, keep the bytes behind the FlatBuffer.
            start, size = flat.number("<Q", buffer, _BUFFER_OFFSET), flat.number("<Q", buffer, _BUFFER_SIZE)
            data = flat.slice(start, size)
        return data.decode("utf-8")
    return None


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

    def tables(self, table: int, index: int) -> list[int]:
        """Positions of the tables in a vector."""
        at = self._field(table, index)
        if not at:
            return []
        at = self.indirect(at)
        count = self._unpack("<I", at)
        self.slice(at + 4, 4 * count)
        return [self.indirect(at + 4 + 4 * i) for i in range(count)]


# --- ONNX -----------------------------------------------------------------------------------------------------------

_MODEL_GRAPH, _MODEL_METADATA_PROPS = 7, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def _onnx_metadata(content: bytes) -> str | None:
    contract: str | None = None
    has_graph = False
    for number, value in _protobuf_fields(content):
        has_graph = has_graph or number == _MODEL_GRAPH
        if number == _MODEL_METADATA_PROPS:
            entry = dict(_protobuf_fields(value))
            if entry.get(_ENTRY_KEY) == METADATA_KEY.encode():
                contract = entry.get(_ENTRY_VALUE, b"").decode("utf-8")
    if not has_graph:
        raise IndexError("no graph")
    return contract


def _protobuf_fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Field numbers with their bytes; numbers that are not length-delimited come with none."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire_type = tag >> 3, tag & 7
        size = 0
        if wire_type == 0:
            _, at = _varint(content, at)
        elif wire_type == 1:
            at += 8
        elif wire_type == 5:
            at += 4
        elif wire_type == 2:
            size, at = _varint(content, at)
        else:
            raise IndexError(at)
        if number == 0 or at + size > len(content):
            raise IndexError(at)
        yield number, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError(at)
