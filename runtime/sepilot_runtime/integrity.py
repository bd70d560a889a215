"""The seal of a model file: a checksum over every byte of it, and room for a signature.

One metadata entry, written at export, of fixed width:

    sepilot-seal:1:<checksum, 64 hex digits>:<Ed25519 signature, 128 hex digits, zeros where nobody signed>

The checksum is SHA-256 over the file with the checksum's own digits set to zero. The signature is over the same with
its own digits set to zero as well, so that signing moves no offset and needs to know nothing of the format.

The seal is found by its mark, which stands in a file exactly once, so that the checksum is held against the bytes
before anything reads them as a model: a changed offset in a FlatBuffer has sent an interpreter in circles.
"""

from __future__ import annotations

import hashlib

from sepilot_runtime.errors import ModelFileError

__all__ = ["BLANK_SEAL", "SEAL_KEY", "require_checksum", "seal", "signature_of", "signed_bytes", "with_signature"]

SEAL_KEY = "sepilot.seal"
"""Name of the metadata entry."""

_MARK = b"sepilot-seal:1:"
_CHECKSUM_DIGITS, _SIGNATURE_DIGITS = 64, 128
_NO_SIGNATURE = b"0" * _SIGNATURE_DIGITS

BLANK_SEAL = (_MARK + b"0" * _CHECKSUM_DIGITS + b":" + _NO_SIGNATURE).decode()
"""What an exporter writes under `SEAL_KEY`, for `seal` to fill in."""


def seal(content: bytes) -> bytes:
    """A file with the checksum filled into its seal; a signature that it had is gone.

    Raises:
        ModelFileError: it holds no seal, or several.
    """
    place = _place(content)
    if place is None:
        raise ModelFileError(f"one {SEAL_KEY} expected in the file's metadata, found {content.count(_MARK)}")
    return _filled(_with_digits(content, place + _CHECKSUM_DIGITS + 1, _NO_SIGNATURE), place)


def require_checksum(content: bytes, where: str) -> str | None:
    """Hold a file against its checksum.

    Returns:
        The checksum, 64 hex digits; None where the file has no seal at all.

    Raises:
        ModelFileError: a byte was changed, the file is cut off, or it has several seals.
    """
    place = _place(content)
    if place is None:
        if _MARK in content:
            raise ModelFileError(f"{where}: damaged: one checksum expected, found several; copy or export it again")
        return None
    found = content[place : place + _CHECKSUM_DIGITS]
    if found != _checksum(content, place):
        raise ModelFileError(
            f"{where}: damaged, or changed after export: its checksum does not match; copy or export it again"
        )
    return found.decode("ascii")


def signature_of(content: bytes) -> bytes | None:
    """The 64 bytes of the signature in a file whose checksum holds; None where nobody signed it."""
    place = _place(content)
    if place is None:
        return None
    digits = content[place + _CHECKSUM_DIGITS + 1 :][:_SIGNATURE_DIGITS]
    try:
        return None if digits == _NO_SIGNATURE else bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return b""  # Verifies with no key.


def signed_bytes(content: bytes) -> bytes:
    """What a signature of this file signs: a name for it, and the hash of the file without its seal's digits.

    Raises:
        ModelFileError: the file has no seal.
    """
    place = _required_place(content)
    blank = _with_digits(content, place + _CHECKSUM_DIGITS + 1, _NO_SIGNATURE)
    return b"sepilot model file 1:" + _checksum(blank, place)


def with_signature(content: bytes, signature: bytes) -> bytes:
    """The file with a signature of 64 bytes in its seal, and the checksum that fits. Raises ModelFileError."""
    place = _required_place(content)
    return _filled(_with_digits(content, place + _CHECKSUM_DIGITS + 1, signature.hex().encode("ascii")), place)


def _place(content: bytes) -> int | None:
    """Where the checksum's digits begin; None unless there is one seal."""
    at = content.find(_MARK)
    return None if at < 0 or content.find(_MARK, at + 1) >= 0 else at + len(_MARK)


def _required_place(content: bytes) -> int:
    place = _place(content)
    if place is None:
        raise ModelFileError("the file has no seal; export it again")
    return place


def _checksum(content: bytes, place: int) -> bytes:
    view = memoryview(content)
    digest = hashlib.sha256(view[:place])
    digest.update(b"0" * _CHECKSUM_DIGITS)
    digest.update(view[place + _CHECKSUM_DIGITS :])
    return digest.hexdigest().encode("ascii")


def _with_digits(content: bytes, at: int, digits: bytes) -> bytes:
    return content[:at] + digits + content[at + len(digits) :]


def _filled(content: bytes, place: int) -> bytes:
    return _with_digits(content, place, _checksum(content, place))
