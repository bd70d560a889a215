"""`sepilot rollback`: make the model that was active before active again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sepilot_runtime.commands.arguments import SLOTS, flag, request_from, switch

__all__ = ["main"]

EPILOG = """\
example:
  sepilot rollback        once more goes forward again

A running `sepilot drive --slots` takes the file over between two frames.
With public keys in SLOTS/trusted.pem, one of them must have signed the file that is gone back to.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRequest:
    slots: Path | None = flag(SLOTS, "DIR")
    failed: bool = switch("go back though that file did not start")
    unsigned: bool = switch("go back though no trusted key signed that file")


def main(argv: Sequence[str]) -> int:
    """Run `sepilot rollback`."""
    request = request_from(
        argv, RollbackRequest, "rollback", "Make the model that was active before active again.", EPILOG
    )
    from sepilot_runtime.device.slots import default_slots, rollback

    folder = request.slots or default_slots()
    warn = partial(print, "warning:", file=sys.stderr)
    slot = rollback(folder, failed=request.failed, unsigned=request.unsigned, warn=warn)
    print(f"{slot.file}: {slot.recipe} {slot.precision}, {slot.checksum[:12]}, is active again in {folder}")
    return 0
