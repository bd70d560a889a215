"""Model files that are not what they should be are refused in one line, and never take the process down."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from model_factory import contract_of, write_onnx, write_tflite
from sepilot_runtime.base.errors import ContractError, ModelFileError, SepilotError
from sepilot_runtime.engine.model_file import read_model_file
from sepilot_runtime.engine.names import ModelKind


@pytest.fixture(params=["tflite", "onnx"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"model.{request.param}"
    return write_tflite(path) if request.param == "tflite" else write_onnx(path)


def test_the_contract_comes_back(model: Path) -> None:
    assert read_model_file(model).contract == contract_of()
    file = read_model_file(model)
    assert file.kind is ModelKind(model.suffix[1:])
    assert file.content == model.read_bytes()


def test_the_suffix_may_be_in_capitals(model: Path) -> None:
    loud = model.rename(model.with_suffix(model.suffix.upper()))
    assert read_model_file(loud).contract == contract_of()


def test_a_contract_behind_the_flatbuffer_is_found(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    from sepilot_runtime.contract.contract import METADATA_KEY
    from sepilot_runtime.engine.checksum import BLANK_SEAL, seal

    # The layout that converters use for files of more than 2 GB: offset and size in place of the bytes.
    text = contract_of().to_json().encode()
    content = _tflite_with_offset_buffer(schema, METADATA_KEY, text)
    path = tmp_path / "model.tflite"
    path.write_bytes(seal(content + text + BLANK_SEAL.encode()))
    assert read_model_file(path).contract == contract_of()
    path.write_bytes(content + text[:-1])
    with pytest.raises(ModelFileError, match="damaged"):
        read_model_file(path)


def _tflite_with_offset_buffer(schema: object, key: str, text: bytes) -> bytes:
    import flatbuffers

    size = 0
    for _ in range(2):  # The first pass tells how long the FlatBuffer is.
        model = schema.ModelT()  # type: ignore[attr-defined]
        model.version = 3
        entry = schema.MetadataT()  # type: ignore[attr-defined]
        entry.name, entry.buffer = key.encode(), 1
        buffer = schema.BufferT()  # type: ignore[attr-defined]
        buffer.offset, buffer.size = max(size, 2), len(text)
        model.metadata, model.buffers = [entry], [schema.BufferT(), buffer]  # type: ignore[attr-defined]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        size = len(builder.Output())
    return bytes(builder.Output())


def test_a_file_without_a_contract_says_what_to_do(tmp_path: Path) -> None:
    for path in (write_tflite(tmp_path / "m.tflite", text=""), write_onnx(tmp_path / "m.onnx", text="")):
        with pytest.raises(ContractError, match=rf"no contract; bring it under one with `sepilot adopt {path}`"):
            read_model_file(path)


def test_a_foreign_version_is_refused(tmp_path: Path) -> None:
    text = dataclasses.replace(contract_of(), version="3.0").to_json()
    with pytest.raises(ContractError, match=r"version 1\.0 to 2\.\d expected, found '3\.0'"):
        read_model_file(write_tflite(tmp_path / "m.tflite", text=text))


def test_a_truncated_file_is_refused_at_every_length(model: Path) -> None:
    content = model.read_bytes()
    for length in {*range(0, len(content), max(1, len(content) // 200)), *range(64), len(content) - 1}:
        model.write_bytes(content[:length])
        with pytest.raises(SepilotError) as caught:
            read_model_file(model)
        assert str(caught.value).startswith(f"{model}: ")


def test_changed_bytes_are_refused(model: Path) -> None:
    content = np.frombuffer(model.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(500):
        spoilt = content.copy()
        at = rng.integers(0, len(spoilt), rng.integers(1, 8))
        spoilt[at] ^= rng.integers(1, 256, len(at), np.uint8)
        model.write_bytes(spoilt.tobytes())
        with pytest.raises(SepilotError) as caught:
            read_model_file(model)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x00" * 9, b"TFL3", b"\x08\x07\x12", b"nonsense" * 99, bytes(range(256))])
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_other_content_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        read_model_file(path)


def test_the_name_must_fit_the_content(tmp_path: Path) -> None:
    lying = write_tflite(tmp_path / "m.tflite").rename(tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match="ONNX expected from its name, found a TFLITE file"):
        read_model_file(lying)


def test_what_the_car_cannot_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"PK")
    with pytest.raises(ModelFileError, match="sepilot adopt"):
        read_model_file(tmp_path / "model.keras")
    with pytest.raises(ModelFileError, match=r"\.tflite or \.onnx"):
        read_model_file(tmp_path / "model.bin")
    with pytest.raises(ModelFileError, match="no such file"):
        read_model_file(tmp_path / "model.tflite")
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_model_file(tmp_path / "folder.tflite")
