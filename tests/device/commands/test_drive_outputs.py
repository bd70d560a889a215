"""What does not steer keeps nobody from driving; what steers must open; what was written wrong is an error."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from model_factory import write_frames
from sepilot_runtime import cli


@pytest.fixture
def argv(files: dict[str, Path], tmp_path: Path) -> list[str]:
    """A live drive of a second."""
    road = write_frames(tmp_path / "road", 20)
    model = str(files["float32.tflite"])
    return ["drive", model, "--source", str(road), "--as-camera", "--rate-hz", "20", "--quiet"]


@pytest.fixture
def impossible(tmp_path: Path) -> Path:
    """A folder that cannot be made, whoever runs this."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder"


def unknown_host(*arguments: object, **options: object) -> None:
    raise socket.gaierror(-2, "Name or service not known")


@pytest.mark.parametrize("kind", ["jsonl", "output", "record", "overlay", "mqtt", "udp"])
def test_an_output_that_does_not_steer_and_cannot_be_opened_is_one_warning(
    kind: str, argv: list[str], impossible: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if kind == "mqtt":
        pytest.importorskip("paho.mqtt.client")
    if kind == "udp":
        monkeypatch.setattr(socket, "getaddrinfo", unknown_host)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "steps.jsonl"
    argv += {
        "jsonl": ["--to", f"jsonl:{impossible}/a.jsonl"],
        "output": ["--output", str(impossible / "o.jsonl")],
        "record": ["--record", str(impossible / "tub")],
        "overlay": ["--overlay", str(impossible / "o.mp4")],
        "mqtt": ["--to", f"mqtt://127.0.0.1:{port}/car"],
        "udp": ["--to", "udp://no.such.host.invalid:5005"],
    }[kind]
    assert cli.main([*argv, "--to", f"jsonl:{log}"]) == 0
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(step["state"] == "driving" for step in steps) > 10 and steps[-1]["state"] == "stopped"
    told = capsys.readouterr().err.splitlines()
    warnings = [line for line in told if line.startswith("warning: ") and "novel" not in line]
    assert 1 <= len(warnings) <= 2, "at once, and at the end where it never came"
    where = {"mqtt": f"mqtt://127.0.0.1:{port}", "udp": "udp://no.such.host.invalid:5005"}.get(kind, str(impossible))
    assert all(where in line for line in warnings)


@pytest.mark.parametrize("kind", ["output", "record", "overlay"])
def test_a_path_that_exists_is_refused(
    kind: str, argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "there.mp4"
    path.touch()
    assert cli.main([*argv, f"--{kind}", str(path)]) == 2
    assert capsys.readouterr().err == f"sepilot: {path}: exists already; name a new path or remove it first\n"


@pytest.mark.parametrize(
    ("spec", "words"),
    [("serial:/dev/nothing", "cannot be opened"), ("pca9685:?bus=77", "/dev/i2c-77: cannot be opened"),
     ("jsonl:x?max=3", "unknown option max"), ("mqtt://host", "/TOPIC expected")],
)  # fmt: skip
def test_what_steers_must_open_and_what_is_wrong_is_an_error(
    spec: str, words: str, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("serial")
    pytest.importorskip("smbus2")
    assert cli.main([*argv, "--to", spec]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
