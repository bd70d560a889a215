"""`sepilot doctor`: is this machine fit to drive, and what to do where it is not."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.commands.arguments import flag, request_from, switch

if TYPE_CHECKING:
    from sepilot_runtime.device.doctor_system import Finding

__all__ = ["main"]

WIDTH, TOPIC_WIDTH = 80, 13
EPILOG = """\
examples:
  sepilot doctor
  sepilot doctor --no-cameras --json

Each finding is ok, advice (it drives, and could do so better) or PROBLEM. Each camera is asked for
its modes and timed, for some three seconds. Exit code: 1 when there is a problem, else 0.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    slots: Path | None = flag("where models are installed (default: this user's)", "DIR")
    folder: Path = flag("where recordings go (default: this folder)", "DIR", default=Path())
    no_cameras: bool = switch("do not open cameras, as while one is in use")
    json: bool = switch("print the findings as JSON")


def main(argv: Sequence[str]) -> int:
    """Run `sepilot doctor`."""
    request = request_from(
        argv, DoctorRequest, "doctor",
        "Look at this machine: cameras, I2C, serial ports, clock, heat, disk, packages, installed model.", EPILOG,
    )  # fmt: skip
    from sepilot_runtime.device.doctor_devices import examine_cameras, examine_ports
    from sepilot_runtime.device.doctor_system import Grade, Machine, examine_system
    from sepilot_runtime.device.doctor_trust import examine_trust
    from sepilot_runtime.device.slots import default_slots

    machine = Machine(slots=request.slots or default_slots(), folder=request.folder.absolute())
    findings = [*examine_system(machine), examine_trust(machine), *examine_ports(machine)]
    if not request.no_cameras:
        findings += examine_cameras(machine)
    problems = sum(finding.level is Grade.PROBLEM for finding in findings)
    if request.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings], "problems": problems}, indent=2))
    else:
        print(table(findings))
        print(f"\n{problems or 'no'} problem{'s' * (problems != 1)}")
    return 1 if problems else 0


def table(findings: Iterable[Finding]) -> str:
    """Findings with their advice below, in 80 columns."""
    from sepilot_runtime.device.doctor_system import Grade

    indent = " " * (8 + TOPIC_WIDTH)
    lines = []
    for finding in findings:
        level = finding.level.value.upper() if finding.level is Grade.PROBLEM else finding.level.value
        head = f"{level:<8}{finding.topic:<{TOPIC_WIDTH}}"
        lines.append(_filled(finding.found, head, indent))
        if finding.advice:
            lines.append(_filled(finding.advice, f"{indent}-> ", f"{indent}   "))
    return "\n".join(lines)


def _filled(words: str, head: str, indent: str) -> str:
    # What is to be copied, a path or a command's flag, must not be broken.
    return textwrap.fill(
        words, WIDTH, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
