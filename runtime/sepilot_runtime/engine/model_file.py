"""Model files: what kind one is, and the contract that it carries, without running it.

Both formats are walked by hand (TFLite in tflite_reader.py), with every offset checked against the length of the file.
The ONNX package is no part of the runtime, and neither it nor the FlatBuffers schema promises to survive a file that is
cut off or is not what its name says.

Protobuf layout: protobuf.dev/programming-guides/encoding; the ONNX fields: `ModelProto` in onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.base.caps import MODEL_BYTES, TABLE_ENTRIES
from sepilot_runtime.base.errors import ModelFileError, NoContractError
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.contract.contract import METADATA_KEY, Contract, require_contract_size
from sepilot_runtime.engine.checksum import require_checksum
from sepilot_runtime.engine.names import ModelKind
from sepilot_runtime.engine.tflite_reader import metadata_of

__all__ = ["MODEL_SUFFIXES", "ModelFile", "model_files", "read_content", "read_model_file"]

MODEL_SUFFIXES = tuple(f".{kind}" for kind in ModelKind)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelFile:
    """A model file in memory.

    It is read once and everything (contract, interpreter) works on the same bytes, so a file that is replaced in the
    meantime cannot give the contract of one model to the weights of another.

    Attributes:
        content: the whole file.
        contract: what it promises.
        checksum: over the whole file, 64 hex digits; "" for a model that was never written.
    """

    path: Path
    kind: ModelKind
    content: bytes
    contract: Contract
    checksum: str = ""


def model_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they were named; in the place of a directory its model files, by name. Each counts once.

    Raises:
        ModelFileError: a directory holds none, or cannot be read.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _model_files_in(path) if path.is_dir() else [path]:
            found.setdefault(file.absolute(), file)
    return list(found.values())


def _model_files_in(folder: Path) -> list[Path]:
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in MODEL_SUFFIXES)
    except OSError as e:
        raise ModelFileError(f"{folder}: cannot be read: {e.strerror or e}") from e
    if not found:
        raise ModelFileError(f"{folder}: {' or '.join(MODEL_SUFFIXES)} files expected, found none")
    return found


def read_model_file(path: Path) -> ModelFile:
    """Read a .tflite or .onnx file with its contract; every byte of it is as it was when it was exported.

    Raises:
        ModelFileError: missing, no regular file, too large, unreadable, damaged or changed, without a checksum, or not
            a model of this kind.
        NoContractError: it carries no contract.
        ContractError: it carries one that `Contract.from_json` refuses.
    """
    kind, content = read_content(path)
    checksum = require_checksum(content, str(path))
    try:
        raw = metadata_of(content, METADATA_KEY) if kind is ModelKind.TFLITE else _onnx_metadata(content)
        require_contract_size(len(raw or b""), str(path))
        text = None if raw is None else str(raw, "utf-8")
    except (struct.error, IndexError, UnicodeDecodeError) as e:
        raise ModelFileError(f"{path}: damaged: it is not a whole {kind.upper()} file; copy or export it again") from e
    if text is None:
        raise NoContractError(f"{path}: no contract; bring it under one with `sepilot adopt {path}`")
    if checksum is None:
        raise ModelFileError(f"{path}: carries no checksum, as files of an older sepilot do; export it again")
    contract = Contract.from_json(text, where=str(path))
    return ModelFile(path=path, kind=kind, content=content, contract=contract, checksum=checksum)


def read_content(path: Path) -> tuple[ModelKind, bytes]:
    """The bytes of a .tflite or .onnx file, whether it carries a contract or not.

    Raises:
        ModelFileError: missing, no regular file, too large, unreadable, empty, or not a model of this kind.
    """
    try:
        kind = ModelKind(path.suffix.lower().removeprefix("."))
    except ValueError as e:
        hint = "; `sepilot export` makes them" if path.suffix == ".pb" or path.is_dir() else ""
        if path.suffix in (".keras", ".h5"):
            hint = f"; `sepilot adopt {path}` makes them"
        raise ModelFileError(f"{path}: a model file ends in {' or '.join(MODEL_SUFFIXES)}{hint}") from e
    try:
        content = read_regular(path, MODEL_BYTES)
    except FileNotFoundError as e:
        raise ModelFileError(f"{path}: no such file") from e
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read: {e.strerror or e}") from e
    if not content:
        raise ModelFileError(f"{path}: is empty")
    # An ONNX file starts with the ModelProto field 1 (ir_version), which every writer puts first.
    found = ModelKind.TFLITE if content[4:8] == b"TFL3" else ModelKind.ONNX if content[0] == 0x08 else None
    if found is not kind:
        what = f"a {found.upper()} file by its content" if found else "something else by its content"
        raise ModelFileError(f"{path}: {kind.upper()} expected from its name, found {what}")
    return kind, content


# --- ONNX -----------------------------------------------------------------------------------------------------------

_MODEL_GRAPH, _MODEL_METADATA_PROPS = 7, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def _onnx_metadata(content: bytes) -> memoryview | None:
    contract: memoryview | None = None
    has_graph = False
    for number, value in _protobuf_fields(memoryview(content)):
        has_graph = has_graph or number == _MODEL_GRAPH
        if number == _MODEL_METADATA_PROPS:
            entry = dict(_protobuf_fields(value))
            if bytes(entry.get(_ENTRY_KEY, b"")) == METADATA_KEY.encode():
                contract = entry.get(_ENTRY_VALUE, memoryview(b""))
    if not has_graph:
        raise IndexError("no graph")
    return contract


def _protobuf_fields(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Field numbers with their bytes; numbers that are not length-delimited come with none."""
    at = count = 0
    while at < len(content):
        count += 1
        if count > TABLE_ENTRIES:
            raise IndexError(at)
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


def _varint(content: memoryview, at: int) -> tuple[int, int]:
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
