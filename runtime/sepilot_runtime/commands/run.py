"""`sepilot run FILE --source SOURCE`: show what a file that does not steer says. The same loop as `sepilot drive`."""

from __future__ import annotations

from collections.abc import Sequence

from sepilot_runtime.commands.drive import outcome
from sepilot_runtime.commands.drive_request import run_request

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Run `sepilot run`."""
    return outcome(run_request(argv))
