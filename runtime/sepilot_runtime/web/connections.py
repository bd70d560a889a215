"""The connections of the page: HTTP/1.1 for a crowd in which somebody may want to keep the owner from the stop.

Whoever has shown the token is kept apart from strangers, and never has to give way to them. Strangers give way to
newer ones, the one first that was answered longest ago, and have little time to say what they want.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import h11

__all__ = ["Answer", "Crowd", "Request"]

REQUEST_S = 3.0
"""For a whole request with its body, from the connection or from the last answer."""

KEPT_S = 30.0
"""The same for whoever has shown the token."""

STALLED_S = 4.0
"""Whoever takes nothing of an answer for so long is dropped."""

SWEEP_S = 0.25
MOST_STRANGERS, MOST_TRUSTED = 768, 128
ACCEPTED_AT_ONCE = 128
BODY_BYTES = 4096
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


class Crowd:
    """Everybody who is connected. `handler` answers requests, `trusts` judges what stands in `Authorization`."""

    def __init__(
        self,
        listener: socket.socket,
        handler: Callable[[Request], Awaitable[Answer]],
        trusts: Callable[[bytes], bool],
        *,
        most_strangers: int = MOST_STRANGERS,
    ) -> None:
        self.handler, self.trusts = handler, trusts
        self.strangers: OrderedDict[_Connection, None] = OrderedDict()
        self.trusted: OrderedDict[_Connection, None] = OrderedDict()
        self._listener, self._most_strangers = listener, most_strangers
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._accept)

    async def sweep(self) -> None:
        """End those whose time is over, for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = time.monotonic()
            for connection in [*self.strangers, *self.trusted]:
                if connection.deadline_s < now_s:
                    connection.abort()

    def trust(self, connection: _Connection) -> None:
        """It has shown the token."""
        self.strangers.pop(connection, None)
        self.trusted[connection] = None
        if len(self.trusted) > MOST_TRUSTED:
            next(iter(self.trusted)).abort()

    def answered(self, connection: _Connection) -> None:
        """The others were answered longer ago."""
        (self.trusted if connection.trusted else self.strangers).move_to_end(connection)

    def forget(self, connection: _Connection) -> None:
        self.strangers.pop(connection, None)
        self.trusted.pop(connection, None)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, place = self._listener.accept()
            except OSError as e:
                # Nobody is there, or has gone again. Or there is no file descriptor left: somebody has to give way.
                if not isinstance(e, BlockingIOError | ConnectionAbortedError) and self.strangers:
                    next(iter(self.strangers)).abort()
                return
            connection = _Connection(self, accepted, str(place[0]))
            self.strangers[connection] = None
            if len(self.strangers) > self._most_strangers:
                next(iter(self.strangers)).abort()
            # Where many wait, what it has to say has come already.
            connection.readable()


class _Connection:
    """One connection: reads a request, has it answered, sends the answer, and reads on only then.

    Attributes:
        trusted: the right token came over it.
        deadline_s: when its time is over.
    """

    def __init__(self, crowd: Crowd, accepted: socket.socket, address: str) -> None:
        self.trusted = False
        self.deadline_s = time.monotonic() + REQUEST_S
        self._crowd, self._socket, self._address = crowd, accepted, address
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER)
        self._request: Request | None = None
        self._body_bytes = 0
        self._unsent = memoryview(b"")
        self._answering: asyncio.Task[None] | None = None
        accepted.setblocking(False)
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(accepted, self.readable)

    def readable(self) -> None:
        """Take what has come."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.abort()
            return
        self._http.receive_data(data)
        self._read_on()

    def abort(self) -> None:
        """End it at once, whatever it is at."""
        if self._socket.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._close()
        if self._answering is not None:
            self._answering.cancel()

    def _close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._crowd.forget(self)

    def _read_on(self) -> None:
        try:
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
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
        self._loop.remove_reader(self._socket)
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
        headers = dict(answer.headers)
        if answer.status != 204:
            headers |= {"Content-Type": answer.media_type, "Content-Length": str(len(answer.body))}
        if answer.last:
            headers["Connection"] = "close"
        head = h11.Response(status_code=answer.status, headers=list(headers.items()))
        body = b"" if self._request is not None and self._request.method == "HEAD" else answer.body
        parts = [self._http.send(head), self._http.send(h11.Data(data=body)), self._http.send(h11.EndOfMessage())]
        self._unsent = memoryview(b"".join(part for part in parts if part))
        self._writable()

    def _writable(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.abort()
            return
        if self._unsent:
            self.deadline_s = time.monotonic() + STALLED_S
            self._loop.add_writer(self._socket, self._writable)
            return
        self._loop.remove_writer(self._socket)
        self._answered()

    def _answered(self) -> None:
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._close()
            return
        self._http.start_next_cycle()
        self.deadline_s = time.monotonic() + (KEPT_S if self.trusted else REQUEST_S)
        self._crowd.answered(self)
        self._loop.add_reader(self._socket, self.readable)
        # The next request may have come with the last one.
        self._read_on()


async def _refusal(status: int) -> Answer:
    return Answer(status=status, body=b"no HTTP request that is understood here", last=True)
