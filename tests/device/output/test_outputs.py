"""Where the steering goes: every output gets every step in time, and neutral when nobody drives any more."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import pytest

from fakes import ListSink
from model_factory import prediction_of
from repository import TESTS
from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Sink, Step
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.output.background import Background
from sepilot_runtime.output.mqtt import MqttSink
from sepilot_runtime.output.pca9685 import ServoSettings, ServoSink
from sepilot_runtime.output.registry import open_bare, open_output
from sepilot_runtime.output.rotation import RotatingLinesSink
from sepilot_runtime.output.serial import SerialSink, _PromptPort, line_of_step, open_serial, parse_line
from sepilot_runtime.output.tub_recorder import TubRecorder
from sepilot_runtime.output.udp import UdpSink
from sepilot_runtime.source.opening import open_source
from sepilot_runtime.source.protocol import Frame

RNG = np.random.default_rng(1)


def step(steering: float = 0.25, *, at: int = 0, state: State = State.DRIVING, image: bool = True) -> Step:
    frame = Frame(
        id=at, time_s=at / 20, image=RNG.integers(0, 255, (24, 32, 3), np.uint8),
        arrived_ns=time.monotonic_ns() + at * 50_000_000,
    )  # fmt: skip
    prediction = prediction_of(steering, preprocess_us=10.0, infer_us=20.0)
    return Step(
        frame=frame if image else None, prediction=prediction if image else None, steering=steering, throttle=0.2,
        state=state, reason="" if state is State.DRIVING else "why", decided_ns=1, total_us=31.0, age_ms=1.0,
    )  # fmt: skip


# --- serial -----------------------------------------------------------------------------------------------------------


def test_a_serial_line_reads_back_and_a_damaged_one_is_refused() -> None:
    line = line_of_step(1007, -0.125, 0.25, State.NEUTRAL)
    assert line == b"$SP,7,-125,250,N*56\r\n"
    assert parse_line(line) == (7, -0.125, 0.25, State.NEUTRAL)
    for place in range(len(line) - 2):
        damaged = bytearray(line)
        damaged[place] ^= 0x01
        assert parse_line(bytes(damaged)) is None, (place, bytes(damaged))
    for nonsense in (b"", b"$", b"$*00", b"*", line[5:], b"\xff" * 20):
        assert parse_line(nonsense) is None


def test_steps_arrive_over_a_pseudo_terminal() -> None:
    pytest.importorskip("serial")
    ours, theirs = os.openpty()
    sink = open_serial(os.ttyname(theirs))
    for i in range(3):
        sink.write(step(0.1 * i))
    sink.write(step(0.0, state=State.STOPPED, image=False))
    received = b""
    while received.count(b"\n") < 4:
        received += os.read(ours, 4096)
    sink.close()
    found = [parse_line(line) for line in received.splitlines()]
    assert found == [(0, 0.0, 0.2, State.DRIVING), (1, 0.1, 0.2, State.DRIVING), (2, 0.2, 0.2, State.DRIVING),
                     (3, 0.0, 0.2, State.STOPPED)]  # fmt: skip


def test_a_process_that_is_held_up_writes_on_and_a_port_that_takes_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("serial")
    ours, theirs = os.openpty()
    sink = open_serial(os.ttyname(theirs))
    prompt = os.write

    def held_up(*arguments: Any) -> int:
        done = prompt(*arguments)
        time.sleep(0.1)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", held_up)
        sink.write(step())
    assert os.read(ours, 4096) == b"$SP,0,250,200,D*72\r\n"
    start = time.perf_counter()
    with pytest.raises(OutputError, match="cannot be written: the buffer is full"):
        for _ in range(10_000):
            sink.write(step())
    with pytest.raises(OutputError, match="cannot be written: the buffer is full"):
        sink.write(step())
    assert time.perf_counter() - start < 5, "it waits for nobody"
    # Once somebody reads again, the first whole line is not lost behind the torn one.
    received = b""
    while select.select([ours], [], [], 0)[0]:
        received += os.read(ours, 4096)
    sink.write(step(-0.5))
    received += os.read(ours, 4096)
    while not received.endswith(b"\n"):
        received += os.read(ours, 4096)
    found = parse_line(received.splitlines()[-1])
    assert found is not None and found[1] == -0.5
    sink.close()
    os.close(ours)


def test_a_line_that_is_too_slow_for_its_steps_is_told() -> None:
    """Its buffer would hold seconds of steering that is past."""

    class Slow:
        baudrate = 4800

        def fileno(self) -> int:
            return ours.fileno()

    # A socket tells what the other end has not read yet as a serial port tells what it has not sent.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        port = _PromptPort(Slow())
        port.write(b"$" * 60)
        with pytest.raises(OSError, match=r"\d+ bytes wait to be sent"):
            port.write(b"$")
        theirs.recv(4096)
        assert port.write(b"$") == 1


def test_a_port_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("serial")
    with pytest.raises(OutputError, match="serial:/dev/nothing: cannot be opened"):
        open_output("serial:/dev/nothing", 0.0)


def test_a_port_that_went_away_is_opened_again_without_a_wait(tmp_path: Path) -> None:
    pytest.importorskip("serial")
    port = tmp_path / "ttyACM0"
    ours, theirs = os.openpty()
    port.symlink_to(os.ttyname(theirs))
    sink = open_output(f"serial:{port}", 0.0)
    sink.write(step())
    os.close(theirs)
    os.close(ours)
    port.unlink()
    start = time.perf_counter()
    for words in ("cannot be written: ", *["has gone away; it is opened again once it is there"] * 50):
        with pytest.raises(OutputError, match=f"serial:{port}: {words}"):
            sink.write(step())
    assert time.perf_counter() - start < 5
    ours, theirs = os.openpty()
    port.symlink_to(os.ttyname(theirs))
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OutputError):
            sink.write(step(-0.25))
            break
        time.sleep(0.01)
    assert parse_line(os.read(ours, 4096).split(b"\r\n")[-2]) == (1, -0.25, 0.2, State.DRIVING)
    sink.close()
    os.close(ours)
    os.close(theirs)


def test_a_port_whose_last_step_was_not_written_says_so(tmp_path: Path) -> None:
    class Gone:
        def write(self, data: bytes) -> int:
            raise OSError(5, "Input/output error")

        def close(self) -> None:
            pass

    def never() -> Gone:
        raise OutputError("not there")

    sink = SerialSink(Gone(), "serial:x", never)
    with pytest.raises(OutputError, match="serial:x: cannot be written"):
        sink.write(step())
    with pytest.raises(OutputError, match="serial:x: the last step could not be written; the receiver stops by itself"):
        sink.close()


# --- servo ------------------------------------------------------------------------------------------------------------


class MemoryBus:
    """A PCA9685's registers."""

    def __init__(self) -> None:
        self.registers = [0] * 256
        self.registers[0] = 0x11
        self.log: list[tuple[int, int]] = []
        self.closed = False

    def read_byte_data(self, address: int, register: int) -> int:
        self._require(address)
        return self.registers[register]

    def write_byte_data(self, address: int, register: int, value: int) -> None:
        self._require(address)
        if register == 0xFE:
            assert self.registers[0] & 0x10, "the prescaler can be set in sleep only"
        self.registers[register] = value
        self.log.append((register, value))

    def write_i2c_block_data(self, address: int, register: int, data: list[int]) -> None:
        self._require(address)
        assert self.registers[0] & 0x20, "auto increment"
        self.registers[register : register + len(data)] = data

    def close(self) -> None:
        self.closed = True

    def pulse_us(self, channel: int, rate_hz: int = 60) -> float:
        low, high = self.registers[6 + 4 * channel + 2 : 6 + 4 * channel + 4]
        return (low + 256 * high) / 4096 / rate_hz * 1e6

    def _require(self, address: int) -> None:
        if address != 0x40:
            raise OSError(121, "Remote I/O error")


def test_the_servo_gets_the_pulse_that_the_steering_means() -> None:
    bus = MemoryBus()
    sink = ServoSink(lambda: bus, ServoSettings(steering=1, throttle=0), 0.0, sleep=lambda s: None)
    assert bus.registers[0xFE] == 101, "25 MHz / (4096 * 60 Hz) - 1, NXP data sheet 7.3.5"
    assert not bus.registers[0] & 0x10
    for steering, pulse_us in ((-1.0, 1000), (0.0, 1500), (0.5, 1750), (1.0, 2000)):
        sink.write(step(steering))
        assert bus.pulse_us(1) == pytest.approx(pulse_us, abs=2.1), "a tick is 4 us"
        assert bus.pulse_us(0) == pytest.approx(1600, abs=2.1)
    sink.close()
    assert bus.pulse_us(0) == bus.pulse_us(1) == pytest.approx(1500, abs=2.1)
    assert bus.closed
    with pytest.raises(OutputError, match="0x41 on i2c-1: does not answer"):
        ServoSink(MemoryBus, ServoSettings(address=0x41), 0.0)


# --- datagrams --------------------------------------------------------------------------------------------------------


def test_datagrams_count_and_carry_the_step() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(30)
        sink = open_output(f"udp://127.0.0.1:{listener.getsockname()[1]}", 0.0)
        for i in range(2):
            sink.write(step(0.1, at=i))
        received = [json.loads(listener.recv(2000)) for _ in range(2)]
        sink.close()
    assert [r["seq"] for r in received] == [0, 1]
    assert [r["frame"] for r in received] == [0, 1]
    assert received[0]["state"] == "driving" and received[0]["steering"] == 0.1


def test_a_host_that_is_not_known_yet_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: str, *arguments: Any, **options: Any) -> Any:
        if options.get("flags") or not known.is_set():
            raise socket.gaierror(-2, "Name or service not known")
        return look_up("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr("sepilot_runtime.output.udp.REOPEN_S", 0.01)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(60)
        sink = open_output(f"udp://screen:{listener.getsockname()[1]}", 0.0)
        assert isinstance(sink, UdpSink)
        sink.write(step(0.1))
        said = until_warned(capsys, "Name or service not known; trying again\n")
        assert said.count("warning") == 1 and sink.unsent == 1 and sink.failure in said
        known.set()
        while sink.failure is not None:
            time.sleep(0.005)
        sink.write(step(0.2))
        assert json.loads(listener.recv(2000))["steering"] == 0.2
        sink.close()


# --- lines ------------------------------------------------------------------------------------------------------------


def test_lines_rotate_and_nothing_is_lost(tmp_path: Path) -> None:
    sink = RotatingLinesSink(str(tmp_path / "a.jsonl"), most_bytes=1000, keep=3)
    for i in range(20):
        sink.write(step(at=i))
    sink.close()
    files = sorted(tmp_path.iterdir(), key=lambda p: p.name, reverse=True)
    assert [p.name for p in files] == ["a.jsonl.3", "a.jsonl.2", "a.jsonl.1", "a.jsonl"]
    frames = [json.loads(line)["frame"] for p in files for line in p.read_text().splitlines()]
    assert frames == list(range(frames[0], 20))


def test_a_torn_line_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"whole": 1}\n{"to')
    for _ in range(2):
        sink = RotatingLinesSink(str(path))
        sink.write(step())
        sink.close()
    lines = path.read_text().splitlines()
    assert lines[:2] == ['{"whole": 1}', '{"to'] and [json.loads(line)["frame"] for line in lines[2:]] == [0, 0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("telnet:x", "one of jsonl:, serial:"),
        ("udp://127.0.0.1", "udp://HOST:PORT expected"),
        ("udp://127.0.0.1:99999", "Port out of range"),
        ("udp://[::1", "Invalid IPv6 URL"),
        ("udp://127.0.0.1:5005#x", "an address without # expected"),
        ("mqtt://host/car/#", "an address without # expected"),
        ("jsonl", "one of jsonl:, serial:"),
        ("jsonl:", "jsonl:FILE expected"),
        ("jsonl:a?max=3", "unknown option max; known: max_mb, keep"),
        ("serial:/dev/x?baud=fast", "baud: a number expected, found 'fast'"),
        ("pca9685:?steering=0", "two different channels"),
        ("pca9685:1", "pca9685:?NAME=VALUE&… expected"),
        ("pca9685:#?bus=1", "pca9685:?NAME=VALUE&… expected"),
        ("mqtt://host", "/TOPIC expected"),
    ],
)
def test_a_wrong_name_is_one_line(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        open_output(spec, 0.0)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x#y.jsonl", "why?.jsonl", "100%25.jsonl", "a b;c=d.jsonl", "x?max_mb"])
def test_the_name_of_a_file_is_taken_as_it_stands(name: str, tmp_path: Path) -> None:
    for options in ("", "?max_mb=1&keep=2"):
        sink = open_bare(f"jsonl:{tmp_path / name}{options}", 0.0)
        sink.write(step())
        sink.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len((tmp_path / name).read_text().splitlines()) == 2


# --- background -------------------------------------------------------------------------------------------------------


HELD_S = 60.0


class Blocked(ListSink):
    """Takes nothing until it is released, or for `HELD_S`."""

    def __init__(self) -> None:
        super().__init__()
        self.busy, self.release = threading.Event(), threading.Event()

    def write(self, step: Step) -> None:
        self.busy.set()
        self.release.wait(HELD_S)
        super().write(step)


@pytest.mark.parametrize("keep", ["newest", "all"])
def test_a_blocked_output_holds_nothing_up(keep: str) -> None:
    slow = Blocked()
    background = Background(slow, keep=keep, depth=8)  # type: ignore[arg-type]
    background.write(step(at=0))
    assert slow.busy.wait(HELD_S)
    start = time.perf_counter()
    for i in range(1, 100):
        background.write(step(at=i))
    assert time.perf_counter() - start < HELD_S / 2
    slow.release.set()
    background.close()
    got = [s.frame.id for s in slow.steps if s.frame]
    assert slow.closed
    if keep == "newest":
        assert got[-1] == 99 and len(got) <= 3, "the newest is what counts"
    else:
        assert got == list(range(9)), "the first ones, without a gap"
    assert background.dropped == 100 - len(got)


def test_a_file_that_cannot_be_written_yet_is_opened_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "card"
    sink = Background(
        None, keep="all", name="log", reopen=lambda: RotatingLinesSink(str(folder / "a.jsonl")), reopen_s=0.01
    )
    sink.write(step(at=0))
    said = until_warned(capsys, "; trying again\n")
    assert said == f"warning: {folder}/a.jsonl: cannot be written: No such file or directory; trying again\n"
    assert sink.failure is not None
    folder.mkdir()
    while sink.failure is not None:
        time.sleep(0.005)
    sink.write(step(at=1))
    sink.close()
    assert [json.loads(line)["frame"] for line in (folder / "a.jsonl").read_text().splitlines()] == [0, 1]
    assert capsys.readouterr().err == "" and sink.dropped == 0


def test_a_sink_that_breaks_is_opened_again_and_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    made: list[Breaking] = []

    class Breaking(ListSink):
        def write(self, step: Step) -> None:
            if not self.steps:
                super().write(step)
                return
            raise OutputError("card: No space left on device")

    def opened() -> Breaking:
        made.append(Breaking())
        return made[-1]

    sink = Background(None, keep="all", reopen=opened, reopen_s=0.01)
    for at in range(6):
        sink.write(step(at=at))
    while len(made) < 4:
        time.sleep(0.005)
    sink.close()
    assert [one.steps[0].frame.id for one in made[:3] if one.steps[0].frame] == [0, 2, 4]
    assert sink.dropped == 3 and all(one.closed for one in made)
    assert capsys.readouterr().err == "warning: card: No space left on device; trying again\n"


def test_an_output_that_breaks_says_so_and_the_drive_goes_on() -> None:
    class Full(ListSink):
        def write(self, step: Step) -> None:
            raise OutputError("disk: No space left on device")

    full = Full()
    background = Background(full, keep="all")
    background.write(step())
    background.close()
    assert background.failure == "disk: No space left on device"
    assert full.closed
    background.write(step())


@pytest.mark.parametrize("keep", ["newest", "all"])
def test_after_closing_a_slow_sink_is_left_alone(keep: str) -> None:
    slow = Blocked()
    background = Background(slow, keep=keep, depth=8, close_s=0.05)  # type: ignore[arg-type]
    background.write(step(at=0))
    assert slow.busy.wait(HELD_S)
    for i in range(1, 4):
        background.write(step(at=i))
    timer = threading.Timer(0.5, slow.release.set)
    timer.start()
    background.close()
    assert slow.closed and [s.frame.id for s in slow.steps if s.frame] == [0], "the step it was at, and no other"
    assert background.dropped == 3 and background.failure is None
    background.write(step(at=4))
    timer.join()
    assert len(slow.steps) == 1


def test_a_sink_that_hangs_for_ever_is_told() -> None:
    stuck = Blocked()
    background = Background(stuck, keep="all", close_s=0.05, hung_s=0.05)
    for i in range(3):
        background.write(step(at=i))
    assert stuck.busy.wait(HELD_S)
    background.close()
    assert background.failure == "Blocked: its last step did not end within 0.05 s"
    stuck.release.set()
    background._thread.join(HELD_S)
    assert len(stuck.steps) == 1 and background.dropped == 2


@pytest.mark.parametrize("where", ["write", "close"])
def test_whatever_a_sink_raises_is_one_line(where: str) -> None:
    class Odd(ListSink):
        def write(self, step: Step) -> None:
            if where == "write":
                cv2.imencode(".jpg", np.zeros((0, 0, 3), np.uint8))

        def close(self) -> None:
            super().close()
            if where == "close":
                raise KeyError("x")

    odd = Odd()
    background = Background(odd, keep="all")
    background.write(step())
    background.close()
    assert background.failure is not None and "\n" not in background.failure
    assert background.failure.startswith("Odd: error: OpenCV" if where == "write" else "Odd: KeyError: 'x'")
    assert odd.closed


# --- recording --------------------------------------------------------------------------------------------------------


def test_what_was_recorded_is_a_drive_that_reads_back(tmp_path: Path) -> None:
    control = Control(recording=True)
    recorder = TubRecorder(tmp_path / "tub", control, full_scale_deg=20.0, model="swift")
    for i in range(1005):
        control.recording = not 300 <= i < 310
        recorder.write(step(0.001 * (i % 100), at=i))
    recorder.write(step(image=False))
    recorder.close()
    assert recorder.count == 995
    with open_source(str(tmp_path / "tub")) as source:
        frames = list(source)
    assert len(frames) == 995 and not source.lost
    assert [f.labels["steering"] for f in frames[:3]] == pytest.approx([0.0, 0.001, 0.002])
    assert source.info.rate_hz == pytest.approx(20, rel=0.05)
    sessions = {json.loads(line)["_session_id"] for p in (tmp_path / "tub").glob("*.catalog") for line in p.open()}
    assert len(sessions) == 2, "a pause begins a new session"


RECORD_AND_DIE = """
import sys, os, signal
sys.path[:0] = sys.argv[2:]
from test_outputs import step, TubRecorder, Control
from pathlib import Path
recorder = TubRecorder(Path(sys.argv[1]), Control(recording=True), full_scale_deg=25.0, model="swift")
for i in range(37):
    recorder.write(step(0.01 * i, at=i))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_nothing_that_was_recorded(tmp_path: Path) -> None:
    words = [sys.executable, "-c", RECORD_AND_DIE, str(tmp_path / "tub"), str(Path(__file__).parent), str(TESTS)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    with open_source(str(tmp_path / "tub")) as source:
        frames = list(source)
    assert [f.labels["steering"] for f in frames] == pytest.approx([0.01 * i for i in range(37)])
    assert not source.lost


def test_a_full_disk_ends_the_recording_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    recorder = TubRecorder(tmp_path / "tub", Control(recording=True), full_scale_deg=25.0, model="swift")
    for i in range(50):
        recorder.write(step(at=i))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1000))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match="recording stopped after 50 frames: less than 64 MiB"):
        recorder.write(step(at=50))
    recorder.close()
    with open_source(str(tmp_path / "tub")) as source:
        assert len(list(source)) == 50


# --- mqtt -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> int:
    """A port at which nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until_warned(capsys: pytest.CaptureFixture[str], words: str) -> str:
    said, end = "", time.monotonic() + 60
    while words not in said:
        assert time.monotonic() < end, f"it never said {words!r}: {said!r}"
        time.sleep(0.005)
        said += capsys.readouterr().err
    return said


def closed(sink: Sink) -> str:
    """What is told at the end about an output in the background."""
    assert isinstance(sink, Background)
    sink.close()
    return sink.failure or ""


def test_a_broker_that_is_not_there_keeps_nobody_from_driving(nobody: int, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("paho.mqtt.client")
    sink = open_output(f"mqtt://127.0.0.1:{nobody}/car/steering", 0.0)
    sink.write(step())
    where = f"mqtt://127.0.0.1:{nobody}"
    said = until_warned(capsys, "trying again\n")
    assert said == f"warning: {where}: cannot be connected: [Errno 111] Connection refused; trying again\n"
    assert closed(sink) == f"{where}: 1 steps were not sent: cannot be connected: [Errno 111] Connection refused"


def test_a_broker_of_an_unknown_host_is_one_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("paho.mqtt.client")

    def unknown(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    sink = open_output("mqtt://no.such.host.invalid/car/steering", 0.0)
    until_warned(capsys, "warning: mqtt://no.such.host.invalid:1883: cannot be connected: ")
    sink.close()


def test_a_broker_that_never_answers_is_told_at_the_end() -> None:
    """What it is given before it has answered must not pile up either."""
    pytest.importorskip("paho.mqtt.client")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        sink = open_output(f"mqtt://127.0.0.1:{mute.getsockname()[1]}/car/steering", 0.0)
        connection, _ = mute.accept()
        sink.write(step())
        assert "1 steps were not sent: no answer" in closed(sink)
        connection.close()


class Broker:
    """Answers one client as a broker does, and keeps what it said. With `context` over TLS."""

    def __init__(self, *, answer: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.received: list[bytes] = []
        self._answer, self._context = answer, context

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join(60)
        self._server.close()

    def until_told(self, words: bytes) -> None:
        end = time.monotonic() + 60
        while words not in b"".join(self.received):
            assert time.monotonic() < end, f"it never heard {words!r}"
            time.sleep(0.005)

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        # The client hangs up in a handshake, or in the middle of whatever it says.
        with contextlib.suppress(OSError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            connection.settimeout(60)
            self.received.append(connection.recv(4096))
            connection.sendall(bytes([0x20, 2, 0, self._answer]))  # CONNACK
            while data := connection.recv(4096):
                self.received.append(data)
        connection.close()


def until_connected(sink: Sink) -> None:
    assert isinstance(sink, Background) and isinstance(sink._sink, MqttSink)
    end = time.monotonic() + 60
    while not sink._sink._client.is_connected():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_mqtt_announces_its_own_death_and_publishes_steps() -> None:
    pytest.importorskip("paho.mqtt.client")
    with Broker() as broker:
        sink = open_output(f"mqtt://me@127.0.0.1:{broker.port}/car/steering", 0.0)
        until_connected(sink)
        sink.write(step(0.5))
        broker.until_told(b'"steering": 0.5')
        sink.close()
    hello, rest = broker.received[0], b"".join(broker.received[1:])
    assert b"connection lost" in hello and b"car/steering" in hello, "the last will"
    nothing = b"\x00\x0ccar/steering\x00\x01"
    assert rest[0] == 0x33 and rest[2:].startswith(nothing), "first the last will of an earlier drive is taken back"


def test_a_broker_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Driving on would publish nothing, without a word."""
    pytest.importorskip("paho.mqtt.client")
    monkeypatch.setenv("SEPILOT_MQTT_PASSWORD", "wrong")
    with Broker(answer=5) as broker:
        sink = open_output(f"mqtt://me@127.0.0.1:{broker.port}/car/steering", 0.0)
        until_warned(capsys, "the broker refuses user me: Not authorized; trying again\n")
        sink.write(step())
        assert "1 steps were not sent: the broker refuses user me: Not authorized" in closed(sink)


def test_mqtt_over_tls_with_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("paho.mqtt.client")
    certificate = certificate_in(tmp_path / "broker.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SEPILOT_MQTT_PASSWORD", "geheim")
    with Broker(context=context) as broker:
        sink = open_output(f"mqtts://me@127.0.0.1:{broker.port}/car/steering?ca={certificate}", 0.0)
        until_connected(sink)
        sink.write(step(-0.25))
        broker.until_told(b'"steering": -0.25')
        sink.close()
    assert broker.received[0].endswith(b"\x00\x02me\x00\x06geheim")


def test_a_broker_with_a_strangers_certificate_gets_no_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("paho.mqtt.client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_in(tmp_path / "broker.pem"))
    trusted = certificate_in(tmp_path / "other.pem")
    with Broker(context=context) as broker:
        sink = open_output(f"mqtts://me@127.0.0.1:{broker.port}/car/steering?ca={trusted}", 0.0)
        until_warned(capsys, "certificate verify failed")
        sink.close()
    assert broker.received == []
    with pytest.raises(UsageError, match="ca: /nowhere: "):
        open_output("mqtts://127.0.0.1/car/steering?ca=/nowhere", 0.0)


def certificate_in(path: Path) -> Path:
    """A new key and its own certificate for 127.0.0.1, both in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, path.stem)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(plain + made.public_bytes(serialization.Encoding.PEM))
    return path
