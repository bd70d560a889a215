"""Ed25519 signatures of model files (RFC 8032), for cars that take files from a network.

The checksum of a file finds accidents; whoever changes a file on purpose can make the checksum fit. A signature says
that the file is the one that the holder of the private key signed. It stands in the file's own seal and covers all the
rest, the sequence number among it, by which a car tells an older signed file from a newer one. Keys are PEM files:
PKCS #8 for the private one, SubjectPublicKeyInfo for public ones, of which one file may hold several.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.base.caps import SETTINGS_BYTES
from sepilot_runtime.base.errors import MissingExtraError, ModelFileError, UsageError
from sepilot_runtime.base.files import atomic_file, require_new, writing
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.engine.checksum import LAST_SEQUENCE, signature_of, signed_bytes, with_sequence, with_signature
from sepilot_runtime.engine.model_file import ModelFile, read_model_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["new_key", "public_keys", "require_signature", "sign_file"]

_END = b"-----END PUBLIC KEY-----"


def new_key(path: Path) -> Path:
    """Make a key pair: the private key at `path`, readable by its owner alone, the public one beside it.

    Returns:
        The path of the public key: `car.pem` has `car.pub.pem`.

    Raises:
        OutputError: one of the two exists already, or cannot be written.
        MissingExtraError: `cryptography` is not installed.
    """
    _require_package()
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_suffix(f".pub{path.suffix or '.pem'}")
    require_new(path)
    require_new(public)
    key = Ed25519PrivateKey.generate()
    private_text = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(private_text)
    with atomic_file(public) as part:
        part.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return public


def sign_file(path: Path, key: Path, sequence: int | None = None) -> int:
    """Put a sequence number and a signature into a model file, in place of those that it may have.

    Args:
        sequence: 1 to LAST_SEQUENCE; the time in seconds since 1970 where it is not given.

    Returns:
        The sequence number.

    Raises:
        ModelFileError, ContractError: it is no whole model file, or its seal has no room for a sequence number.
        UsageError: `key` is no private Ed25519 key, or the sequence number is out of range.
        OutputError: the file cannot be written.
        MissingExtraError: `cryptography` is not installed.
    """
    number = int(time.time()) if sequence is None else sequence
    if not 1 <= number <= LAST_SEQUENCE:
        raise UsageError(f"--sequence {number}: a number from 1 to {LAST_SEQUENCE} expected")
    file = read_model_file(path)
    try:
        content = with_sequence(file.content, number)
    except ModelFileError as e:
        raise ModelFileError(f"{path}: {e}") from e
    signature = _private_key(key).sign(signed_bytes(content))
    with atomic_file(path) as part:
        part.write_bytes(with_signature(content, signature))
    return number


def require_signature(file: ModelFile, keys: Path) -> None:
    """Hold the signature of a file against public keys, one of which must have made it.

    Raises:
        ModelFileError: unsigned, or signed by none of them.
        UsageError: `keys` holds no public Ed25519 key.
        MissingExtraError: `cryptography` is not installed.
    """
    known = public_keys(keys)
    from cryptography.exceptions import InvalidSignature

    signature = signature_of(file.content)
    if signature is None:
        raise ModelFileError(f"{file.path}: not signed; a signature by a key of {keys} expected")
    signed = signed_bytes(file.content)
    for key in known:
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            continue
        return
    raise ModelFileError(f"{file.path}: signed, but not by a key of {keys}")


def _private_key(path: Path) -> Ed25519PrivateKey:
    _require_package()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise UsageError(f"{path}: a private Ed25519 key without a password expected (PEM)") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: a private Ed25519 key expected, found another kind")
    return key


def public_keys(path: Path) -> list[Ed25519PublicKey]:
    """The keys of a file, one at least.

    Raises:
        UsageError: it cannot be read, or holds no public Ed25519 key.
        MissingExtraError: `cryptography` is not installed.
    """
    _require_package()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    blocks = [block + _END for block in _read(path).split(_END)[:-1]]
    try:
        keys = [load_pem_public_key(block.lstrip()) for block in blocks]
    except (ValueError, UnsupportedAlgorithm) as e:
        raise UsageError(f"{path}: public Ed25519 keys expected (PEM)") from e
    found = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if not found or len(found) != len(keys):
        raise UsageError(f"{path}: public Ed25519 keys expected (PEM), found {'another kind' if keys else 'none'}")
    return found


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, SETTINGS_BYTES)
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror or e}") from e


def _require_package() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as e:
        raise MissingExtraError("cryptography", "signing") from e
