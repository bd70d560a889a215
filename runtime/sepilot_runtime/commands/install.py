"""`sepilot install FILE`: put a model file into a slot, where `sepilot drive --slots` takes it from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.commands.arguments import SLOTS, flag, request_from, switch

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


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallRequest:
    file: Path = flag("a .tflite or .onnx file made by `sepilot export`", "FILE", positional=True)
    slots: Path | None = flag(SLOTS, "DIR")
    key: Path | None = flag("public key that must have signed the file", "PUBLIC")
    shadow: bool = switch("run it beside the active model, which stays active")
    failed: bool = switch("install it though `sepilot check` failed it")
    allow_older: bool = switch("install a signed file though a newer one was installed before")
    json: bool = switch("print what was installed as JSON")


def main(argv: Sequence[str]) -> int:
    """Run `sepilot install`."""
    request = request_from(
        argv, InstallRequest, "install",
        "Put a model file into a slot, where `sepilot drive --slots` takes it from.", EPILOG,
    )  # fmt: skip
    from sepilot_runtime.device.installation import install_model
    from sepilot_runtime.device.slots import default_slots

    folder = request.slots or default_slots()
    slot = install_model(
        request.file, folder, key=request.key, shadow=request.shadow, failed=request.failed, older=request.allow_older
    )
    if request.json:
        print(json.dumps(dataclasses.asdict(slot)))
    else:
        role = "runs as shadow" if request.shadow else "is active"
        print(f"{slot.file}: {slot.recipe} {slot.precision}, {slot.checksum[:12]}, {role} in {folder}")
    return 0
