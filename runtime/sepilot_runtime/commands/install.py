"""`sepilot install FILE`: put a model file into a slot, where `sepilot drive --slots` takes it from."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot install swift-int8.tflite                    active from now on; a running drive takes it over
  sepilot install swift-int8.tflite --shadow           runs beside the active model and steers nothing
  sepilot install swift-int8.tflite --key car.pub.pem  only if this key signed it

A file is installed if its checksum, its contract and its golden frames hold; they run in a process
of their own. One that `sepilot check` failed, by the check.json beside it, is refused without
--failed; as a shadow it is not, as it steers nothing.
With public keys in SLOTS/trusted.pem, one of them must have signed it (`sepilot sign`), with a
sequence number above all that were installed before; --allow-older takes an older one.
What was active is kept: `sepilot rollback` goes back to it, and a drive does so by itself where the
new file does not start. A power cut at any point leaves the old file active, or the new one.
"""


def main(argv: Sequence[str]) -> int:
    """Run `sepilot install`."""
    arguments = _parser().parse_args(argv)
    from sepilot_runtime.device.installation import install_model
    from sepilot_runtime.device.slots import default_slots

    folder = arguments.slots or default_slots()
    roles = {"shadow": arguments.shadow, "failed": arguments.failed, "older": arguments.allow_older}
    slot = install_model(arguments.file, folder, key=arguments.key, **roles)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(slot)))
    else:
        role = "runs as shadow" if arguments.shadow else "is active"
        print(f"{slot.file}: {slot.recipe} {slot.precision}, {slot.checksum[:12]}, {role} in {folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepilot install",
        description="Put a model file into a slot, where `sepilot drive --slots` takes it from.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a .tflite or .onnx file made by `sepilot export`")
    parser.add_argument(
        "--slots", type=Path, metavar="DIR", help="the slots directory (default ~/.local/share/sepilot/slots)"
    )
    parser.add_argument("--key", type=Path, metavar="PUBLIC", help="public key that must have signed the file")
    parser.add_argument("--shadow", action="store_true", help="run it beside the active model, which stays active")
    parser.add_argument("--failed", action="store_true", help="install it though `sepilot check` failed it")
    parser.add_argument(
        "--allow-older", action="store_true", help="install a signed file though a newer one was installed before"
    )
    parser.add_argument("--json", action="store_true", help="print what was installed as JSON")
    return parser
