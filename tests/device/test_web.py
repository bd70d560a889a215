"""The web page of a drive says what the steps say, holds nothing up, and is gone when the drive is."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model_factory import contract_of
from sepilot_runtime import cli
from sepilot_runtime.engines import ConstantEngine
from sepilot_runtime.errors import OutputError
from sepilot_runtime.pilot import Pilot, load_pilot
from sepilot_runtime.sinks import Background, Step
from sepilot_runtime.states import Control, State
from sepilot_runtime.web import feed, page
from sepilot_runtime.web.address import web_address
from sepilot_runtime.web.drive import STOP_REASON, Watched
from sepilot_runtime.web.feed import Feed, WebSink
from sepilot_runtime.web.page import WebPage
from web_site import BEARER, IMAGE, TOKEN, Serve, Site, serving_pages, step_of


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving_pages() as start:
        yield start


def test_the_page_says_what_the_steps_say(serve: Serve) -> None:
    site = serve()
    assert site.get("/live")["state"] == "waiting"
    for number in range(30):
        site.page.sink.write(step_of(number, steering=number / 100, late=number == 20))
    site.lost["dropped"] = 4
    found = site.get("/live")
    assert (found["state"], found["reason"], found["frames"], found["late"]) == ("driving", "", 30, 1)
    assert (found["steering"], found["throttle"], found["model_deg"]) == (0.29, 0.25, 7.25)
    assert found["ages_ms"]["p50"] == 3.0 and found["total_us"]["p99"] == 80.0
    assert found["lost"] == {"dropped": 4}
    assert found["samples"][-1][1:4] == [0.29, 0.29, -0.1]
    assert sum(row[6] for row in found["samples"]) == 1

    site.page.sink.write(step_of(30, 0.0, None, state=State.NEUTRAL, reason="no frame", throttle=0.0))
    found = site.get(f"/live?count=30&bucket={found['bucket']}")
    assert (found["state"], found["reason"], found["age_ms"], found["model_deg"]) == ("neutral", "no frame", None, None)
    assert [change[2:] for change in found["changes"]] == [["neutral", "no frame"], ["driving", ""]]


def test_it_waits_for_news_but_not_long(serve: Serve) -> None:
    site = serve()
    site.page.sink.write(step_of(0))
    start = time.monotonic()
    assert site.get("/live?count=1")["waited_ms"] > 200
    assert time.monotonic() - start < 30
    threading.Timer(0.05, site.page.sink.write, [step_of(1)]).start()
    assert site.get("/live?count=1")["count"] == 2


def test_an_output_that_fails_is_named(serve: Serve) -> None:
    class Full:
        def write(self, step: Step) -> None:
            raise OutputError("out.jsonl: No space left on device")

        def close(self) -> None:
            pass

    site = serve()
    background = Background(Full(), keep="all")
    site.outputs += [background, site.page.sink]
    background.write(step_of(0))
    background.close()
    assert site.get("/live")["outputs"] == [
        {"name": "Full", "failure": "out.jsonl: No space left on device", "dropped": 0}
    ]


@pytest.mark.parametrize("kind", ["colour", "luma", "large"])
def test_the_picture_is_the_newest_frame(kind: str, serve: Serve) -> None:
    site = serve()
    assert site.ask("GET", "/picture")[0] == 204
    image = {"colour": IMAGE, "luma": IMAGE[:, :, 0].copy(), "large": cv2.resize(IMAGE, (1280, 960))}[kind]
    site.page.sink.write(step_of(7, 0.2, np.zeros_like(image)))
    site.page.sink.write(step_of(8, 0.2, image, state=State.NEUTRAL, reason="black"))
    status, answer, body = site.ask("GET", "/picture?after=0")
    shot = json.loads(answer.headers["X-Shot"])
    assert status == 200 and (shot["id"], shot["number"], shot["deg"], shot["steers"]) == (8, 2, 5.0, False)
    assert 3 <= shot["age_ms"] < 2000
    seen = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    height, width = min(image.shape[0], 480), min(image.shape[1], 640)
    expected = cv2.resize(
        image if image.ndim == 3 else cv2.merge([image] * 3), (width, height), interpolation=cv2.INTER_AREA
    )
    assert seen.shape == expected.shape
    assert np.abs(cv2.blur(seen, (9, 9)).astype(int) - cv2.blur(expected, (9, 9))).mean() < 4
    assert site.ask("GET", "/picture?after=2")[0] == 204


def test_a_frame_that_is_no_picture_does_no_harm(serve: Serve) -> None:
    site = serve()
    site.page.sink.write(step_of(0, 0.0, np.zeros((8, 8, 5), np.uint8), state=State.NEUTRAL, reason="wrong shape"))
    assert site.ask("GET", "/picture")[0] == 204
    assert site.get("/live")["reason"] == "wrong shape"


def test_the_model_card_is_that_of_the_file(serve: Serve, files: dict[str, Path]) -> None:

    pilot = load_pilot(files["int8.tflite"])
    about = serve(pilot=pilot).get("/about")
    card = about["model"]
    assert (card["recipe"], card["precision"], card["engine"]) == ("ramp", "int8", "litert")
    assert card["sha256"] == hashlib.sha256(files["int8.tflite"].read_bytes()).hexdigest()
    assert (card["drives"], card["validation"]) == (["synthetic"], {"r2": 0.5})
    assert about["control"] and about["recorder"]


def test_another_model_shows_with_its_card(serve: Serve, files: dict[str, Path]) -> None:
    pilots = [load_pilot(files["int8.tflite"])]
    site = serve(driving=lambda: pilots[-1])
    first = site.get("/live")["model"]
    assert first == site.get("/about")["model"]["sha256"]
    pilots.append(load_pilot(files["float32.tflite"]))
    end = time.monotonic() + 30
    while (second := site.get("/live")["model"]) == first:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert second == hashlib.sha256(files["float32.tflite"].read_bytes()).hexdigest()
    card = site.get("/about")["model"]
    assert (card["sha256"], card["precision"]) == (second, "float32")


def test_the_feed_gives_every_step_and_never_a_torn_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RECORDS", 8)
    sink = WebSink()
    reader = Feed(sink.memory)
    assert not reader.catch_up() and reader.newest is None
    for number in range(1, 6):
        sink.write(step_of(number, number / 100, reason="é" * number))
    assert reader.catch_up() and [record.number for record in reader.records] == [1, 2, 3, 4, 5]
    found = reader.newest
    assert found is not None and (found.steering, found.reason, found.recorded) == (0.05, "é" * 5, -0.1)

    # A round and more ahead: the last ones are there, each once.
    for number in range(6, 31):
        sink.write(step_of(number, reason="x" * 300))
    assert reader.catch_up() and [record.number for record in reader.records] == list(range(23, 31))
    assert reader.newest is not None and 100 < len(reader.newest.reason) < 300
    # Whoever begins late has them as well.
    late = Feed(sink.memory)
    assert late.catch_up() and [record.number for record in late.records] == list(range(23, 31))

    sink.write(step_of(31))
    at = 31 % 8 * feed.SLOT + 20
    before = sink._shared[at]
    sink._shared[at] = before ^ 1
    assert not reader.catch_up(), "half written"
    sink._shared[at] = before
    assert reader.catch_up() and reader.count == 31
    sink.close()


def stall(port: int, requests: int) -> socket.socket:
    """A client that asks and asks, and takes nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(("127.0.0.1", port))
    client.sendall(b"GET /picture?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n" * requests)
    return client


def test_a_stalled_client_costs_the_drive_nothing(serve: Serve) -> None:
    site = serve()
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    site.page.sink.write(step_of(0, 0.1, image))
    clients = [stall(site.port, requests=100) for _ in range(3)]
    taken_us = []
    for number in range(1, 151):
        step = step_of(number, 0.1, image)
        start = time.perf_counter_ns()
        site.page.sink.write(step)
        taken_us.append((time.perf_counter_ns() - start) / 1000)
        if number == 50:
            assert site.post("stop", **BEARER) == 200, "the stop must get through"
        time.sleep(0.004)
    assert statistics.median(taken_us) < 100
    assert sorted(taken_us)[len(taken_us) * 9 // 10] < 1000
    for client in clients:
        client.close()


def test_it_keeps_no_frames_and_no_memory() -> None:
    import gc
    import weakref

    sink = WebSink()
    kept = []
    for number in range(50):
        step = step_of(number, 0.1, IMAGE.copy())
        assert step.frame is not None
        kept.append(weakref.ref(step.frame.image))
        sink.write(step)
    del step
    gc.collect()
    assert sum(image() is not None for image in kept) == 1
    sink.close()


def test_the_stop_gets_through_a_hostile_crowd(serve: Serve) -> None:
    """Those who only connect, those who stop in the middle of a header or a body, and those who come ever again."""
    site = serve()
    words = [
        b"",
        b"GET / HTTP/1.1\r\nHost: loc",
        b"POST /control/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nx",
    ]
    crowd, over = [], threading.Event()

    def come_again() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", site.port), 5) as client:
                client.sendall(words[1])

    reconnecting = [threading.Thread(target=come_again) for _ in range(2)]
    for thread in reconnecting:
        thread.start()
    try:
        # More than are let in at once: the first ones have to give way.
        for number in range(900):
            crowd.append(socket.create_connection(("127.0.0.1", site.port), 60))
            crowd[-1].sendall(words[number % len(words)])
        for _ in range(5):
            site.control.start()
            assert site.post("stop", **BEARER) == 200 and site.control.stopped == STOP_REASON
    finally:
        over.set()
        for thread in reconnecting:
            thread.join()
        for client in crowd:
            client.close()


def test_a_dead_page_is_started_again_and_the_drive_goes_on(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "AGAIN_AFTER_S", 0.05)
    started = []

    class Seen(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Seen)
    site = serve()
    site.page.sink.write(step_of(0, late=True))
    before = site.get("/live")
    started[0].kill()
    started[0].wait()
    site.page.sink.write(step_of(1))
    # The port is held all the time: who asks meanwhile is answered by the next one.
    after = site.get("/live")
    assert (after["frames"], after["late"], after["drive"]) == (2, 1, before["drive"])
    assert site.post("stop", **BEARER) == 200 and site.control.stopped == STOP_REASON
    assert len(started) == 2
    assert capsys.readouterr().err == "warning: the web page's process ended; it is started again\n"


def test_the_page_of_a_killed_drive_ends(files: dict[str, Path], images: Path) -> None:
    argv = ["drive", str(files["int8.tflite"]), "--source", str(images), "--as-camera", "--rate-hz", "2"]
    command = [sys.executable, "-m", "sepilot_runtime", *argv, "--web", "127.0.0.1:0"]
    drive = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert drive.stderr is not None
        line = next(line for line in drive.stderr if line.startswith("page at"))
        port = int(line.split("://")[1].split("/")[0].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as viewer:
            viewer.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert viewer.recv(15) == b"HTTP/1.1 200 OK"
            drive.kill()
            drive.wait()
            viewer.settimeout(60)
            with contextlib.suppress(ConnectionResetError):
                while viewer.recv(65536):
                    pass
    finally:
        drive.kill()
        drive.wait()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_token_stands_in_no_list_of_processes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.delenv("SEPILOT_WEB_TOKEN", raising=False)

    class Seen(subprocess.Popen[bytes]):
        def __init__(self, words: list[str], **options: Any) -> None:
            started.append([*words, *options["env"].values()])
            super().__init__(words, **options)

    monkeypatch.setattr(subprocess, "Popen", Seen)
    assert serve().post("check", **BEARER) == 200
    assert len(started) == 1 and not any(TOKEN in word for word in started[0])


def test_it_says_how_the_drive_ended_and_is_gone_within_a_second() -> None:
    served = WebPage(web_address("127.0.0.1:0", TOKEN))
    control = Control()
    pilot = Pilot(ConstantEngine(contract_of()))
    site = Site(served, control, {}, [])
    heard: list[Any] = []
    with served.serving(Watched(pilot=lambda: pilot, control=control, lost=dict)):
        served.sink.write(step_of(0))
        client = stall(site.port, requests=50)

        def look() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                while True:
                    heard.append(site.get(f"/live?count={heard[-1]['count'] if heard else 0}"))

        viewer = threading.Thread(target=look)
        viewer.start()
        time.sleep(0.4)
        served.sink.write(step_of(1, 0.0, None, state=State.STOPPED, reason="end of source"))
        start = time.monotonic()
    # By its own limits within a second, whatever a client takes or does not.
    assert time.monotonic() - start < 3
    viewer.join(60)
    assert heard[-1]["state"] == "stopped" and heard[-1]["ended"] == "end of source"
    client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", site.port))
    assert not [thread for thread in threading.enumerate() if thread.name == "web"]


def test_a_taken_port_is_one_line_before_anything_moves(
    files: dict[str, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        output = tmp_path / "moves.jsonl"
        argv = ["drive", str(files["int8.tflite"]), "--source", str(images), "--quiet", "--web", where]
        assert cli.main([*argv, "--to", f"jsonl:{output}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"--web {where}: cannot listen there" in error
    assert not output.exists()


def test_the_network_needs_a_token_says_the_command(
    files: dict[str, Path], images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEPILOT_WEB_TOKEN", raising=False)
    argv = ["drive", str(files["int8.tflite"]), "--source", str(images), "--quiet"]
    assert cli.main([*argv, "--web", "0.0.0.0:0"]) == 2
    assert "so a token is needed" in capsys.readouterr().err
    assert cli.main([*argv, "--web-token", TOKEN]) == 2
    assert "--web expected" in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(device: Any, files: dict[str, Path], images: Path) -> None:
    argv = ["drive", str(files["int8.tflite"]), "--source", str(images)]
    done = device.sepilot(*argv, "--web", blocked=("h11",))
    assert done.returncode == 2 and "pip install 'sepilot[web]'" in done.stderr
    assert device.sepilot(*argv, blocked=("h11",)).returncode == 0


def test_the_stop_reaches_a_drive(files: dict[str, Path], images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    argv = ["drive", str(files["int8.tflite"]), "--source", str(images), "--as-camera", "--rate-hz", "2"]
    command = [sys.executable, "-m", "sepilot_runtime", *argv, "--web", "127.0.0.1:0", "--output", str(output)]
    env = {**os.environ, "SEPILOT_WEB_TOKEN": TOKEN}
    drive = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert drive.stderr is not None
        line = next(line for line in drive.stderr if line.startswith("page at"))
        assert TOKEN not in line
        connection = http.client.HTTPConnection("127.0.0.1", int(line.rsplit(":", 1)[1].strip(" /\n")), timeout=60)
        connection.request("POST", "/control/stop", headers=BEARER)
        assert connection.getresponse().status == 200
        assert drive.wait(60) == 0
    finally:
        drive.kill()
        drive.wait()
    steps = [json.loads(line) for line in output.read_text().splitlines()]
    stopped = [step for step in steps if step["state"] == "stopped" and step["reason"] == STOP_REASON]
    assert stopped and all(step["throttle"] == 0 and step["steering"] == 0 for step in stopped)
