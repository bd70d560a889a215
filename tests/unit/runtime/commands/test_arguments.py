"""Flags by the fields of a request, and help texts that name what there is."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from sepilot_runtime.commands.arguments import flag, number, request_from, switch
from sepilot_runtime.engine.names import OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    files: tuple[Path, ...] = flag("of them", "FILE", positional=True, nargs="*")
    overrides: tuple[str, ...] = flag("again and again", "KEY", name="--set --change")
    side: Literal["left", "right"] = flag("of the road", default="left")
    rounds: int | None = flag("some", "N", instead="how long")
    minutes: float = flag("so long", "M", type=number(0, 10, " min", above=True), default=1.0, instead="how long")
    out_folder: Path | None = flag("where to", "DIR", group="writing")
    json: bool = switch("as JSON")


def parsed(*argv: str) -> Planted:
    return request_from(argv, Planted, "plant", "Plant.", "examples")


def test_a_flag_is_read_as_its_field_says() -> None:
    assert parsed() == Planted(files=(), overrides=())
    found = parsed(
        "a", "b", "--set", "x=1", "--change", "y=2", "--side", "right", "--rounds", "3", "--out-folder", "o", "--json"
    )
    assert found == Planted(
        files=(Path("a"), Path("b")), overrides=("x=1", "y=2"), side="right", rounds=3, out_folder=Path("o"), json=True
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rounds", "0"], "at least 1 expected, found 0"),
        (["--side", "up"], "invalid choice: 'up'"),
        (["--minutes", "0"], "above 0 and at most 10 min expected, found '0'"),
        (["--minutes", "11"], "above 0 and at most 10 min expected, found '11'"),
        (["--minutes", "soon"], "above 0 and at most 10 min expected, found 'soon'"),
        (["--minutes", "2", "--rounds", "2"], "not allowed with argument --minutes"),
    ],
)
def test_what_makes_no_sense_is_refused(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*argv)
    assert ended.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["bench", "compare", "drive", "explain"])
def test_help_names_every_engine(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    main: Any = importlib.import_module(f"sepilot_runtime.commands.{verb}").main
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split()).replace("- ", "-")
    assert ", ".join(OWN) in said
