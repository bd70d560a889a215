"""A model file is whole and unchanged, or it is not opened; a signature covers every byte of it."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from pathlib import Path

import pytest

from model_factory import contract_of, write_old_onnx, write_onnx, write_tflite
from sepilot_runtime.base.errors import ModelFileError, OutputError, UsageError
from sepilot_runtime.contract.contract import METADATA_KEY
from sepilot_runtime.engine.checksum import (
    BLANK_SEAL,
    LAST_SEQUENCE,
    require_checksum,
    seal,
    sequence_of,
    signature_of,
    signed_bytes,
    with_sequence,
    with_signature,
)
from sepilot_runtime.engine.model_file import ModelFile, read_model_file

MARK = b"sepilot-seal:2:"


@pytest.fixture(params=["tflite", "onnx"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"model.{request.param}"
    return write_tflite(path) if request.param == "tflite" else write_onnx(path)


@pytest.mark.parametrize("model", ["tflite"], indirect=True)
def test_every_single_byte_counts(model: Path) -> None:
    content = model.read_bytes()
    checksum = require_checksum(content, "m")
    assert checksum == read_model_file(model).checksum and len(checksum) == 64
    spoilt = bytearray(content)
    mark = content.index(MARK)
    for at in [*range(0, len(content), 7), *range(mark, mark + len(BLANK_SEAL))]:
        spoilt[at] ^= 0x20  # Among hex digits: another case, which is another byte.
        try:
            assert require_checksum(bytes(spoilt), "m") is None  # Its mark is gone; such a file is refused as well.
            assert mark <= at < mark + len(MARK)
        except ModelFileError as e:
            assert str(e) in (
                "m: damaged, or changed after export: its checksum does not match; copy or export it again",
                "m: damaged: one checksum expected, found one of another format; copy or export it again",
            )
        spoilt[at] = content[at]


def test_what_is_not_sealed_is_refused(model: Path) -> None:
    content = model.read_bytes()
    model.write_bytes(content.replace(MARK, b"another-mark:2:"))
    with pytest.raises(ModelFileError, match="carries no checksum, as files of an older sepilot do; export it again"):
        read_model_file(model)
    # Two seals leave open which of them holds.
    model.write_bytes(content + BLANK_SEAL.encode())
    with pytest.raises(ModelFileError, match="damaged: one checksum expected, found several"):
        read_model_file(model)
    with pytest.raises(ModelFileError, match=r"one sepilot\.seal expected .* found 2"):
        seal(model.read_bytes())
    with pytest.raises(ModelFileError, match="found 0"):
        seal(b"nothing")


def test_the_checksum_holds_before_anything_is_parsed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("metadata_of", "_onnx_metadata"):
        monkeypatch.setattr(f"sepilot_runtime.engine.model_file.{name}", lambda *_: pytest.fail("parsed"))
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="checksum does not match"):
        read_model_file(model)


def test_the_exporter_seals(model: Path) -> None:
    from sepilot_export.convert.embed import embed_onnx, embed_tflite

    put = embed_tflite if model.suffix == ".tflite" else embed_onnx
    content = put(model.read_bytes(), contract_of(tolerance=0.1))
    assert content.count(MARK) == content.count(METADATA_KEY.encode()) == 1
    model.write_bytes(content)
    assert read_model_file(model).contract.tolerance == {"steering": 0.1}


# --- Signatures -------------------------------------------------------------------------------------------------------


def test_a_signature_holds_for_its_key_and_its_file(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra `signing`")
    from sepilot_runtime.device.signing import new_key, require_signature, sign_file

    public, other = new_key(tmp_path / "mine.pem"), new_key(tmp_path / "other.pem")
    assert public == tmp_path / "mine.pub.pem"
    assert (tmp_path / "mine.pem").stat().st_mode & 0o777 == 0o600
    before = model.read_bytes()
    with pytest.raises(ModelFileError, match=r"not signed; a signature by a key of .*mine\.pub\.pem expected"):
        require_signature(read_model_file(model), public)

    sign_file(model, tmp_path / "mine.pem")
    file = read_model_file(model)
    require_signature(file, public)
    assert len(file.content) == len(before) and file.contract == contract_of()
    with pytest.raises(ModelFileError, match=r"signed, but not by a key of .*other\.pub\.pem"):
        require_signature(file, other)
    both = tmp_path / "trusted.pem"
    both.write_bytes(other.read_bytes() + public.read_bytes())
    require_signature(file, both)

    # Somebody changes a byte and makes the checksum fit.
    weak = bytearray(file.content)
    weak[weak.index(b"ramp")] ^= 1
    signature = signature_of(file.content)
    assert signature is not None and len(signature) == 64
    forged = tmp_path / f"forged{model.suffix}"
    forged.write_bytes(with_signature(bytes(weak), signature))
    assert require_checksum(forged.read_bytes(), "forged") is not None
    with pytest.raises(ModelFileError, match="signed, but not by a key of"):
        require_signature(file_with(file, forged.read_bytes()), public)
    # Signed once more by another key, it is that key's.
    sign_file(model, tmp_path / "other.pem")
    require_signature(read_model_file(model), other)


def test_the_sequence_number_is_signed(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra `signing`")
    from sepilot_runtime.device.signing import new_key, require_signature, sign_file

    key, public = tmp_path / "k.pem", new_key(tmp_path / "k.pem")
    assert sequence_of(model.read_bytes()) == 0
    before, size = int(time.time()), model.stat().st_size
    assert before <= sign_file(model, key) <= time.time()
    for number in (1, 41, LAST_SEQUENCE):
        assert sign_file(model, key, number) == number
        file = read_model_file(model)
        require_signature(file, public)
        assert sequence_of(file.content) == number and len(file.content) == size
    # Another number with the same signature, and a checksum that fits.
    signature = signature_of(file.content)
    assert signature is not None
    newer = with_signature(with_sequence(file.content, 42), signature)
    assert require_checksum(newer, "newer") and sequence_of(newer) == 42
    with pytest.raises(ModelFileError, match="signed, but not by a key of"):
        require_signature(file_with(file, newer), public)
    odd = newer.replace(b"%016d" % 42, b"00000000000000x2")
    with pytest.raises(ModelFileError, match="a sequence number of 16 digits expected"):
        sequence_of(odd)
    for number in (0, -1, LAST_SEQUENCE + 1):
        with pytest.raises(UsageError, match=f"--sequence {number}: a number from 1 to 9999999999999999 expected"):
            sign_file(model, key, number)
    # Sealed anew, it is nobody's.
    assert sequence_of(seal(newer)) == 0 and signature_of(seal(newer)) is None


def test_a_seal_of_the_older_format_is_read_and_counts_as_number_0(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra `signing`")
    from sepilot_runtime.device.signing import new_key, require_signature, sign_file

    public, model = new_key(tmp_path / "k.pem"), write_old_onnx(tmp_path / "old.onnx", tmp_path / "k.pem")
    file = read_model_file(model)
    require_signature(file, public)
    assert sequence_of(file.content) == 0
    with pytest.raises(ModelFileError, match=r"old\.onnx: the seal is an older sepilot's .*; export it again"):
        sign_file(model, tmp_path / "k.pem", 7)
    assert model.read_bytes() == file.content
    # A signature of the old form is none for the same bytes in the new one.
    assert signed_bytes(file.content).startswith(b"sepilot model file 1:")
    assert signed_bytes(write_onnx(tmp_path / "new.onnx").read_bytes()).startswith(b"sepilot model file 2:")


def file_with(file: ModelFile, content: bytes) -> ModelFile:
    return dataclasses.replace(file, content=content)


def test_keys_that_are_none_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra `signing`")
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from sepilot_runtime.device.signing import new_key, require_signature, sign_file

    model = write_tflite(tmp_path / "m.tflite")
    public = new_key(tmp_path / "k.pem")
    sign_file(model, tmp_path / "k.pem")
    foreign = X25519PrivateKey.generate()
    (tmp_path / "x.pem").write_bytes(foreign.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    (tmp_path / "x.pub.pem").write_bytes(
        foreign.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "text").write_text("no key")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for key in ("x.pem", "text", "nowhere", "k.pub.pem", "empty", "pipe", "."):
        with pytest.raises(UsageError, match=f"{re.escape(str(tmp_path / key))}: "):
            sign_file(model, tmp_path / key)
    for key in ("x.pub.pem", "text", "nowhere", "k.pem", "empty", "pipe", ".", "/dev/zero"):
        with pytest.raises(UsageError, match=f"{re.escape(str(tmp_path / key))}: "):
            require_signature(read_model_file(model), tmp_path / key)
    assert public.exists()
    with pytest.raises(OutputError, match="exists already"):
        new_key(tmp_path / "k.pem")
