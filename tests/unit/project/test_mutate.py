"""Does `scripts/mutate` see a test that sees nothing? Its own negative control."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import mutants_of

from repository import ROOT

SOURCE = '''
"""A module."""
LIMIT = 3


def tested(a, b):
    return a - b


def untested(a, b):
    if a < b and not b:
        raise ValueError("a message")
    return min(a, b)
'''

TESTS = """
import planted

def test_one():
    assert planted.tested(5, 3) == 2

def test_the_other():
    planted.untested(1, 2)
"""


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    (tmp_path / "planted.py").write_text(SOURCE)
    (tmp_path / "test_planted.py").write_text(TESTS)
    (tmp_path / "accepted.toml").write_text("")
    return tmp_path


def mutate(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["planted", "--tests", str(folder / "test_planted.py"), "--accepted", str(folder / "accepted.toml"), *more]
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "mutate.py"), *words],
        capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, timeout=120,
    )  # fmt: skip


def lived(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.partition(" in ")[2] for line in done.stdout.splitlines() if line.startswith("  lived")}


def test_what_no_test_looks_at_lives_and_what_one_does_dies(planted: Path) -> None:
    done = mutate(planted)
    assert done.returncode == 1, done.stdout + done.stderr
    found = lived(done)
    assert found >= {
        ": LIMIT = 3  →  LIMIT = 4",
        "untested: a < b  →  a <= b",
        "untested: return min(a, b)  →  return None",
        "untested: min(a, b)  →  max(a, b)",
        "untested: raise ValueError('a message')  →  pass",
    }
    assert not any(line.startswith("tested") for line in found)
    assert "noticed, 0 accepted" in done.stdout


def test_an_accepted_fault_is_counted_apart_and_an_old_entry_is_an_error(planted: Path) -> None:
    entries = [
        ("untested", "a < b", "a <= b", "no matter"),
        ("tested", "a - b", "a + b", "a test dies of it"),
        ("gone", "x", "y", "the function is no more"),
    ]
    (planted / "accepted.toml").write_text(
        "".join(
            f'[[accepted]]\nmodule = "planted"\nwhere = "{w}"\nold = "{o}"\nnew = "{n}"\nreason = "{r}"\n'
            for w, o, n, r in entries
        )
    )
    done = mutate(planted, "--least", "0")
    assert done.returncode == 1 and "2 accepted" in done.stdout
    assert "untested: a < b  →  a <= b" not in lived(done)
    assert "stale   tested: a - b  →  a + b: noticed by now" in done.stdout
    assert "stale   gone: x  →  y: no such fault" in done.stdout


def test_a_sample_is_the_same_for_one_seed(planted: Path) -> None:
    first, second = (mutate(planted, "--sample", "5", "--seed", "4", "--least", "0") for _ in range(2))
    assert first.returncode == 0 and lived(first) == lived(second) and "not drawn" in first.stdout


def test_tests_that_fail_as_they_are_judge_nothing(planted: Path) -> None:
    (planted / "test_planted.py").write_text("def test_it():\n    assert False\n")
    done = mutate(planted)
    assert done.returncode == 2 and "the tests fail as they are" in done.stderr


def test_a_fault_without_end_is_noticed(planted: Path) -> None:
    (planted / "planted.py").write_text("def count(n):\n    while n > 0:\n        n -= 1\n    return n\n")
    (planted / "test_planted.py").write_text("import planted\n\ndef test_it():\n    assert planted.count(3) == 0\n")
    done = mutate(planted)
    assert "n -= 1" not in done.stdout and done.returncode in (0, 1)


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("x = a <= b", {("a <= b", "a < b")}),
        ("x = a == b is c", {("a == b is c", "a != b is c"), ("a == b is c", "a == b is not c")}),
        ("x = not a", {("not a", "a")}),
        ("x = -a", {("-a", "a")}),
        ("x = a or b", {("a or b", "a and b")}),
        ("x += 1", {("x += 1", "x -= 1"), ("1", "2")}),
        ("x = f(True)", {("f(True)", "f(False)"), ("f(True)", "f(False)")}),
        ("x = d['key']", {("d['key']", "d['key_']")}),
        ("x = np.floor(a)", {("np.floor", "np.ceil")}),
        ("f(a)", {("f(a)", "pass")}),
        ("a.b = c", {("a.b = c", "pass")}),
        ("if a:\n    continue_()", {("a", "not a"), ("continue_()", "pass")}),
        ('"""Words."""\nimport a\nx: int\n__all__ = ["x"]\ny = "text" + f"{a}"', set()),
        ("def f(a: int = 0) -> B:\n    'Words.'\n    raise E(3)", {("raise E(3)", "pass"), ("a: int=0", "a: int=1")}),
        ("x = zip(a, b, strict=True)", set()),
    ],
)  # fmt: skip
def test_faults_of_each_kind(source: str, faults: set[tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(source)
    assert {(m.old, m.new) for m in mutants_of(tmp_path / "m.py")} == faults
