"""The web page of a drive as a person sees it, in headless Chromium."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromium import Chromium, chromium_path
from fakes import ConstantEngine
from model_factory import classes_contract
from sepilot_runtime.drive.actuation import Actuation, Actuator
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.output.web.drive import STOP_REASON
from sepilot_runtime.source.protocol import Frame
from web_site import IMAGE, TOKEN, Serve, Site, serving_pages, step_of


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving_pages() as start:
        yield start


class Feeder:
    """Drives on paper: a step 30 times a second, as a loop under the same control would give it."""

    def __init__(self, site: Site) -> None:
        self.state, self.reason, self.silent = State.DRIVING, "", False
        self._site, self._ending = site, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            if self._ending.wait(1 / 30):
                return
            stopped = self._site.control.stopped
            state, reason = (State.STOPPED, stopped) if stopped else (self.state, self.reason)
            if not self.silent:
                steering = 0.36 if state.answers else 0.0
                self._site.page.sink.write(step_of(number, steering, state=state, reason=reason, throttle=0.25))


def link_is(name: str) -> str:
    return f"document.body.dataset.link == {name!r}"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium or Chrome here")
    with Chromium(path, tmp_path / "profile", width=390, height=844) as chromium:
        yield chromium


@pytest.mark.slow
def test_a_person_sees_and_stops(serve: Serve, browser: Chromium) -> None:
    site = serve()
    feeder = Feeder(site)
    try:
        browser.open(site.page.url)
        browser.wait(link_is("live"))
        assert (browser.text("#state"), browser.text("#angle")) == ("driving", "9.0° right")
        assert "to the car +0.36" in browser.text("#servo")
        assert "ramp" in browser.text("#title") and "synthetic" in browser.text("#card")
        browser.wait("document.getElementById('picture-note').textContent == ''")
        assert browser.text("#further") == "model: throttle 0.31"
        middle = "[...document.getElementById('picture').getContext('2d').getImageData(160, 20, 1, 1).data]"
        assert sum(browser.evaluate(middle)[:3]) > 0

        feeder.state, feeder.reason = State.NEUTRAL, "the picture is frozen"
        browser.wait("document.getElementById('state').textContent == 'neutral'")
        assert browser.text("#reason") == "the picture is frozen"
        feeder.state, feeder.reason = State.DRIVING, ""

        locked(site, browser)
        emergency(site, browser)
        silence(feeder, browser)
        assert browser.errors == []
    finally:
        feeder.close()


@pytest.mark.slow
def test_a_model_that_does_not_steer_shows_words_and_no_wheel(serve: Serve, browser: Chromium) -> None:
    engine = ConstantEngine(classes_contract())
    engine.answers["class"][:] = (0.0, 3.0)
    pilot, actuator = Pilot(engine), Actuator(Actuation(), obeyed=False)
    site = serve(pilot=pilot, supervised=False, recorder=False)
    site.page.sink.write(shown_step(pilot, actuator))
    browser.open(site.page.url)
    browser.wait(link_is("live"))
    browser.wait("document.getElementById('angle').textContent == 'right 95%'")
    assert (browser.text("#state"), browser.text("#servo")) == ("running", "recorded: left")
    assert browser.evaluate("document.getElementById('servo').classList.contains('wrong')")
    shown = "getComputedStyle(document.querySelector({!r})).display"
    for gone in ("#wheel", ".car", "footer"):
        assert browser.evaluate(shown.format(gone)) == "none", gone
    assert browser.evaluate("document.getElementById('stop').hidden && document.getElementById('gate').hidden")
    assert browser.text("#chart-name") == "How sure of class" and "left, right" in browser.text("#card")
    assert browser.errors == []


def shown_step(pilot: Pilot, actuator: Actuator) -> Step:
    now_ns = time.monotonic_ns()
    frame = Frame(
        id=0, time_s=0.0, image=IMAGE, arrived_ns=now_ns, labels={"class": 0.0}, label_names={"class": ["left"]}
    )
    return actuator.step(frame, pilot.predict(IMAGE), now_ns, now_ns)


def locked(site: Site, browser: Chromium) -> None:
    """Without the token the stop is visibly locked; a wrong one does not open it; the right one does."""
    assert browser.evaluate("document.getElementById('stop').disabled")
    browser.press(" ", "Space")
    browser.evaluate("document.getElementById('token').value = 'wrong-horse-battery'")
    browser.click("#gate button")
    browser.wait("document.getElementById('gate-words').textContent.startsWith('Wrong token')")
    assert browser.evaluate("document.getElementById('stop').disabled") and site.control.stopped is None
    browser.evaluate(f"document.getElementById('token').value = {TOKEN!r}")
    browser.click("#gate button")
    browser.wait("!document.getElementById('stop').disabled")
    assert TOKEN not in str(browser.evaluate("location.href + document.cookie"))


def emergency(site: Site, browser: Chromium) -> None:
    """The button is on a phone's screen without scrolling, and stops; so does the space bar; starting asks twice."""
    box = browser.evaluate(
        "(() => { const b = document.getElementById('stop').getBoundingClientRect();"
        " return [b.left, b.top, b.right, b.bottom]; })()"
    )
    assert box[0] >= 0 and box[2] <= 390 and box[1] > 0 and box[3] <= 844 and box[3] - box[1] >= 60
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.click("#stop")
    browser.wait("document.body.dataset.state == 'stopped'")
    assert site.control.stopped == STOP_REASON and browser.text("#reason") == STOP_REASON
    browser.click("#start")
    time.sleep(0.2)
    assert site.control.stopped == STOP_REASON
    browser.click("#start")
    browser.wait("document.body.dataset.state == 'driving'")
    assert site.control.stopped is None
    # The button that was clicked has the focus: the space bar must not press it.
    browser.press(" ", "Space")
    browser.wait("document.body.dataset.state == 'stopped'")
    browser.press(" ", "Space")
    time.sleep(0.3)
    assert site.control.stopped == STOP_REASON
    site.control.start()
    browser.wait("document.body.dataset.state == 'driving'")


def silence(feeder: Feeder, browser: Chromium) -> None:
    """No connection and a drive that hangs are both said within two seconds, and old values are taken away."""
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=True, **conditions)
    assert browser.wait(link_is("lost")) < 2
    assert browser.text("#state") == "No connection" and browser.text("#angle") == "–"
    assert "ago" in browser.text("#picture-note")
    assert browser.text("#stop span") == "Emergency stop", "what is not known must not be claimed"
    browser.call("Network.emulateNetworkConditions", offline=False, **conditions)
    browser.wait(link_is("live"))
    feeder.silent = True
    assert browser.wait(link_is("silent")) < 2
    assert browser.text("#state") == "Drive silent" and browser.text("#age") == "–"
    feeder.silent = False
    browser.wait(link_is("live"))
