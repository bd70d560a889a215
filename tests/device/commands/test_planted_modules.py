"""Modules beside a user's files, and in the folder that sepilot is started in, never run.

Every verb is run in a folder full of modules that leave a mark when they are imported, on files that lie there too,
with empty and relative entries in PYTHONPATH, as robots' setup scripts leave them. What `site` imports is no part of
this: it is searched for before anything of ours runs, by whoever set PYTHONPATH so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from device.conftest import Device
from drive_factory import write_tub
from model_factory import classes_contract, write_classes, write_frames, write_tflite
from repository import ROOT
from sepilot_runtime.base.processes import own_environment, python_words
from sepilot_runtime.base.safe_path import leave_out_working_directory
from sepilot_runtime.cli import RUNTIME_VERBS, SUMMARIES
from sepilot_runtime.contract.outputs.embedding.output import Embedding

PLANTED = (
    "argparse", "cryptography", "cv2", "dataclasses", "hashlib", "json", "keras", "multiprocessing", "numpy", "onnx",
    "smbus2", "socket", "statistics", "subprocess", "tensorflow",
)  # fmt: skip
PACKAGES = ("ai_edge_litert", "sepilot_runtime", "sepilot_train", "sepilot_export")

MARKING = """\
import os
with open({marks!r}, "a") as file:
    file.write(__name__ + " ")
"""

BUS = """\
class SMBus:
    def __init__(self, number): self._last = {{}}
    def read_byte_data(self, address, register): return 0
    def write_byte_data(self, address, register, value): pass
    def write_i2c_block_data(self, address, register, data):
        with open({log!r}, "a") as file: print(__import__("os").getpid(), register, data, file=file)
    def close(self): pass
"""


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    return tmp_path / "marks"


@pytest.fixture
def folder(tmp_path: Path, marks: Path) -> Path:
    """Where a user's files lie, and somebody else's modules."""
    planted = tmp_path / "downloads"
    planted.mkdir()
    for name in PLANTED:
        (planted / f"{name}.py").write_text(MARKING.format(marks=str(marks)))
    for name in PACKAGES:
        (planted / name).mkdir()
        for module in ("__init__", "__main__", "cli", "watchdog", "floor"):
            (planted / name / f"{module}.py").write_text(MARKING.format(marks=str(marks)))
    write_tflite(planted / "m.tflite")
    write_tflite(planted / "n.tflite", int8=True)
    write_classes(planted / "c.tflite")
    write_classes(planted / "v.tflite", classes_contract(outputs=(Embedding(name="class", size=2),)))
    write_frames(planted / "frames", 6)
    write_tub(planted / "tub", 12)
    return planted


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An I2C bus that writes down what is sent, and entries that mean the working directory."""
    bus = tmp_path / "bus"
    bus.mkdir()
    (bus / "smbus2.py").write_text(BUS.format(log=str(tmp_path / "bus.log")))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": os.pathsep.join(["", ".", str(bus), ""]), "HOME": str(tmp_path)}


def marked(marks: Path) -> str:
    return marks.read_text() if marks.exists() else ""


def test_the_plants_would_be_seen(folder: Path, marks: Path) -> None:
    """What Python does by itself."""
    subprocess.run([sys.executable, "-c", "import json, smbus2, numpy"], cwd=folder, check=True)
    assert marked(marks).split() == ["json", "smbus2", "numpy"]


FILES = ("--slots", "slots")
VERBS: dict[str, Sequence[Sequence[str]]] = {
    "sign": [["--new-key", "k.pem"], ["m.tflite", "--key", "k.pem"]],
    "install": [["m.tflite", *FILES], ["n.tflite", *FILES, "--key", "k.pub.pem"]],
    "slots": [[*FILES]],
    "rollback": [[*FILES]],
    "drive": [[*FILES, "--source", "frames", "--to", "pca9685:"], ["m.tflite", "--source", "tub", "--as-camera"]],
    "run": [["c.tflite", "--source", "frames"]],
    "enrol": [["g.json", "left", "frames", "--model", "v.tflite"], ["g.json", "--list"]],
    "bench": [["m.tflite", "--frames", "frames", "--cold-starts", "1", "--rounds", "1", "--calls", "9"]],
    "compare": [["m.tflite", "n.tflite", "--frames", "tub", "--out", "compared.png"]],
    "explain": [["m.tflite", "--frames", "tub", "--count", "1", "--out", "explained.png"]],
    "doctor": [["--no-cameras", *FILES]],
}


def test_no_verb_of_the_car_runs_them(
    device: Device, folder: Path, marks: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra `signing`")
    assert set(VERBS) == set(RUNTIME_VERBS)
    for verb, runs in VERBS.items():
        for words in runs:
            if "k.pub.pem" in words:
                run(device, folder, environment, "sign", "n.tflite", "--key", "k.pem")
            run(device, folder, environment, verb, *words)
            assert not marked(marks), (verb, words)
    # The children ran.
    assert "[" in (tmp_path / "bus.log").read_text()


def run(device: Device, folder: Path, environment: dict[str, str], *words: str) -> str:
    argv = [sys.executable, str(device.runtime), *words]
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def test_the_watchdog_runs_the_bus_that_is_installed(
    device: Device, folder: Path, marks: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """It imports its packages when it has to act at the latest: once the drive is gone."""
    argv = [
        sys.executable,
        str(device.runtime),
        "drive",
        "m.tflite",
        "--source",
        "tub",
        "--as-camera",
        "--to",
        "pca9685:",
    ]
    with subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as drive:
        assert drive.stdout is not None and drive.stderr is not None and drive.stdout.readline()
        drive.kill()
        drive.stderr.read()  # The watchdog holds the other end until it has acted.
    lines = (tmp_path / "bus.log").read_text().splitlines()
    assert {int(line.split()[0]) for line in lines} > {drive.pid}
    assert not marked(marks)


def test_python_m_forgets_the_working_directory(folder: Path, marks: Path, environment: dict[str, str]) -> None:
    """The interpreter looks for the package itself there first, so one of that name must not lie there."""
    for name in PACKAGES:
        shutil.rmtree(folder / name)
    argv = [sys.executable, "-m", "sepilot_runtime", "drive", "m.tflite", "--source", "frames", "--quiet"]
    path = {**environment, "PYTHONPATH": str(ROOT / "runtime")}
    done = subprocess.run(argv, cwd=folder, env=path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("\n") == 6, done.stderr
    assert not marked(marks)


@pytest.mark.parametrize(
    ("entry", "pythonpath", "kept"),
    [
        (0, "", False),  # `python -m`, an empty entry
        (0, ".", False),
        (0, "HERE", True),  # It was said in full.
        (-1, "", True),  # An installed checkout is what somebody works in.
    ],
)
def test_what_is_left_out(
    entry: int, pythonpath: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", pythonpath.replace("HERE", str(tmp_path)))
    others = ["/before", str(Path(os.__file__).parent), "/site-packages"]
    path = [str(tmp_path), *others] if entry == 0 else [*others, str(tmp_path)]
    monkeypatch.setattr(sys, "path", list(path))
    leave_out_working_directory()
    assert sys.path == (path if kept else others)


@pytest.mark.slow
def test_no_verb_of_training_and_export_runs_them(folder: Path, marks: Path, environment: dict[str, str]) -> None:
    script = Path(sys.executable).with_name("sepilot")
    if not script.exists():
        pytest.skip("sepilot is not installed as a package")
    without = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    (folder / "run").mkdir()
    arguments = {
        "drives": ["tub"],
        "inspect": ["swift"],
        "record": ["nowhere", "--out", "tub"],
        "train": ["tub", "--out", "run"],
        "compress": ["run", "--out", "smaller"],
        "export": ["run", "--out", "files"],
        "adopt": ["frames"],
        "check": ["frames"],
        "closed-loop": ["frames"],
        "report": ["run"],
        "tradeoff": ["run"],
    }
    assert set(arguments) == set(SUMMARIES) - set(RUNTIME_VERBS)
    for verb, words in arguments.items():
        done = subprocess.run([str(script), verb, *words], cwd=folder, env=without, capture_output=True, text=True)
        assert done.returncode in (0, 2), (verb, done.stderr)
        assert not marked(marks), verb


@pytest.mark.parametrize(
    "words",
    [
        ["sepilot_export.compress.tfmot_worker", "nowhere", "1"],
        ["sepilot_runtime", "export", "run", "--out", "files"],
        ["sepilot_runtime.bench.roofline"],
    ],
    ids=["compress", "tradeoff", "bench"],
)
def test_the_children_of_training_and_export_run_what_is_installed(
    words: list[str], folder: Path, marks: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started as compress, tradeoff and bench do; they are to come far enough to have imported what they need."""
    rest = os.pathsep.join(str(ROOT / name) for name in ("train", "export"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", rest, "."]))
    child = own_environment()
    entries = child["PYTHONPATH"].split(os.pathsep)
    assert entries[0] == str(ROOT / "runtime") and all(Path(entry).is_absolute() for entry in entries)
    (folder / "run").mkdir()
    done = subprocess.run(python_words(*words), cwd=folder, env=child, capture_output=True, text=True)
    assert "Error: No module named" not in done.stderr
    assert not marked(marks)


def test_the_installation_of_a_device_runs_none_of_them(folder: Path, marks: Path, environment: dict[str, str]) -> None:
    """It runs as root, in whatever folder somebody is in."""
    script = ROOT / "scripts" / "device-install"
    argv = [str(script), "--dry-run", "--python", sys.executable, "--prefix", str(folder.parent / "opt")]
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "numpy==" in done.stdout, done.stderr
    assert not marked(marks)
    calls = [line for line in script.read_text().splitlines() if re.search(r"(python|found|candidate)\" -", line)]
    # `sys` is part of the interpreter.
    assert len(calls) >= 5 and all('" -P ' in line or "import sys" in line for line in calls)


def test_every_process_is_started_so() -> None:
    """A child that is started another way shall be noticed here."""
    found = []
    for package in ("runtime", "train", "export"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            found += [(path.name, m[0]) for m in re.finditer(r"\[\s*sys\.executable(?!, \"-[PI]\")[^\]]*", text)]
            if re.search(r"subprocess\.(run|Popen)\(\s*\[sys\.executable|python_words\(", text):
                assert "own_environment()" in text, path
    assert not found
    planted = 'subprocess.run([sys.executable, "-c", code])'
    assert re.search(r"\[\s*sys\.executable(?!, \"-[PI]\")[^\]]*", planted)
    assert json.loads(json.dumps(python_words("m", "a"))) == [sys.executable, "-P", "-m", "m", "a"]
