"""The page's process: the stop gets through it whatever comes, it ends with the drive, and the drive never with it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import ConstantEngine
from model_factory import contract_of
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.output.web import page
from sepilot_runtime.output.web.address import web_address
from sepilot_runtime.output.web.drive import STOP_REASON, Watched
from sepilot_runtime.output.web.page import WebPage
from web_site import BEARER, TOKEN, Serve, Site, serving_pages, stall, step_of


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving_pages() as start:
        yield start


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
    end_s = time.monotonic() + 60
    with pytest.raises(ConnectionRefusedError):
        while time.monotonic() < end_s:
            socket.create_connection(("127.0.0.1", port)).close()
            time.sleep(0.05)


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
