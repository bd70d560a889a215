"""The requests that the page makes. Every answer is the newest there is; nothing is ever queued for anybody.

GET  /                      the page; it holds nothing secret
GET  /static/NAME           its parts
GET  /about                 model card, and what this drive can do
GET  /live?count=&bucket=   the drive now; waits up to `HOLD_S` for a step after `count`
GET  /picture?after=        the newest frame as JPEG; waits up to `HOLD_S` for one after `after`
POST /control/ACTION        stop, start, record, pause; `check` only tries the token

A token travels in the header `Authorization: Bearer …`, which no foreign page can make a browser send.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sepilot_runtime.web.address import WebAddress
from sepilot_runtime.web.feed import WebSink
from sepilot_runtime.web.pictures import Pictures, Shot
from sepilot_runtime.web.status import Status, Watched

__all__ = ["STOP_REASON", "make_app"]

STOP_REASON = "emergency stop on the page"
HOLD_S = 0.3
LOOK_EVERY_S = 0.015
WRONG_TOKEN_WAIT_S = 0.5
MOST_AT_ONCE = 48
"""Requests that may wait for something new; more are sent away. Control is never among them."""

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_app(
    sink: WebSink, watched: Watched, address: WebAddress, clock_ns: Callable[[], int] = time.monotonic_ns
) -> ASGIApp:
    """The application for one drive."""
    page = _Page(sink, watched, address, clock_ns)
    routes = [
        Route("/", page.index),
        Route("/static/{name}", page.static),
        Route("/about", page.about),
        Route("/live", page.live),
        Route("/picture", page.picture),
        Route("/control/{action}", page.control, methods=["POST"]),
    ]
    return _Headers(Starlette(routes=routes))


class _Headers:
    """Adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Page:
    def __init__(self, sink: WebSink, watched: Watched, address: WebAddress, clock_ns: Callable[[], int]) -> None:
        self._sink, self._watched, self._address, self._clock_ns = sink, watched, address, clock_ns
        self._status = Status(sink, watched, clock_ns)
        self._pictures = Pictures(sink, clock_ns)
        self._files = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in TYPES}
        self._waiting = 0

    async def index(self, request: Request) -> Response:
        self._require_own_name(request)
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    async def about(self, request: Request) -> Response:
        await self._require_viewer(request)
        return JSONResponse(self._status.about() | {"control": self._address.token is not None})

    async def live(self, request: Request) -> Response:
        await self._require_viewer(request)
        count, bucket = _number(request, "count"), _number(request, "bucket")
        start_ns = self._clock_ns()
        await self._wait(lambda: self._sink.records.count != count)
        waited_ms = (self._clock_ns() - start_ns) / 1e6
        return JSONResponse(self._status.now(bucket) | {"waited_ms": round(waited_ms, 1)})

    async def picture(self, request: Request) -> Response:
        await self._require_viewer(request)
        after = _number(request, "after")

        def newer() -> Shot | None:
            shot = self._pictures.newest()
            return shot if shot is not None and shot.number != after and shot.jpeg is not None else None

        shot = await self._wait(newer)
        if shot is None:
            return Response(status_code=204)
        about = json.dumps(_about_shot(shot, self._clock_ns()))
        return Response(shot.jpeg, media_type="image/jpeg", headers={"X-Shot": about})

    async def control(self, request: Request) -> Response:
        await self._require_token(request)
        control, action = self._watched.control, request.path_params["action"]
        if action in ("stop", "start") and not self._watched.supervised:
            raise HTTPException(409, "a recording that is gone through frame by frame cannot be stopped")
        if action in ("record", "pause") and not self._watched.recorder:
            raise HTTPException(409, "the drive was started without --record")
        if action == "stop":
            control.stop(STOP_REASON)
        elif action == "start":
            control.start()
        elif action in ("record", "pause"):
            control.recording = action == "record"
        elif action != "check":
            raise HTTPException(404, "unknown action")
        return JSONResponse({"stopping": control.stopped, "recording": control.recording})

    def _file(self, name: str) -> Response:
        if name not in self._files:
            raise HTTPException(404, "no such file")
        return Response(self._files[name], media_type=TYPES[Path(name).suffix])

    async def _wait(self, look: Callable[[], Any]) -> Any:
        """What `look` gives as soon as that is something, or None after `HOLD_S`."""
        if self._waiting >= MOST_AT_ONCE:
            raise HTTPException(503, "too many look at this drive")
        self._waiting += 1
        try:
            end_ns = self._clock_ns() + round(HOLD_S * 1e9)
            while not (found := look()) and not self._sink.closed and self._clock_ns() < end_ns:
                await asyncio.sleep(LOOK_EVERY_S)
            return found or None
        finally:
            self._waiting -= 1

    async def _require_viewer(self, request: Request) -> None:
        self._require_own_name(request)
        if not self._address.loopback:
            await self._require_token(request)

    async def _require_token(self, request: Request) -> None:
        expected = self._address.token
        if expected is None:
            raise HTTPException(403, "this page is only read: the drive was started without a token")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), expected.encode()):
            return
        if given:
            # Guessing takes its time.
            await asyncio.sleep(WRONG_TOKEN_WAIT_S)
        raise HTTPException(401, "wrong token" if given else "a token is needed", {"WWW-Authenticate": "Bearer"})

    def _require_own_name(self, request: Request) -> None:
        """A foreign page that has its own name point to this machine must not read what needs no token."""
        name = request.url.hostname or ""
        if self._address.loopback and name not in ("localhost", "127.0.0.1", "::1", self._address.host):
            raise HTTPException(403, "open the page as localhost")


def _about_shot(shot: Shot, now_ns: int) -> dict[str, Any]:
    step = shot.step
    assert step.frame is not None
    return {
        "number": shot.number,
        "id": step.frame.id,
        "time_s": round(step.frame.time_s, 2),
        "age_ms": round((now_ns - step.frame.arrived_ns) / 1e6, 1),
        "deg": round(step.prediction.steering_deg, 2) if step.prediction else None,
        "recorded": step.frame.label,
        "steers": step.state.steers,
    }


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 18):
        raise HTTPException(400, f"{name}: a whole number expected")
    return int(text)
