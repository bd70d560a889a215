"""`sepilot drive` from the outside: lines, files, exit codes, and what is left after Ctrl-C and a full disk."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import pytest

from model_factory import PICTURE, contract_of, frames, steering_of, write_frames, write_onnx, write_tflite
from repository import ROOT
from sepilot_runtime import cli
from sepilot_runtime.contract.preprocess import picture_of


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tflite(tmp_path / "swift.tflite")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "frames", 9)


def lines_of(text: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_json_line_per_frame(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["drive", str(model), "--source", str(folder)]) == 0
    printed = capsys.readouterr()
    lines = lines_of(printed.out)
    assert [line["frame"] for line in lines] == list(range(9))
    for line, frame in zip(lines, frames(9), strict=True):
        expected = steering_of(picture_of(frame, PICTURE))
        assert line["steering"] == pytest.approx(expected, abs=1e-5)
        assert line["steering_deg"] == pytest.approx(25 * expected, abs=1e-3)
        assert line["total_us"] >= line["infer_us"] > 0
        assert line["age_ms"] > 0 and "recorded" not in line
    assert "ramp float32 on litert, 1 thread, 3 golden frames passed" in printed.err
    assert "9 frames" in printed.err and "p99" in printed.err


def test_every_interpreter_drives_the_same_way(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steering = {}
    for path in (
        write_tflite(tmp_path / "a.tflite"),
        write_onnx(tmp_path / "b.onnx"),
        write_tflite(tmp_path / "c.tflite", int8=True),
    ):
        assert cli.main(["drive", str(path), "--source", str(folder), "--quiet"]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        steering[path.name] = [line["steering"] for line in lines_of(printed.out)]
    assert steering["b.onnx"] == pytest.approx(steering["a.tflite"], abs=1e-5)
    assert steering["c.tflite"] == pytest.approx(steering["a.tflite"], abs=0.01)


def test_output_and_overlay_files(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, overlay = tmp_path / "new" / "out.jsonl", tmp_path / "new" / "out.mp4"
    argv = ["drive", str(model), "--source", str(folder), "--output", str(output), "--overlay", str(overlay)]
    assert cli.main([*argv, "--max-frames", "5", "--horizon", "0.6"]) == 0
    assert capsys.readouterr().out == ""
    assert len(lines_of(output.read_text())) == 5
    assert cv2.VideoCapture(str(overlay)).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert sorted(path.name for path in output.parent.iterdir()) == ["out.jsonl", "out.mp4"]
    # A second run does not write over the first.
    assert cli.main(argv) == 2
    assert "exists already" in capsys.readouterr().err
    assert len(lines_of(output.read_text())) == 5


def bad_models(folder: Path) -> dict[str, Path]:
    """File name to a model file with a planted fault."""
    good = write_tflite(folder / "good.tflite")
    truncated = folder / "truncated.tflite"
    truncated.write_bytes(good.read_bytes()[:3000])
    noise = folder / "noise.onnx"
    noise.write_bytes(os.urandom(5000))
    renamed = folder / "renamed.onnx"
    renamed.write_bytes(good.read_bytes())
    body = json.loads(contract_of().to_json())
    body["golden"][0]["expected"]["steering"] = 0.9
    foreign = dataclasses.replace(contract_of(), version="3.1")
    return {
        "truncated": truncated,
        "noise": noise,
        "renamed": renamed,
        "no contract": write_tflite(folder / "plain.tflite", text=""),
        "foreign version": write_tflite(folder / "foreign.tflite", text=foreign.to_json()),
        "tampered golden frame": write_onnx(folder / "tampered.onnx", text=json.dumps(body)),
        "wrong weights": write_onnx(folder / "weights.onnx", gain=1.5),
        "wrong input scale": write_tflite(folder / "scale.tflite", int8=True, input_scale=1 / 127),
        "missing": folder / "nowhere.tflite",
        "another format": folder,
    }


@pytest.mark.parametrize("verb", ["drive", "bench"])
def test_bad_model_files_are_one_line_and_exit_code_2(
    verb: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = bad_models(tmp_path)
    if verb == "bench":
        del bad["no contract"]  # It is measured, and its row says so.
    for name, path in bad.items():
        argv = [verb, str(path), *(["--source", str(folder)] if verb == "drive" else ["--rounds", "1", "--calls", "1"])]
        assert cli.main(argv) == 2, name
        printed = capfd.readouterr()
        assert printed.out == "", name
        assert printed.err.startswith(f"sepilot: {path}") and printed.err.count("\n") == 1, (name, printed.err)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--source", "x", "--paced", "--rate-hz", "5"],
        ["--source", "x", "--rate-hz", "0"],
        ["--source", "x", "--threads", "0"],
        ["--source", "x", "--max-frames", "-1"],
        ["--source", "x", "--horizon", "2"],
    ],
)
def test_nonsense_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["drive", "m.tflite", *argv])
    assert caught.value.code == 2
    assert "usage: sepilot drive" in capsys.readouterr().err


def test_sources_and_outputs_that_fail_are_one_line(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for argv in (
        ["--source", str(tmp_path / "nowhere")],
        ["--source", str(blocked)],
        ["--source", str(folder), "--overlay", str(tmp_path / "o.gif")],
        ["--source", str(folder), "--overlay", str(blocked / "o.mp4")],
        ["--source", str(folder), "--output", str(blocked / "o.jsonl")],
    ):
        assert cli.main(["drive", str(model), *argv, "--quiet"]) == 2
        message = capsys.readouterr().err
        assert message.startswith("sepilot: ") and message.count("\n") == 1


# --- In a process of its own ----------------------------------------------------------------------------------------


def start(argv: Sequence[str], *, largest_file: int | None = None) -> subprocess.Popen[str]:
    def limit() -> None:
        if largest_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.Popen(
        [sys.executable, "-m", "sepilot_runtime", "drive", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")},
        preexec_fn=limit,
    )


@pytest.fixture
def long_video(tmp_path: Path) -> Path:
    path = tmp_path / "long.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (64, 48))
    for frame in frames(400):
        writer.write(frame)
    writer.release()
    return path


def test_ctrl_c_finishes_the_files_and_exits_130(model: Path, long_video: Path, tmp_path: Path) -> None:
    overlay, made = tmp_path / "out" / "o.mp4", tmp_path / "out"
    process = start([str(model), "--source", str(long_video), "--rate-hz", "50", "--overlay", str(overlay)])
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(8)]
    process.send_signal(signal.SIGINT)
    rest, messages = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in messages and "Traceback" not in messages
    count = len(lines_of("".join(lines) + rest))
    assert 8 <= count < 400
    assert abs(cv2.VideoCapture(str(overlay)).get(cv2.CAP_PROP_FRAME_COUNT) - count) <= 1
    assert [path.name for path in made.iterdir()] == ["o.mp4"]


@pytest.mark.parametrize("option", ["--overlay", "--output"])
def test_a_full_disk_leaves_no_half_video_and_says_so(
    option: str, model: Path, long_video: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out" / ("o.mp4" if option == "--overlay" else "o.jsonl")
    argv = [str(model), "--source", str(long_video), option, str(target), "--max-frames", "100", "--quiet"]
    process = start(argv, largest_file=10_000)
    _, messages = process.communicate()
    assert process.returncode == 2
    assert messages.startswith(f"sepilot: {target}: ") and messages.count("\n") == 1
    if option == "--overlay":
        assert list(target.parent.iterdir()) == []
    else:
        # A log is good up to its last whole line.
        *whole, _ = target.read_text().splitlines()
        assert [json.loads(line)["frame"] for line in whole] == list(range(len(whole))) and len(whole) > 20


def test_a_full_disk_behind_stdout_is_one_line(model: Path, folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "sepilot_runtime", "drive", str(model), "--source", str(folder), "--quiet"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")},
        )
    assert done.returncode == 2
    assert done.stderr == "sepilot: standard output: cannot be written: No space left on device\n"


def test_a_receiver_of_a_recordings_steps_is_told_that_it_ended(model: Path, folder: Path, tmp_path: Path) -> None:
    """One that keeps the last word would keep the throttle of the last frame."""
    words = ["drive", str(model), "--source", str(folder), "--quiet", "--set", "actuation.throttle=0.3"]
    assert cli.main([*words, "--to", f"jsonl:{tmp_path / 'car.jsonl'}"]) == 0
    *steps, last = lines_of((tmp_path / "car.jsonl").read_text())
    assert [step["throttle"] for step in steps] == [0.3] * 9
    assert (last["state"], last["steering"], last["throttle"]) == ("stopped", 0.0, 0.0)


def test_an_output_of_the_car_is_not_taken_for_a_file_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["drive", "m.onnx", "--source", "0", "--output", "udp://10.0.0.7:5005"])
    assert stopped.value.code == 2
    assert "--output: a file expected, found udp://10.0.0.7:5005; --to sends steering there" in capsys.readouterr().err
