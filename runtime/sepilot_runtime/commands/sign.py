"""`sepilot sign FILE --key KEY`: sign model files, for cars that take only what a key of theirs signed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sepilot_runtime.base.errors import UsageError

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


def main(argv: Sequence[str]) -> int:
    """Run `sepilot sign`."""
    arguments = _parser().parse_args(argv)
    if bool(arguments.files) != bool(arguments.key) or not (arguments.files or arguments.new_key):
        raise UsageError("sign: FILE with --key KEY expected, or --new-key KEY")
    from sepilot_runtime.device.signing import new_key, sign_file

    if arguments.new_key:
        public = new_key(arguments.new_key)
        print(f"{arguments.new_key}: private key, keep it; {public}: public key, for SLOTS/trusted.pem")
    for file in arguments.files:
        number = sign_file(file, arguments.key, arguments.sequence)
        print(f"{file}: signed, sequence number {number}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepilot sign",
        description="Sign model files, for cars that take only what a key of theirs signed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help=".tflite or .onnx files, signed in place")
    parser.add_argument("--key", type=Path, metavar="KEY", help="private key (PEM)")
    parser.add_argument(
        "--sequence", type=int, metavar="N", help="sequence number to sign (default: the seconds since 1970)"
    )
    parser.add_argument("--new-key", type=Path, metavar="KEY", help="make a private key, and KEY's .pub.pem beside it")
    return parser
