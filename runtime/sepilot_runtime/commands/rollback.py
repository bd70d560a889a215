"""`sepilot rollback`: make the model that was active before active again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

EPILOG = """\
example:
  sepilot rollback        once more goes forward again

A running `sepilot drive --slots` takes the file over between two frames.
With public keys in SLOTS/trusted.pem, one of them must have signed the file that is gone back to.
"""


def main(argv: Sequence[str]) -> int:
    """Run `sepilot rollback`."""
    parser = argparse.ArgumentParser(
        prog="sepilot rollback",
        description="Make the model that was active before active again.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--slots", type=Path, metavar="DIR", help="the slots directory (default ~/.local/share/sepilot/slots)"
    )
    parser.add_argument("--failed", action="store_true", help="go back though that file did not start")
    parser.add_argument("--unsigned", action="store_true", help="go back though no trusted key signed that file")
    arguments = parser.parse_args(argv)
    from sepilot_runtime.device.slots import default_slots, rollback

    folder = arguments.slots or default_slots()
    slot = rollback(
        folder,
        failed=arguments.failed,
        unsigned=arguments.unsigned,
        warn=lambda line: print(f"warning: {line}", file=sys.stderr),
    )
    print(f"{slot.file}: {slot.recipe} {slot.precision}, {slot.checksum[:12]}, is active again in {folder}")
    return 0
