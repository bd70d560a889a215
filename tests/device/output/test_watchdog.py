"""The process that puts the car into neutral when the drive is gone, and what the drive keeps of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_smbus2.smbus2 import Chip
from fakes import ListSink
from repository import TESTS
from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Sink, Step
from sepilot_runtime.output import watchdog
from sepilot_runtime.output.registry import open_bare, open_output
from sepilot_runtime.output.watchdog import IGNORED, Guarded


def step(steering: float = 0.25, *, at: int = 0, state: State = State.DRIVING) -> Step:
    return Step(frame=None, prediction=None, steering=steering, throttle=0.2, state=state, decided_ns=at)


DRIVE = """
import sys, time
sys.path[:0] = sys.argv[2:]
from test_watchdog import step
from sepilot_runtime.output.registry import open_bare
from sepilot_runtime.output.watchdog import Guarded
spec = "jsonl:" + sys.argv[1]
sink = Guarded(open_bare(spec, 0.0), spec, 0.0, timeout_ms=150)
for i in range(100000):
    sink.write(step(at=i))
    print(i, flush=True)
    time.sleep(0.02)
"""


def driving(tmp_path: Path) -> tuple[subprocess.Popen[bytes], Path]:
    lines = tmp_path / "lines.jsonl"
    words = [sys.executable, "-c", DRIVE, str(lines), str(Path(__file__).parent), str(TESTS)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(10):
        process.stdout.readline()
    return process, lines


def last_line(path: Path) -> dict[str, object]:
    return json.loads(path.read_text().splitlines()[-1])  # type: ignore[no-any-return]


def wait_for(path: Path, key: str, value: object, timeout_s: float = 60.0) -> dict[str, object]:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if last_line(path).get(key) == value:
            break
        time.sleep(0.01)
    return last_line(path)


def test_a_killed_drive_leaves_the_car_in_neutral(tmp_path: Path) -> None:
    process, lines = driving(tmp_path)
    process.kill()
    process.wait()
    word = wait_for(lines, "reason", "the drive was killed")
    assert (word["reason"], word["state"]) == ("the drive was killed", "stopped")
    assert (word["steering"], word["throttle"]) == (0.0, 0.0)


def test_a_hanging_drive_is_neutral_and_takes_over_again(tmp_path: Path) -> None:
    process, lines = driving(tmp_path)
    try:
        process.send_signal(signal.SIGSTOP)
        assert wait_for(lines, "reason", "the drive hangs")["state"] == "stopped"
        process.send_signal(signal.SIGCONT)
        assert wait_for(lines, "state", "driving")["state"] == "driving"
    finally:
        process.kill()
        process.wait()


def test_an_ordinary_end_wakes_nobody(tmp_path: Path) -> None:
    spec = f"jsonl:{tmp_path / 'lines.jsonl'}"
    inner: Sink = open_bare(spec, 0.0)
    sink = Guarded(inner, spec, 0.0, timeout_ms=60_000)
    sink.write(step())
    sink.write(step(0.0, state=State.STOPPED))
    sink.close()
    assert sink._process.returncode == 0, "it has said its last"
    assert [json.loads(line)["state"] for line in (tmp_path / "lines.jsonl").read_text().splitlines()] == [
        "driving",
        "stopped",
    ]


@pytest.mark.parametrize("farewell", [True, False])
def test_signals_to_the_whole_unit_do_not_end_the_watchdog(farewell: bool, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    spec = f"jsonl:{lines}"
    sink = Guarded(open_bare(spec, 0.0), spec, 0.0, timeout_ms=60_000)
    process = sink._process
    for number in IGNORED:
        process.send_signal(number)
        sink.write(step())
    if farewell:
        sink.close()
        assert process.returncode == 0 and last_line(lines)["state"] == "driving"
    else:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 1 and last_line(lines)["reason"] == "the drive was killed"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first >&2; echo 'No module named sepilot_runtime' >&2; exit 1", "No module named sepilot_runtime"),
        ("exit 3", "it died without a word"),
    ],
)
def test_a_watchdog_that_does_not_come_up_is_one_line(
    script: str, words: str, chip: Chip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", script_in(tmp_path, script))
    with pytest.raises(OutputError) as caught:
        open_output("pca9685:", 0.0)
    assert str(caught.value) == f"pca9685:: the watchdog does not come up: {words}"
    assert [held for _, held in chip.pulses(1, 0)][-1] == (369, 369)


def test_a_watchdog_that_hangs_at_its_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", script_in(tmp_path, "exec sleep 60"))
    with pytest.raises(OutputError, match=r"x: the watchdog does not come up within 0\.2 s"):
        Guarded(ListSink(), "x", 0.0, start_s=0.2)


def script_in(folder: Path, text: str) -> str:
    """A program that is started in place of Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chip]:
    folder = TESTS / "fake_smbus2"
    monkeypatch.setenv("FAKE_I2C", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "smbus2", raising=False)
    yield Chip(tmp_path)
    sys.modules.pop("smbus2", None)


def test_neutral_is_written_until_it_is_taken_and_for_a_second_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(ListSink):
        tries = 0

        def write(self, step: Step) -> None:
            self.tries += 1
            if self.tries <= 500:
                raise RuntimeError("whatever")
            super().write(step)

    now_s = [0.0]

    def pause() -> None:
        now_s[0] += watchdog.RETRY_S

    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now_s[0])
    output = Fails()
    watchdog.hold_neutral(output, 0.2, "why", pause)
    assert output.tries - 500 == pytest.approx(watchdog.HOLD_S / watchdog.RETRY_S, abs=1)
    assert {(s.steering, s.throttle, s.state, s.reason) for s in output.steps} == {(0.2, 0.0, State.STOPPED, "why")}


def test_a_close_that_fails_is_left_to_the_watchdog(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not hear a farewell, and must not be killed."""
    monkeypatch.setattr(watchdog, "CLOSE_S", 0.1)
    sink = open_output("pca9685:", 0.2)
    assert isinstance(sink, Guarded)
    sink.write(step())
    process = sink._process
    assert process is not None
    chip.fail()
    with pytest.raises(OutputError, match=f"the car may still move: process {process.pid} goes on trying to stop it"):
        sink.close()
    assert process.poll() is None
    chip.heal()
    assert process.wait(60) == 1
    *_, (last, held) = chip.pulses(1, 0)
    assert held == (393, 369) and last.process == process.pid


def test_a_close_that_fails_once_is_done_by_the_watchdog_without_a_word(chip: Chip) -> None:
    sink = open_output("pca9685:", 0.2)
    sink.write(step())
    chip.fail(1)
    sink.close()
    *_, (last, held) = chip.pulses(1, 0)
    assert held == (393, 369) and last.process != os.getpid()


def test_a_watchdog_that_cannot_open_its_output_says_why(chip: Chip) -> None:
    inner = open_bare("pca9685:", 0.2)
    chip.fail(gone=True)
    with pytest.raises(OutputError, match="the watchdog does not come up: /dev/i2c-1: cannot be opened: No such file"):
        Guarded(inner, "pca9685:", 0.2)


def test_the_first_step_is_guarded_before_it_is_written(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive that was stopped with half of its first step written left the throttle on."""
    order: list[str] = []

    class Noting(ListSink):
        def write(self, step: Step) -> None:
            order.append("step")

    guarded = Guarded(Noting(), "pca9685:", 0.0)
    tell = guarded._tell
    monkeypatch.setattr(guarded, "_tell", lambda what: (order.append("beat"), tell(what)))
    for number in range(2):
        guarded.write(step(at=number))
    assert order == ["beat", "step", "beat", "step", "beat"]
    guarded.close()


def test_a_drive_that_hangs_again_in_the_middle_of_a_step_is_neutral_again(tmp_path: Path) -> None:
    """It goes on for less than a step: no beat tells the watchdog that the car moves again."""
    process, lines = driving(tmp_path)
    try:
        process.send_signal(signal.SIGSTOP)
        wait_for(lines, "reason", "the drive hangs")
        time.sleep(watchdog.HOLD_S + 0.5)
        with lines.open("a") as file:
            file.write(json.dumps({"state": "driving", "throttle": 0.2}) + "\n")
        assert wait_for(lines, "reason", "the drive hangs")["state"] == "stopped"
    finally:
        process.kill()
        process.wait()


def test_a_watchdog_that_died_is_told_and_replaced(tmp_path: Path) -> None:
    inner = ListSink()
    sink = Guarded(inner, f"jsonl:{tmp_path / 'lines.jsonl'}", 0.2)
    first = sink._process
    assert first is not None
    first.kill()
    first.wait()
    with pytest.raises(OutputError, match="the watchdog has died"):
        sink.write(step())
    assert len(inner.steps) == 1, "the step itself is written: it may be neutral"
    end_s = time.monotonic() + 60
    while True:
        try:
            sink.write(step())
            break
        except OutputError as e:
            assert "the watchdog has died; another one is being started" in str(e) and time.monotonic() < end_s
            time.sleep(0.005)
    second = sink._process
    assert second is not None and second is not first
    sink.close()
    assert second.returncode == 0
