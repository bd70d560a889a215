"""What a drive writes is there however it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from model_factory import write_frames, write_tflite
from repository import ROOT
from sepilot_runtime import cli
from sepilot_runtime.base.errors import OutputError, SepilotError
from sepilot_runtime.commands import drive_outputs
from sepilot_runtime.drive.step import Step
from sepilot_runtime.output.json_lines import JsonLinesSink
from sepilot_runtime.output.udp import UdpSink
from sepilot_runtime.view.overlay import Overlay


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tflite(tmp_path / "swift.tflite")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "frames", 9)


def steered(output: Path) -> list[dict[str, Any]]:
    """The lines of the frames that were steered by."""
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    return [line for line in lines if "raw" in line]


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What stands on stderr, but that this model has no statistics of its training."""
    return [line for line in capsys.readouterr().err.splitlines() if "novel pictures" not in line]


def delayed(call: Callable[..., Any], by_s: float) -> Callable[..., Any]:
    def slow(*arguments: Any) -> Any:
        time.sleep(by_s)
        return call(*arguments)

    return slow


@pytest.mark.parametrize("live", [False, True])
def test_a_drive_that_fails_keeps_its_log_and_its_video(
    live: bool, model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def write(self: UdpSink, step: Step) -> None:
        if step.frame is not None and step.frame.id >= 4:
            # A live drive rides out what an output says of itself.
            raise (SepilotError if live else OutputError)("udp: the cable came off")

    monkeypatch.setattr(UdpSink, "write", write)
    made = tmp_path / "made"
    argv = ["drive", str(model), "--source", str(folder), "--to", "udp://127.0.0.1:9", "--quiet"]
    argv += ["--output", str(made / "o.jsonl"), "--overlay", str(made / "o.mp4"), *["--as-camera"] * live]
    assert cli.main(argv) == 2
    assert told(capsys) == ["sepilot: udp: the cable came off"]
    assert sorted(path.name for path in made.iterdir()) == ["o.jsonl", "o.mp4"]
    lines = steered(made / "o.jsonl")
    assert 0 <= lines[-1]["frame"] < 4
    assert cv2.VideoCapture(str(made / "o.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == len(lines)


def test_a_log_is_there_after_a_kill(model: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.jsonl"
    argv = ["drive", str(model), "--source", str(folder), "--rate-hz", "4", "--output", str(output), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    process = subprocess.Popen([sys.executable, "-m", "sepilot_runtime", *argv], env=environment)
    end = time.monotonic() + 120
    while not (output.exists() and len(output.read_text().splitlines()) >= 3) and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.wait()
    lines = steered(output)
    assert 3 <= len(lines) < 9 and [line["frame"] for line in lines] == list(range(len(lines)))


def test_of_a_drive_without_a_step_no_log_is_left(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.png").write_bytes(b"no image")
    output = tmp_path / "new" / "o.jsonl"
    assert cli.main(["drive", str(model), "--source", str(broken), "--output", str(output), "--quiet"]) == 2
    assert list(output.parent.iterdir()) == []


def test_a_log_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").write_text("")
    taken = pytest.raises(OutputError, match=r"o\.jsonl: cannot be written: File exists")
    with taken, drive_outputs._text_output(tmp_path / "o.jsonl"):
        pytest.fail("the block must not run")
    assert (tmp_path / "o.jsonl").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("failed", [False, True])
def test_a_disk_that_is_full_at_the_end_is_told_unless_the_drive_failed(failed: bool, tmp_path: Path) -> None:
    full = pytest.raises(OutputError, match=r"o\.jsonl: cannot be written: No space left on device")
    told = pytest.raises(ZeroDivisionError) if failed else full
    with told, drive_outputs._text_output(tmp_path / "o.jsonl") as file:
        JsonLinesSink(file).write(Step(frame=None, prediction=None, steering=0.0))
        device = os.open("/dev/full", os.O_WRONLY)
        os.dup2(device, file.fileno())
        os.close(device)
        file.write("the rest")
        if failed:
            raise ZeroDivisionError
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 1


def test_a_live_video_is_whole_though_drawing_is_slow(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Overlay, "draw", delayed(Overlay.draw, 0.05))
    output, video = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    argv = ["drive", str(model), "--source", str(folder), "--as-camera", "--rate-hz", "50", "--quiet"]
    assert cli.main([*argv, "--output", str(output), "--overlay", str(video)]) == 0
    assert told(capsys) == []
    assert cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT) == len(steered(output)) > 0


def test_a_video_for_which_there_is_no_time_is_told_and_can_be_played(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Overlay, "draw", delayed(Overlay.draw, 0.3))
    monkeypatch.setattr(drive_outputs, "OVERLAY_CLOSE_S", 0.0)
    video = tmp_path / "o.mp4"
    argv = ["drive", str(model), "--source", str(folder), "--as-camera", "--rate-hz", "50", "--quiet"]
    assert cli.main([*argv, "--output", str(tmp_path / "o.jsonl"), "--overlay", str(video)]) == 0
    assert "OverlaySink: " in (told := capsys.readouterr().err) and "are missing" in told
    drawn = cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT)
    assert 0 < drawn < len(steered(tmp_path / "o.jsonl"))
