"""The web page of a drive says what the steps say, and holds nothing up."""

from __future__ import annotations

import hashlib
import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fakes import ConstantEngine
from model_factory import classes_contract, frames
from sepilot_runtime import cli
from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.drive.actuation import Actuation, Actuator
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.output.background import Background
from sepilot_runtime.output.web import feed
from sepilot_runtime.output.web.feed import Feed, WebSink
from sepilot_runtime.output.web.pictures import put_frame
from sepilot_runtime.source.protocol import Frame
from web_site import BEARER, IMAGE, TOKEN, Serve, serving_pages, stall, step_of


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


def test_a_model_that_does_not_steer_is_shown_in_words(serve: Serve) -> None:
    """No steering anywhere: the answer, how sure it is, what was recorded, and whether that is something else."""
    engine = ConstantEngine(classes_contract())
    engine.answers["class"][:] = (0.0, 3.0)
    pilot = Pilot(engine)
    site = serve(pilot=pilot, supervised=False)
    image = frames(1)[0]
    frame = Frame(id=0, time_s=0.0, image=image, arrived_ns=0, labels={"class": 0.0}, label_names={"class": ["left"]})
    step = Actuator(Actuation(), obeyed=False).step(frame, pilot.predict(image), 0, time.monotonic_ns())
    site.page.sink.write(step)
    card = site.get("/about")["model"]
    assert (card["steers"], card["full_scale_deg"]) == (False, None)
    assert card["reading"] == {"name": "class", "span": [0.0, 1.0]}
    status = site.get("/live")
    assert status["state"] == "running" and status["steering"] is None and status["throttle"] is None
    assert status["samples"][-1][2] == pytest.approx(0.953, abs=1e-3)
    shot = put_frame(site.page.sink.seen, site.page.sink.frame, pilot.contract.picture)
    assert shot["about"]["said"] == [["class", "right 95%", "left", True]] and shot["about"]["deg"] is None


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
