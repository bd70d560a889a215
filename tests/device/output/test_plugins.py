"""An output and an engine of somebody else's package, found by its entry points and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_factory import write_frames, write_tflite
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.processes import own_environment
from sepilot_runtime.engine.engines import open_engine
from sepilot_runtime.engine.names import engine_named
from sepilot_runtime.output.registry import open_bare, open_output

LAMP = """
import json

class Lamp:
    def __init__(self, address):
        address.require("pin")
        self.where, self.pin = address.path or address.host, int(address.number("pin", 4, 0, 27))
        self.straight, self.bare = address.straight, address.bare
        self.file = open(self.where, "a")

    def write(self, step):
        self.file.write(json.dumps([step.state.value, step.steering, self.pin]) + chr(10))

    def close(self):
        self.file.close()


def open_engine(file, threads):
    from sepilot_runtime.engine.litert import LiteRtEngine

    class Mine(LiteRtEngine):
        name = "mine"

    return Mine(file, threads)
"""

POINTS = """
[sepilot.outputs]
lamp = my_car:Lamp
Beacon = my_car:Lamp
jsonl = my_car:NeverTaken
broken = my_car:missing
gone = no_such_module:open

[sepilot.engines]
mine = my_car:open_engine
litert = my_car:NeverTaken
"""


def install(folder: Path) -> Path:
    """What pip leaves of a package: its module, and a .dist-info with its entry points."""
    info = folder / "my_car-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-car\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (folder / "my_car.py").write_text(LAMP)
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def drive(words: list[str], site: Path | None, folder: Path) -> subprocess.CompletedProcess[str]:
    """`sepilot drive` in `folder`, with what is installed in `site`."""
    environment = own_environment()
    if site is not None:
        environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(site)])
    command = [sys.executable, "-m", "sepilot_runtime", "drive", *words, "--quiet"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_car_drives_by_its_own_output_and_engine(tmp_path: Path) -> None:
    site, model = install(tmp_path / "site"), write_tflite(tmp_path / "m.tflite")
    source, log = write_frames(tmp_path / "frames", 3), tmp_path / "lamp.log"
    words = [str(model), "--engine", "mine", "--source", str(source), "--to", f"lamp:{log}?pin=7"]
    done = drive(words, site, tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    said = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row[0] for row in said] == ["driving"] * 3 + ["stopped"] and {row[2] for row in said} == {7}


def test_what_lies_in_the_working_directory_is_not_installed(tmp_path: Path) -> None:
    here, model = install(tmp_path / "here"), write_tflite(tmp_path / "m.tflite")
    source = write_frames(tmp_path / "frames", 1)
    for words in (["--to", "lamp:x"], ["--engine", "mine"]):
        done = drive([str(model), "--source", str(source), *words], None, here)
        assert done.returncode == 2 and ": one of " in done.stderr and "lamp:," not in done.stderr
        assert done.stderr.count("\n") == 1 and not (here / "x").exists()


def test_an_address_tells_an_output_of_the_car(installed: Path, tmp_path: Path) -> None:
    sink = open_output(f"lamp:{tmp_path / 'a.log'}", 0.2)
    assert (sink.straight, sink.bare, sink.pin) == (0.2, False, 4)  # type: ignore[attr-defined]
    assert open_bare(f"lamp:{tmp_path / 'a.log'}", 0.0).bare  # type: ignore[attr-defined]
    open_output(f"Beacon:{tmp_path / 'b.log'}", 0.0).close()
    with pytest.raises(UsageError, match="unknown option pim; known: pin"):
        open_output("lamp:x?pim=3", 0.0)


def test_an_error_lists_what_is_installed_and_our_own_names_stay_ours(installed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"jsonl:, serial:, .*, Beacon:, broken:, gone:, lamp: expected"):
        open_output("lump:x", 0.0)
    with pytest.raises(UsageError, match=r"one of litert, .*, mine expected, found 'mien'"):
        engine_named("mien")
    open_bare(f"jsonl:{tmp_path / 'x.jsonl'}", 0.0).close()
    assert open_engine(write_tflite(tmp_path / "m.tflite"), engine="litert").name == "litert"


@pytest.mark.parametrize("name", ["broken", "gone"])
def test_a_package_that_is_broken_is_named_in_one_line(name: str, installed: Path) -> None:
    with pytest.raises(UsageError) as error:
        open_output(f"{name}:x", 0.0)
    assert str(error.value).startswith(f"{name}: ") and "of sepilot.outputs cannot be loaded" in str(error.value)
    assert "\n" not in str(error.value)
