"""Who may look at the web page of a drive, and who may control it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.output.web.address import web_address
from sepilot_runtime.output.web.drive import STOP_REASON
from sepilot_runtime.output.web.guesses import Guesses
from web_site import BEARER, TOKEN, Serve, serving_pages, step_of


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving_pages() as start:
        yield start


def test_control_obeys_the_right_token_alone(serve: Serve) -> None:
    site = serve()
    assert site.post("stop") == 401
    assert site.post("stop", Authorization="Bearer wrong-horse-battery") == 401
    assert site.post("stop", Authorization=TOKEN) == 401
    assert site.ask("GET", "/control/stop", **BEARER)[0] == 405
    assert site.post(f"stop?token={TOKEN}") == 401
    assert site.control.stopped is None
    assert site.post("check", **BEARER) == 200 and site.control.stopped is None
    assert site.post("stop", **BEARER) == 200 and site.control.stopped == STOP_REASON
    assert site.post("start") == 401 and site.control.stopped == STOP_REASON
    assert site.post("start", **BEARER) == 200 and site.control.stopped is None
    assert site.post("record", **BEARER) == 200 and site.control.recording
    assert site.get("/live")["recording"]
    assert site.post("pause", **BEARER) == 200 and not site.control.recording
    assert site.post("explode", **BEARER) == 404


def test_guessing_takes_time_and_the_owner_none(serve: Serve) -> None:
    site = serve()
    results: list[int] = []
    start = time.monotonic()
    guessers = [
        threading.Thread(target=lambda: results.append(site.post("check", Authorization="Bearer wrong-horse-battery")))
        for _ in range(2)
    ]
    for thread in guessers:
        thread.start()
    assert site.post("check", **BEARER) == 200
    owner_s = time.monotonic() - start
    for thread in guessers:
        thread.join()
    # One after the other, however many come at once, and the second waits twice as long.
    assert time.monotonic() - start >= 1.5 and results == [401, 401]
    assert owner_s < 0.5


def test_many_guesses_wait_ever_longer_by_address_and_over_all() -> None:
    now_s = 0.0
    guesses = Guesses(lambda: now_s)
    assert [guesses.wrong("10.0.0.1") for _ in range(4)] == [0.5, 1.5, 3.5, 7.5]
    # Others wait as well, but less.
    assert 0.5 < guesses.wrong("10.0.0.2") < 2
    for _ in range(1000):
        longest_s = guesses.wrong("10.0.0.1")
    assert longest_s == 600
    # A network of IPv6 counts as one; addresses that many come from count together.
    first_s, second_s = guesses.wrong("2001:db8::1"), guesses.wrong("2001:db8::2")
    assert 2 < first_s <= second_s <= 10
    assert all(guesses.wrong(f"10.1.{n // 250}.{n % 250}") >= 9 for n in range(1000))
    now_s = 86400.0
    assert guesses.wrong("10.0.0.1") < 2, "it is forgiven"


def test_without_a_token_it_is_only_read(serve: Serve) -> None:
    site = serve(token=None)
    assert not site.get("/about")["control"]
    assert site.post("stop", **BEARER) == 403 and site.control.stopped is None


def test_what_the_drive_cannot_do_is_refused(serve: Serve) -> None:
    site = serve(supervised=False, recorder=False)
    assert site.post("stop", **BEARER) == 409 and site.post("record", **BEARER) == 409
    assert site.control.stopped is None and not site.control.recording


def test_over_the_network_looking_needs_the_token_too(serve: Serve) -> None:
    site = serve(network=True)
    site.page.sink.write(step_of(0))
    for path in ("/about", "/live", "/picture"):
        assert site.ask("GET", path)[0] == 401
        assert site.ask("GET", path, **BEARER)[0] == 200
    assert site.ask("GET", "/live", Authorization="Bearer wrong-horse-battery")[0] == 401
    # The page itself says nothing about the drive, and asks for the token.
    assert site.ask("GET", "/")[0] == 200


def test_a_foreign_name_for_this_machine_sees_nothing(serve: Serve) -> None:
    site = serve()
    for path in ("/", "/about", "/live", "/picture"):
        assert site.ask("GET", path, Host=f"evil.example:{site.port}")[0] == 403
    assert site.ask("GET", "/about", Host=f"localhost:{site.port}")[0] == 200


def test_nothing_comes_from_elsewhere(serve: Serve) -> None:
    site = serve()
    _, answer, body = site.ask("GET", "/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert "http" not in policy and answer.headers["X-Content-Type-Options"] == "nosniff"
    parts = [name.split('"')[0] for name in body.decode().split("static/")[1:]]
    assert {"app.js", "style.css"} <= set(parts)
    for name in (*parts, "link.js", "controls.js", "charts.js", "road.js", "words.js"):
        status, _, text = site.ask("GET", f"/static/{name}")
        assert status == 200
        assert b"://" not in text.replace(b"http://www.w3.org/2000/svg", b"")
    for path in ("/static/..%2fapp.py", "/static/../app.py", "/static/app.py", "/openapi.json"):
        assert site.ask("GET", path)[0] == 404
    assert site.ask("GET", "/live?count=-1")[0] == 400


@pytest.mark.parametrize(
    ("text", "token", "host", "port", "loopback"),
    [
        ("127.0.0.1:8887", None, "127.0.0.1", 8887, True),
        ("9000", None, "127.0.0.1", 9000, True),
        ("[::1]:81", None, "::1", 81, True),
        ("0.0.0.0", TOKEN, "0.0.0.0", 8887, False),
        ("192.168.7.1:80", TOKEN, "192.168.7.1", 80, False),
    ],
)
def test_addresses(text: str, token: str | None, host: str, port: int, loopback: bool) -> None:
    found = web_address(text, token)
    assert (found.host, found.port, found.loopback) == (host, port, loopback)


@pytest.mark.parametrize(
    ("text", "token", "words"),
    [
        ("0.0.0.0:8887", None, "reachable from the network, so a token is needed"),
        ("[::]:8887", None, "reachable from the network"),
        ("127.0.0.1:99999", None, "HOST:PORT expected"),
        (":8887", None, "HOST:PORT expected"),
        ("127.0.0.1:80/x", None, "HOST:PORT expected"),
        ("no.such.host.invalid", None, "no such address"),
        ("127.0.0.1", "short", "at least 12"),
        ("127.0.0.1", "sixteen chars ñ", "ASCII"),
    ],
)
def test_wrong_addresses_and_tokens(text: str, token: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        web_address(text, token)


def test_the_environment_gives_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPILOT_WEB_TOKEN", TOKEN)
    assert web_address("0.0.0.0", None).token == TOKEN
    assert web_address("0.0.0.0", "another-long-token").token == "another-long-token"
