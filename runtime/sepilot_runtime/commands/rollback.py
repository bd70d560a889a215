"""`sepilot rollback`: make the model that was active before active again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

EPILOG = """\
example:
  sepilot rollback        once more goes forward again

A running `sepilot drive --slots` takes the file over between two frames.
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
    arguments = parser.parse_args(argv)
    from sepilot_runtime.slots import default_slots, rollback

    folder = arguments.slots or default_slots()
    slot = rollback(folder)
    print(f"{slot.file}: {slot.recipe} {slot.precision}, {slot.checksum[:12]}, is active again in {folder}")
    return 0
