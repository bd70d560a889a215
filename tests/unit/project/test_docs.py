"""What docs/ says is shown by a test, or made by a command, is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repository import ROOT

DOCS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))


def missing(text: str) -> list[str]:
    """What stands in backticks as a file of tests/ or scripts/, or as the name of a test, and is not there.

    "…" leaves out some of a name.
    """
    found = [path for path in re.findall(r"`((?:tests|scripts)/[\w./-]+)", text) if not (ROOT / path).exists()]
    names = [*re.findall(r"`(test_\w+…?)`", text), *re.findall(r"`(…\w+…?)`", text)]
    return found + [
        name
        for name in names
        if not re.search(r"def test_\w*" + re.escape(name.strip("…").removeprefix("test_")), TESTS)
    ]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_what_the_docs_name_is_there(path: Path) -> None:
    assert missing(path.read_text(encoding="utf-8")) == []


def test_what_is_not_there_is_found() -> None:
    text = "`tests/unit/project/test_docs.py` `test_what_is_not_there_is_found` `…is_not_there…` `scripts/setup dev`"
    assert missing(text) == []
    planted = "`tests/unit/test_nothing.py` `test_no_such_thing…` `…no_such_thing…` `scripts/nothing DRIVE`"
    assert missing(planted) == [
        "tests/unit/test_nothing.py",
        "scripts/nothing",
        "test_no_such_thing…",
        "…no_such_thing…",
    ]
