"""The seal of a model file: a checksum over every byte of it, and room for a signature.

One metadata entry, written at export, of fixed width:

    sepilot-seal:2:<sequence number, 16 digits>:<checksum, 64 hex digits>:<Ed25519 signature, 128 hex digits>

Sequence number and signature are zeros where nobody signed. The checksum is SHA-256 over the file with the checksum's
own digits set to zero. The signature is over the same with its own digits set to zero as well, so that signing moves no
offset and needs to know nothing of the format. The sequence number is part of what both cover.

Format 1, of an older sepilot, has no sequence number. Such files are read, count as number 0 and cannot be signed anew.

The seal is found by its mark, which stands in a file exactly once, so that the checksum is held against the bytes
before anything reads them as a model: a changed offset in a FlatBuffer has sent an interpreter in circles.
"""

from __future__ import annotations

import hashlib

from sepilot_runtime.base.errors import ModelFileError

__all__ = [
    "BLANK_SEAL",
    "LAST_SEQUENCE",
    "SEAL_KEY",
    "require_checksum",
    "seal",
    "sequence_of",
    "signature_of",
    "signed_bytes",
    "with_sequence",
    "with_signature",
]

SEAL_KEY = "sepilot.seal"
"""Name of the metadata entry."""

_MARK = b"sepilot-seal:"
_OLD_FORMAT, _FORMAT = b"1:", b"2:"
_SEQUENCE_DIGITS, _CHECKSUM_DIGITS, _SIGNATURE_DIGITS = 16, 64, 128
_NO_SIGNATURE = b"0" * _SIGNATURE_DIGITS
_NO_SEQUENCE = b"0" * _SEQUENCE_DIGITS

LAST_SEQUENCE = 10**_SEQUENCE_DIGITS - 1
"""The highest sequence number that a seal has room for."""

BLANK_SEAL = b":".join((_MARK + b"2", _NO_SEQUENCE, b"0" * _CHECKSUM_DIGITS, _NO_SIGNATURE)).decode()
"""What an exporter writes under `SEAL_KEY`, for `seal` to fill in."""


def seal(content: bytes) -> bytes:
    """A file with the checksum filled into its seal; a signature and a sequence number that it had are gone.

    Raises:
        ModelFileError: it holds no seal, or several.
    """
    place = _place(content)
    if place is None:
        raise ModelFileError(f"one {SEAL_KEY} expected in the file's metadata, found {content.count(_MARK)}")
    if _has_sequence(content):
        content = _with_digits(content, _sequence_place(place), _NO_SEQUENCE)
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
            seals = "several" if content.count(_MARK) > 1 else "one of another format"
            raise ModelFileError(f"{where}: damaged: one checksum expected, found {seals}; copy or export it again")
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


def sequence_of(content: bytes) -> int:
    """The sequence number in a file whose checksum holds; 0 where nobody gave it one, or its seal is of format 1.

    Raises:
        ModelFileError: other signs than digits stand in its place.
    """
    place = _place(content)
    if place is None or not _has_sequence(content):
        return 0
    digits = content[_sequence_place(place) : place - 1]
    if not digits.isdigit():
        raise ModelFileError(f"{SEAL_KEY}: a sequence number of {_SEQUENCE_DIGITS} digits expected")
    return int(digits)


def with_sequence(content: bytes, sequence: int) -> bytes:
    """The file with a sequence number from 0 to LAST_SEQUENCE, which no signature and no checksum fits yet.

    Raises:
        ModelFileError: the file has no seal, or one of format 1.
    """
    place = _required_place(content)
    if not _has_sequence(content):
        raise ModelFileError("the seal is an older sepilot's and has no room for a sequence number; export it again")
    return _with_digits(content, _sequence_place(place), b"%0*d" % (_SEQUENCE_DIGITS, sequence))


def signed_bytes(content: bytes) -> bytes:
    """What a signature of this file signs: a name for it, and the hash of the file, in which two places are blank.

    They are the digits of the checksum and of the signature.

    Raises:
        ModelFileError: the file has no seal.
    """
    place = _required_place(content)
    blank = _with_digits(content, place + _CHECKSUM_DIGITS + 1, _NO_SIGNATURE)
    name = b"sepilot model file 2:" if _has_sequence(content) else b"sepilot model file 1:"
    return name + _checksum(blank, place)


def with_signature(content: bytes, signature: bytes) -> bytes:
    """The file with a signature of 64 bytes in its seal, and the checksum that fits. Raises ModelFileError."""
    place = _required_place(content)
    return _filled(_with_digits(content, place + _CHECKSUM_DIGITS + 1, signature.hex().encode("ascii")), place)


def _place(content: bytes) -> int | None:
    """Where the checksum's digits begin; None unless there is one seal, of a known format."""
    at = content.find(_MARK)
    if at < 0 or content.find(_MARK, at + 1) >= 0:
        return None
    at += len(_MARK)
    widths = {_OLD_FORMAT: 0, _FORMAT: _SEQUENCE_DIGITS + 1}
    width = widths.get(content[at : at + len(_FORMAT)])
    return None if width is None else at + len(_FORMAT) + width


def _has_sequence(content: bytes) -> bool:
    return content.find(_MARK + _FORMAT) >= 0


def _sequence_place(place: int) -> int:
    return place - 1 - _SEQUENCE_DIGITS


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
