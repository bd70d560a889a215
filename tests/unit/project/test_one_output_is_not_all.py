"""The word "steering" stands where a car is driven, recorded, simulated or drawn, and nowhere else.

Whatever compares, judges, chooses, explains or shows answers asks `task_of(output)` and knows no output by its name: a
module that needs the word for that would have to be changed again for the next output.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repository import ROOT

WORD = re.compile(r"steering", re.IGNORECASE)

MAY = {
    "runtime": {
        "cli": "what the verbs do, for people",
        "drive.actuation": "turns answers into what a car gets",
        "drive.step": "what a car gets",
        "drive.supervisor": "says what each state gives the car",
        "output.*": "protocols of what drives a car, and shows it",
        "recording.*": "columns of the formats",
        "view.overlay": "the wheel, and the road to where it goes",
        "view.road_path": "the road to where it goes",
        "commands.drive_*": "outputs and recordings of a drive, and what a line holds",
        "commands.reader_arguments": "which column of a recording it is",
        "contract.older": "the one task of contracts of version 1",
        "contract.outputs.scalar.output": "recordings tell the wheel's angle",
    },
    "train": {
        "base.*": "columns of recordings, and their pictures",
        "closed_loop.*": "drives a simulated car",
        "commands.*": "drives for people",
        "models.*": "nets made for it",
        "run.recipe": "recipes",
        "simulator.*": "what a simulated car gets",
    },
    "export": {
        "commands.*": "for people",
        "convert.formats": "for people",
        "convert.stated*": "outputs that a foreign file has",
        "report.*": "pictures of drives",
        "tradeoff.*": "files of one drive",
        "verify.scoring": "columns of recordings",
        "verify.unseen_drives": "columns of recordings",
    },
}


def modules_with_the_word(package: Path) -> dict[str, int]:
    """Dotted module to how often it says so."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        if count := len(WORD.findall(path.read_text())):
            found[".".join(path.relative_to(package).with_suffix("").parts)] = count
    return found


def beyond(found: dict[str, int], may: dict[str, str]) -> dict[str, int]:
    """Those that may not."""
    rooms = tuple(name.removesuffix("*") for name in may if name.endswith("*"))
    return {name: count for name, count in found.items() if name not in may and not (rooms and name.startswith(rooms))}


@pytest.mark.parametrize("package", MAY)
def test_nobody_else_knows_an_output_by_its_name(package: str) -> None:
    assert beyond(modules_with_the_word(ROOT / package / f"sepilot_{package}"), MAY[package]) == {}


def test_whoever_may_does() -> None:
    """A module that needs the word no longer is taken from the list."""
    found = modules_with_the_word(ROOT / "runtime" / "sepilot_runtime")
    for name in MAY["runtime"]:
        assert any(module.startswith(name.removesuffix("*")) for module in found), name


@pytest.mark.parametrize("place", ["explain/side_by_side.py", "engine/pilot.py", "contract/outputs/scalar/task.py"])
def test_a_module_that_begins_to_is_found(place: str, tmp_path: Path) -> None:
    """The planted fault."""
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text('def error(values):\n    return values["Steering"] - 1\n')
    dotted = place.removesuffix(".py").replace("/", ".")
    assert beyond(modules_with_the_word(tmp_path), MAY["runtime"]) == {dotted: 1}
