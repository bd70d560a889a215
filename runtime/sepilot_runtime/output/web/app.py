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
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sepilot_runtime.output.web.address import WebAddress
from sepilot_runtime.output.web.connections import Answer, Request
from sepilot_runtime.output.web.feed import Feed
from sepilot_runtime.output.web.guesses import Guesses
from sepilot_runtime.output.web.link import Link, Silent
from sepilot_runtime.output.web.news import News
from sepilot_runtime.output.web.status import Status

__all__ = ["App"]

HOLD_S = 0.3
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
NONE: Mapping[str, str] = MappingProxyType({})
BEARER = {"WWW-Authenticate": "Bearer"}
ACTIONS = ("stop", "start", "record", "pause", "check")


class _Refused(Exception):
    """The request is answered with a status and a few words."""

    def __init__(
        self, status: int, words: str, headers: Mapping[str, str] | None = None, *, last: bool = False
    ) -> None:
        super().__init__(words)
        self.answer = Answer(status=status, body=words.encode(), headers=headers or {}, last=last)


class App:
    """Answers the requests for one drive."""

    def __init__(
        self, feed: Feed, link: Link, news: News, address: WebAddress, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._feed, self._link, self._news, self._address, self._clock_ns = feed, link, news, address, clock_ns
        self._status = Status(feed, link, clock_ns)
        self._guesses = Guesses()
        self._files = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in TYPES}
        # One request for both; reports take the palette alone.
        self._files["style.css"] = self._files.pop("palette.css") + self._files["style.css"]

    def trusts(self, authorization: bytes) -> bool:
        """Is it the token? Takes as long for every wrong one of its length."""
        scheme, _, given = authorization.partition(b" ")
        expected = self._address.token
        return expected is not None and scheme.lower() == b"bearer" and hmac.compare_digest(given, expected.encode())

    async def answer(self, request: Request) -> Answer:
        """Never raises what a request could bring about."""
        try:
            answer = await self._answer(request)
        except _Refused as e:
            answer = e.answer
        return Answer(
            status=answer.status, body=answer.body, media_type=answer.media_type, headers={**HEADERS, **answer.headers},
            last=answer.last,
        )  # fmt: skip

    async def _answer(self, request: Request) -> Answer:
        first, _, rest = request.path.removeprefix("/").partition("/")
        if first == "control":
            _require_method(request, "POST")
            return await self._control(request, rest)
        found = {"live": self._live, "picture": self._picture, "about": self._about}.get(first)
        if not request.path.startswith("/") or (rest and first != "static"):
            raise _Refused(404, "no such page")
        if found is None and first not in ("", "static"):
            raise _Refused(404, "no such page")
        _require_method(request, "GET")
        if found is None:
            if not rest:
                self._require_own_name(request)
            return self._file(rest or "index.html")
        await self._require_viewer(request)
        return await found(request)

    async def _about(self, request: Request) -> Answer:
        await self._link.refresh()
        if not self._link.about:
            raise _Refused(503, "the drive does not answer")
        return _json(self._status.about() | {"control": self._address.token is not None})

    async def _live(self, request: Request) -> Answer:
        count, bucket = _number(request, "count"), _number(request, "bucket")
        start_ns = self._clock_ns()
        await self._link.refresh()
        await self._news.step_after(count, HOLD_S)
        waited_ms = (self._clock_ns() - start_ns) / 1e6
        return _json(self._status.now(bucket) | {"waited_ms": round(waited_ms, 1)})

    async def _picture(self, request: Request) -> Answer:
        shot = await self._news.shot_after(_number(request, "after"), HOLD_S)
        if shot is None or shot.jpeg is None:
            return Answer(status=204)
        age_ms = round((self._clock_ns() - shot.arrived_ns) / 1e6, 1)
        about = {**shot.about, "age_ms": age_ms}
        return Answer(status=200, body=shot.jpeg, media_type="image/jpeg", headers={"X-Shot": json.dumps(about)})

    async def _control(self, request: Request, action: str) -> Answer:
        await self._require_token(request)
        if action not in ACTIONS:
            raise _Refused(404, "unknown action")
        about = self._link.about
        if action in ("stop", "start") and not about["supervised"]:
            raise _Refused(409, "a recording that is gone through frame by frame cannot be stopped")
        if action in ("record", "pause") and not about["recorder"]:
            raise _Refused(409, "the drive was started without --record")
        try:
            self._link.facts = facts = await self._link.ask(action)
        except Silent:
            raise _Refused(503, "the drive does not answer") from None
        return _json({"stopping": facts["stopping"], "recording": facts["recording"]})

    def _file(self, name: str) -> Answer:
        if name not in self._files:
            raise _Refused(404, "no such file")
        return Answer(status=200, body=self._files[name], media_type=TYPES[Path(name).suffix])

    async def _require_viewer(self, request: Request) -> None:
        self._require_own_name(request)
        if not self._address.loopback:
            await self._require_token(request)

    async def _require_token(self, request: Request) -> None:
        if self._address.token is None:
            raise _Refused(403, "this page is only read: the drive was started without a token")
        if request.token:
            return
        if request.token is None:
            raise _Refused(401, "a token is needed", BEARER)
        # Who does not wait for the answer learns nothing but that it was wrong, and needs a new connection.
        await asyncio.sleep(self._guesses.wrong(request.address))
        raise _Refused(401, "wrong token", BEARER, last=True)

    def _require_own_name(self, request: Request) -> None:
        """A foreign page that has its own name point to this machine must not read what needs no token."""
        try:
            name = urllib.parse.urlsplit(f"//{request.headers.get('host', '')}").hostname
        except ValueError:
            name = None
        if self._address.loopback and name not in ("localhost", "127.0.0.1", "::1", self._address.host):
            raise _Refused(403, "open the page as localhost")


def _require_method(request: Request, method: str) -> None:
    if request.method != method:
        raise _Refused(405, f"{method} expected", {"Allow": method})


def _json(values: dict[str, Any]) -> Answer:
    body = json.dumps(values, separators=(",", ":")).encode()
    return Answer(status=200, body=body, media_type="application/json")


def _number(request: Request, name: str) -> int:
    text = urllib.parse.parse_qs(request.query).get(name, ["0"])[0]
    if not (text.isascii() and text.isdecimal() and len(text) < 18):
        raise _Refused(400, f"{name}: a whole number expected")
    return int(text)
