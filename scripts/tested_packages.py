"""Prints the lines of requirements-tested.txt that some packages need, with their hashes, for `pip install -r`.

    tested_packages.py --extras servo,web hatchling  what sepilot needs with these extras of pyproject.toml, and hatchling
    tested_packages.py numpy opencv-python-headless  these packages and what they need

Needs nothing but Python, and reads what is needed by what from the remarks that scripts/lock has written.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One package of requirements-tested.txt.

    Attributes:
        text: its lines without remarks, as pip reads them.
        needed_by: normalized names of packages.
    """

    name: str
    text: str
    needed_by: frozenset[str]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="packages")
    parser.add_argument("--extras", metavar="LIST", help="of pyproject.toml, by commas, with the base; may be empty")
    arguments = parser.parse_args(argv)
    try:
        path = tested_file()
        roots = list(arguments.names)
        if arguments.extras is not None:
            roots += wanted_by(path.with_name("pyproject.toml"), arguments.extras.split(","))
        print("\n".join(r.text for r in needed(requirements(path.read_text(encoding="utf-8")), roots)))
    except (OSError, KeyError, ValueError) as e:
        print(f"tested_packages: {e.args[0] if isinstance(e, KeyError | ValueError) else e}", file=sys.stderr)
        return 2
    return 0


def tested_file() -> Path:
    """requirements-tested.txt: in the checkout, or copied beside this script."""
    for folder in (HERE.parent, HERE):
        if (folder / "requirements-tested.txt").is_file():
            return folder / "requirements-tested.txt"
    raise ValueError(f"{HERE}: no requirements-tested.txt beside this script or above it; copy it from the checkout")


def normalized(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """The normalized name of a PEP 508 requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if found is None:
        raise ValueError(f"{requirement!r}: a package's name expected")
    return normalized(found[0])


def requirements(text: str) -> dict[str, Requirement]:
    """The packages of requirements-tested.txt by normalized name."""
    found = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
        lines = block.rstrip().splitlines()
        remark = next((line for line in lines if line.lstrip().startswith("# via ")), "")
        by = frozenset(map(normalized, re.sub(r"\(.*?\)|# via", "", remark).replace(",", " ").split()))
        kept = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        name = name_of(block)
        found[name] = Requirement(name=name, text=kept, needed_by=by)
    return found


def needed(packages: dict[str, Requirement], roots: Iterable[str]) -> Iterator[Requirement]:
    """The roots and everything that they need, each once, in the order of the file."""
    wanted, new = set[str](), {name_of(root) for root in roots}
    while new:
        missing = sorted(new - set(packages))
        if missing:
            raise KeyError(f"{missing[0]}: is not in requirements-tested.txt; run scripts/lock")
        wanted |= new
        new = {package.name for package in packages.values() if package.needed_by & new} - wanted
    return (package for package in packages.values() if package.name in wanted)


def wanted_by(project: Path, extras: Iterable[str]) -> Iterator[str]:
    """Requirements of pyproject.toml: the base's and those of extras, which may name further extras."""
    import tomllib

    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    yield from table["dependencies"]
    waiting, seen = [extra for extra in extras if extra], set[str]()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        if extra not in table["optional-dependencies"]:
            raise KeyError(f"{extra}: no extra of pyproject.toml; known: {', '.join(table['optional-dependencies'])}")
        for requirement in table["optional-dependencies"][extra]:
            if own := re.fullmatch(rf"{re.escape(table['name'])}\[(.*)\]", requirement):
                waiting += [name.strip() for name in own[1].split(",")]
            else:
                yield requirement


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
