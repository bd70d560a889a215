"""requirements-tested.txt: every file that is installed has a hash, on every Python and processor that is supported."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import Environment, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tested_packages import main, name_of, needed, requirements, wanted_by

from repository import ROOT

TESTED = (ROOT / "requirements-tested.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Hundreds of megabytes for graphics cards, which no test has.
UNTESTED_EXTRAS = {"gpu"}


def environments() -> Iterator[Environment]:
    for python in ("3.11", "3.12", "3.13"):
        for machine in ("x86_64", "aarch64"):
            here = default_environment()
            here.update(python_version=python, python_full_version=f"{python}.4", platform_machine=machine)
            yield here


def faults_of(text: str) -> list[str]:
    """What is wrong with a file of tested versions."""
    found = []
    lines = {}
    for name, package in requirements(text).items():
        line, *hashes = [part.rstrip(" \\").strip() for part in package.text.splitlines()]
        requirement = lines[name] = Requirement(line)
        if not re.fullmatch(r"==[^*]+", str(requirement.specifier)):
            found.append(f"{name}: one version expected")
        if not hashes or not all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", value) for value in hashes):
            found.append(f"{name}: hashes expected")
    extras = set(PROJECT["project"]["optional-dependencies"]) - UNTESTED_EXTRAS
    wanted = [
        *map(Requirement, wanted_by(ROOT / "pyproject.toml", extras)),
        *map(Requirement, ["hatchling", "editables"]),
    ]
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        for environment in environments():
            if requirement.marker and not requirement.marker.evaluate(environment):
                continue
            python = environment["python_version"]
            pin = lines.get(name)
            if pin is None or (pin.marker and not pin.marker.evaluate(environment)):
                found.append(f"{name}: missing on Python {python}")
            elif not requirement.specifier.contains(next(iter(pin.specifier)).version):
                found.append(f"{name}: {pin.specifier} is not {requirement.specifier}")
    return found


def test_every_requirement_is_there_with_hashes_and_within_the_bounds() -> None:
    assert faults_of(TESTED) == []
    assert len(requirements(TESTED)) == len(re.findall(r"(?m)^[A-Za-z].*==", TESTED)) > 90


@pytest.mark.parametrize(
    ("pattern", "planted", "fault"),
    [
        (r"(numpy==\S+ \\\n)(    --hash\S+ ?\\?\n)+", r"\1", "numpy: hashes expected"),
        (r"(?m)(smbus2==\S+ \\\n    --hash=sha256:)\w", r"\1x", "smbus2: hashes expected"),
        (r"\nonnxruntime==[\d.]+", "\nonnxruntime>=1.20", "onnxruntime: one version expected"),
        (r"\nh11==[\d.]+", "\nh11==0.1", "h11: ==0.1 is not >="),
        (r"\npyserial==", "\npyserialx==", "pyserial: missing on Python 3.11"),
        (r"\nkeras==([\d.]+)", r"\nkeras==\1 ; python_version < '3.13'", "keras: missing on Python 3.13"),
    ],
)
def test_a_planted_fault_is_found(pattern: str, planted: str, fault: str) -> None:
    spoilt, count = re.subn(pattern, planted, TESTED, count=1)
    assert count == 1 and any(found.startswith(fault) for found in faults_of(spoilt)), faults_of(spoilt)


def test_what_a_package_needs_comes_with_it() -> None:
    """The remarks of scripts/lock say the same as the packages that are installed here."""
    packages = requirements(TESTED)
    if f"keras=={importlib.metadata.version('keras')} " not in TESTED:
        pytest.skip("other versions than the tested ones are installed")
    for name in ("ai-edge-litert", "cryptography", "gymnasium", "keras", "onnx", "matplotlib", "openvino", "paho-mqtt"):
        there = {package.name for package in needed(packages, [name])}
        for requirement in map(Requirement, importlib.metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate():
                assert canonicalize_name(requirement.name) in there, f"{name} needs {requirement}"


def test_only_what_is_asked_for() -> None:
    packages = requirements(TESTED)
    car = {package.name for package in needed(packages, wanted_by(ROOT / "pyproject.toml", ["servo"]))}
    assert {"numpy", "opencv-python", "ai-edge-litert", "smbus2"} <= car
    assert not car & {"tensorflow", "keras", "opencv-python-headless", "pyserial", "pytest", "hatchling"}
    export = {package.name for package in needed(packages, wanted_by(ROOT / "pyproject.toml", ["export"]))}
    assert {"tensorflow", "keras", "onnx", "onnxruntime", "rich"} <= export and "pytest" not in export
    assert name_of("Opencv_Python.Headless[x]>=4") == "opencv-python-headless"


def test_nonsense_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, words in ((["--extras", "wheels"], "wheels: no extra"), (["left-pad"], "left-pad: is not in")):
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert not out and words in err and err.count("\n") == 1
    assert main(["--extras", ""]) == 0 and "numpy==" in capsys.readouterr().out


PYTHON = """\
#!/bin/sh
case $* in
    *tested_packages.py*) exec {python} "$@" ;;
    *) echo "$*" >> {log} ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment writes down what pip is asked for."""
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    for name in ("scripts/setup", "scripts/tested_packages.py", "pyproject.toml", "requirements-tested.txt"):
        shutil.copy(ROOT / name, folder / name)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(python=sys.executable, log=folder / "pip.log"))
    python.chmod(0o755)
    return folder


def set_up(checkout: Path, *words: str, **changes: str) -> list[str]:
    """What `scripts/setup` asks pip for, a line each."""
    log = checkout / "pip.log"
    log.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHON": sys.executable, "SEPILOT_UNLOCKED": "", **changes}
    subprocess.run([str(checkout / "scripts" / "setup"), *words], check=True, env=environment, capture_output=True)
    return log.read_text().splitlines() if log.exists() else []


def test_setup_installs_nothing_without_a_hash(checkout: Path) -> None:
    first, second = set_up(checkout, "export")
    assert "--require-hashes -r .venv/tested.txt" in first
    assert "--no-deps --no-build-isolation -e ." in second
    named = requirements("\n" + (checkout / ".venv" / "tested.txt").read_text())
    assert {"keras", "numpy", "onnx", "hatchling", "editables"} <= set(named) and "pytest" not in named
    assert all("--hash=sha256:" in package.text for package in named.values())
    # Once is enough, until the file of versions is another.
    assert set_up(checkout, "export") == []
    with (checkout / "requirements-tested.txt").open("a") as file:
        file.write("# changed\n")
    assert len(set_up(checkout, "export")) == 2
    (newest,) = set_up(checkout, "export", SEPILOT_UNLOCKED="1")
    assert newest.endswith("-e .[export]")
