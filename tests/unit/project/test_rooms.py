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


LONGEST_MODULE, LONGEST_FUNCTION = 300, 40
"""In lines, with docstrings, for whatever does not say "Long because" in its docstring."""


def too_long(source: str) -> list[str]:
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    found: list[ast.Module | ast.FunctionDef | ast.AsyncFunctionDef]
    found = [node for node, lines in lengths.items() if lines > LONGEST_FUNCTION]
    found += [tree] if len(source.splitlines()) > LONGEST_MODULE else []
    return [getattr(node, "name", "module") for node in found if "Long because" not in (ast.get_docstring(node) or "")]


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_functions_are_short(package: str) -> None:
    found = {str(path): too_long(path.read_text()) for path in PACKAGES[package].rglob("*.py")}
    assert not {path: names for path, names in found.items() if names}


def test_what_is_too_long_is_noticed() -> None:
    body = "    pass\n" * LONGEST_FUNCTION
    assert too_long(f"def f():\n{body}") == ["f"] and too_long("\n" * 301) == ["module"]
    assert not too_long(f'def f():\n    """Long because."""\n{body}')
    assert not too_long("def f():\n" + "    pass\n" * (LONGEST_FUNCTION - 1)) and not too_long("\n" * 300)


ENTRIES = {"watchdog.py"}
"""Processes of their own outside the command line."""


MAKERS = ("request", "request_of", "_options", "_filter")


def parses_arguments(source: str) -> bool:
    """Whether a source reads a command line, or takes one that was read but not made a request of."""
    return "import argparse" in source or "argparse." in source


def hands_on(source: str) -> list[str]:
    """Functions that take a namespace, but for those that are named for what they make of it."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    takes = {
        node.name: any("Namespace" in ast.unparse(a.annotation) for a in node.args.args if a.annotation)
        for node in functions
    }
    return [
        name
        for name, found in takes.items()
        if found and not name.endswith(("_request", "_options", "_filter", "request_of"))
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_command_lines_are_read_in_the_commands_alone(package: str) -> None:
    folder = PACKAGES[package]
    found = {p for p in folder.rglob("*.py") if p.parent != folder / "commands" and parses_arguments(p.read_text())}
    assert {p.name for p in found} <= ENTRIES
    handed = {p.name: hands_on(p.read_text()) for p in folder.rglob("*.py")}
    assert not {name: names for name, names in handed.items() if names}


def test_a_namespace_that_is_handed_on_is_noticed() -> None:
    planted = "import argparse\ndef _drive(arguments: argparse.Namespace) -> None: ...\n"
    assert parses_arguments(planted) and hands_on(planted) == ["_drive"]
    assert not hands_on(planted.replace("_drive", "camera_request"))
