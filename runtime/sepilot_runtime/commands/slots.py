"""`sepilot slots`: what is installed on this car."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.commands.arguments import SLOTS, flag, request_from, switch

if TYPE_CHECKING:
    from sepilot_runtime.device.slots import Slots

__all__ = ["main"]

INDENT = " " * 10

EPILOG = """\
example:
  sepilot slots --json | jq .active
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsRequest:
    slots: Path | None = flag(SLOTS, "DIR")
    json: bool = switch("print slots.json instead of a table")


def main(argv: Sequence[str]) -> int:
    """Run `sepilot slots`."""
    request = request_from(
        argv, SlotsRequest, "slots",
        "List the installed models: which is active, which was before it, which runs as a shadow.", EPILOG,
    )  # fmt: skip
    from sepilot_runtime.device.slots import default_slots, read_slots

    slots = read_slots(request.slots or default_slots())
    print(json.dumps(dataclasses.asdict(slots), indent=2) if request.json else _table(slots))
    return 0


def _table(slots: Slots) -> str:
    rows = [f"{'ROLE':<9} {'SHA-256':<12}  {'PRECISION':<15} {'INSTALLED (UTC)':<16}  FILE"]
    order = {"active": 0, "previous": 1, "shadow": 2}
    for slot in sorted(slots.models, key=lambda s: order[slots.role_of(s)]):
        when = slot.installed[:16].replace("T", " ")
        rows.append(f"{slots.role_of(slot):<9} {slot.checksum[:12]}  {slot.precision:<15} {when}  {slot.file}")
        remarks = [f"recipe {slot.recipe}"] + [f"signed, sequence number {slot.sequence}"] * slot.signed
        rows.append(INDENT + ", ".join(remarks))
        if slot.failed:
            rows.append(
                textwrap.fill(f"did not start: {slot.failed}", 80, initial_indent=INDENT, subsequent_indent=INDENT)
            )
    if slots.sequence:
        rows.append(f"Highest sequence number that was installed: {slots.sequence}")
    return "\n".join(rows)
