"""`sepilot sign FILE --key KEY`: sign model files, for cars that take only what a key of theirs signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.commands.arguments import flag, request_from

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot sign --new-key car.pem                     once: car.pem (keep it), car.pub.pem
  sepilot sign swift-int8.tflite --key car.pem       the signature goes into the file
  scp car.pub.pem car:.local/share/sepilot/slots/trusted.pem
                                                     the car installs nothing else from now on

Ed25519; the private key has no password, so keep it off the car. Several public keys may stand in
one trusted.pem. A sequence number is signed as well, the time unless --sequence names another: a car
that took a file refuses files with lower numbers, so that nobody hands it an old one again.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    files: tuple[Path, ...] = flag(".tflite or .onnx files, signed in place", "FILE", positional=True, nargs="*")
    key: Path | None = flag("private key (PEM)", "KEY")
    sequence: int | None = flag("sequence number to sign (default: the seconds since 1970)", "N", type=int)
    new_key: Path | None = flag("make a private key, and KEY's .pub.pem beside it", "KEY")


def main(argv: Sequence[str]) -> int:
    """Run `sepilot sign`."""
    request = request_from(
        argv, SignRequest, "sign", "Sign model files, for cars that take only what a key of theirs signed.", EPILOG
    )
    if bool(request.files) != bool(request.key) or not (request.files or request.new_key):
        raise UsageError("sign: FILE with --key KEY expected, or --new-key KEY")
    from sepilot_runtime.device.signing import new_key, sign_file

    if request.new_key:
        public = new_key(request.new_key)
        print(f"{request.new_key}: private key, keep it; {public}: public key, for SLOTS/trusted.pem")
    if request.key:
        for file in request.files:
            number = sign_file(file, request.key, request.sequence)
            print(f"{file}: signed, sequence number {number}")
    return 0
