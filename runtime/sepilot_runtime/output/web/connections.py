"""One connection to the page: HTTP/1.1, a request at a time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import selectors
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

import h11

__all__ = ["Answer", "Connection", "Request"]

REQUEST_S = 3.0
"""For a whole request with its body, from the connection or from the last answer."""

KEPT_S = 30.0
"""The same for whoever has shown the token."""

STALLED_S = 4.0
"""Whoever takes nothing of an answer for so long is dropped."""

HEAD_BYTES, BODY_BYTES = 16384, 4096
AUTHORIZATION = re.compile(rb"\r\nauthorization:[ \t]*([\x21-\x7e]+ [\x21-\x7e]+)[ \t]*\r\n", re.IGNORECASE)
"""For the order of answers alone; what is obeyed is what h11 reads."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody asks.

    Attributes:
        token: whether the right one came with it; None where none came.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    address: str
    token: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered. With `last` the connection ends after it."""

    status: int
    body: bytes = b""
    media_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    last: bool = False


class Keeper(Protocol):
    """Who keeps the connections: see `Crowd`."""

    handler: Callable[[Request], Awaitable[Answer]]
    trusts: Callable[[bytes], bool]
    selector: selectors.BaseSelector

    def trust(self, connection: Connection) -> None: ...
    def have_patience(self, connection: Connection) -> None: ...
    def answered(self, connection: Connection) -> None: ...
    def forget(self, connection: Connection) -> None: ...


class Connection:
    """One connection: reads a request, has it answered, sends the answer, and reads on only then.

    Attributes:
        trusted: the right token came over it.
        deadline_s: when its time is over.
    """

    def __init__(self, crowd: Keeper, accepted: socket.socket, address: str) -> None:
        self.trusted = False
        self.deadline_s = time.monotonic() + REQUEST_S
        self._crowd, self._socket, self._address = crowd, accepted, address
        self._http: h11.Connection | None = None
        self._heard = b""
        self._request: Request | None = None
        self._body_bytes, self._keeps = 0, True
        self._unsent = memoryview(b"")
        self._answering: asyncio.Task[None] | None = None
        accepted.setblocking(False)
        self._events = 0

    def readable(self) -> None:
        """Take what has come."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            self._listen_for(selectors.EVENT_READ)
            return
        except OSError:
            data = b""
        if not data:
            self.abort()
            return
        self._heard += data
        self._consider()

    def begin(self) -> bool:
        """Look into a request that is whole; False where who made it has gone."""
        if self._socket.fileno() < 0:
            return False
        with contextlib.suppress(BlockingIOError):
            try:
                gone = not self._socket.recv(1, socket.MSG_PEEK)
            except ConnectionError:
                gone = True
            if gone:
                self.abort()
                return False
        self._listen_for(selectors.EVENT_READ)
        self._read_on()
        return True

    def abort(self) -> None:
        """End it at once, whatever it is at."""
        if self._socket.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._close()
        if self._answering is not None:
            self._answering.cancel()

    def writable(self) -> None:
        """Send what is left of an answer."""
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.abort()
            return
        if self._unsent:
            self.deadline_s = time.monotonic() + STALLED_S
            self._listen_for(selectors.EVENT_WRITE)
        else:
            self._answered()

    def _consider(self) -> None:
        """Go on where the head of a request is whole, or at once with what follows it; strangers have to wait."""
        if self._request is None and b"\r\n\r\n" not in self._heard and len(self._heard) < HEAD_BYTES:
            self._listen_for(selectors.EVENT_READ)
            return
        found = None if self.trusted else AUTHORIZATION.search(self._heard)
        if self.trusted or self._request is not None or (found and self._crowd.trusts(found[1])):
            self._read_on()
        else:
            self._listen_for(0)
            self._crowd.have_patience(self)

    def _close(self) -> None:
        self._listen_for(0)
        self._socket.close()
        self._crowd.forget(self)

    def _listen_for(self, events: int) -> None:
        """Readable, writable, or nothing."""
        if events == self._events:
            return
        if events and self._events:
            self._crowd.selector.modify(self._socket, events, self)
        elif events:
            self._crowd.selector.register(self._socket, events, self)
        else:
            self._crowd.selector.unregister(self._socket)
        self._events = events

    def _read_on(self) -> None:
        http = self._http = self._http or h11.Connection(h11.SERVER, HEAD_BYTES)
        try:
            http.receive_data(self._heard)
            self._heard = b""
            while (event := http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    self._request, self._body_bytes = self._request_of(event), 0
                elif isinstance(event, h11.Data):
                    self._body_bytes += len(event.data)
                    if self._body_bytes > BODY_BYTES:
                        raise h11.RemoteProtocolError("too long", error_status_hint=413)
                elif isinstance(event, h11.EndOfMessage):
                    assert self._request is not None
                    self._wait_for(self._crowd.handler(self._request))
                    return
        except h11.RemoteProtocolError as e:
            self._wait_for(_refusal(e.error_status_hint))

    def _request_of(self, event: h11.Request) -> Request:
        path, _, query = event.target.decode().partition("?")
        # Twice the same header: the last counts. h11 refuses that for what says how long a request is, and for Host.
        headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        authorization = headers.get("authorization")
        right = None if not authorization else self._crowd.trusts(authorization.encode("latin-1"))
        if right and not self.trusted:
            self.trusted = True
            self._crowd.trust(self)
        return Request(
            method=event.method.decode(), path=path, query=query, headers=headers, address=self._address, token=right
        )

    def _wait_for(self, answer: Awaitable[Answer]) -> None:
        self._listen_for(0)
        self.deadline_s = math.inf
        self._answering = asyncio.ensure_future(self._answer(answer))

    async def _answer(self, awaited: Awaitable[Answer]) -> None:
        answer: Answer | None = None
        try:
            answer = await awaited
        finally:
            self._answering = None
            if answer is None:
                self.abort()
        self._unsent = memoryview(self._bytes_of(answer))
        self.writable()

    def _bytes_of(self, answer: Answer) -> bytes:
        # What is answered is this program's own: h11 would take as long to check it as all the rest takes.
        keeps = self._http is not None and self._http.their_state is h11.DONE and not answer.last
        headers = {**answer.headers, "Connection": "keep-alive" if keeps else "close"}
        if answer.status != 204:
            headers |= {"Content-Type": answer.media_type, "Content-Length": str(len(answer.body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n{lines}\r\n".encode("latin-1")
        self._keeps = keeps
        return head if self._request is not None and self._request.method == "HEAD" else head + answer.body

    def _answered(self) -> None:
        if self._http is None or not self._keeps:
            self._close()
            return
        # The next request may have come with the last one, which is done with.
        self._heard, self._http, self._request = self._http.trailing_data[0], None, None
        self.deadline_s = time.monotonic() + (KEPT_S if self.trusted else REQUEST_S)
        self._crowd.answered(self)
        self._listen_for(selectors.EVENT_READ)
        self._consider()


async def _refusal(status: int) -> Answer:
    return Answer(status=status, body=b"no HTTP request that is understood here", last=True)
