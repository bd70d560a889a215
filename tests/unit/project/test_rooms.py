"""The rooms: every file lies in one, and nobody needs whom he is needed by. The arrows between them: import-linter."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from repository import ROOT

PACKAGES = {f"sepilot_{name}": ROOT / name / f"sepilot_{name}" for name in ("runtime", "train", "export")}
OUTSIDE = {"__init__.py", "__main__.py", "cli.py", "py.typed", "recipes", "__pycache__"}
"""What a package's own folder may hold besides rooms."""


def rooms_of(package: str) -> set[str]:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(c for c in linter["contracts"] if c.get("containers") == [package])
    return {room.strip() for layer in contract["layers"] for room in layer.split("|")}


def astray(folder: Path, rooms: set[str]) -> set[str]:
    return {p.name for p in folder.iterdir()} - rooms - OUTSIDE


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_lies_in_a_room(package: str) -> None:
    rooms = rooms_of(package)
    assert not astray(PACKAGES[package], rooms), "neither a room of pyproject.toml nor a file in one"
    assert all((PACKAGES[package] / room / "__init__.py").is_file() for room in rooms)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_picture_shows_the_rooms(package: str) -> None:
    picture = (ROOT / "docs" / "rooms.svg").read_text()
    column = picture.split(f">{package.removeprefix('sepilot_')}/<")[1].split('class="t"')[0]
    assert set(re.findall(r'class="n"[^>]*>(\w+)<', column)) == rooms_of(package)


def test_a_file_outside_a_room_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "helpers.py").touch()
    assert astray(tmp_path, {"base"}) == {"helpers.py"}


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


def imported(source: str, known: dict[str, Path]) -> Iterator[str]:
    """Modules of ours that a source imports, wherever in it, for types alone as well."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in known else node.module for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def circle(sources: dict[str, str], known: dict[str, Path]) -> list[str]:
    graph = {name: {m for m in imported(text, known) if m in known and m != name} for name, text in sources.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as e:
        return list(e.args[1])
    return []


def test_no_modules_need_each_other() -> None:
    known = modules()
    sources = {name: path.read_text() for name, path in known.items()}
    assert not circle(sources, known)
    sources["sepilot_runtime.base.errors"] += "\ndef late():\n    from sepilot_runtime.base import files\n"
    assert circle(sources, known), "a planted circle, through an import inside a function"
