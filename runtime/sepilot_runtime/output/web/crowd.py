"""Everybody who is connected to the page, among whom somebody may want to keep the owner from the stop.

Whoever has shown the token is kept apart from strangers, never has to give way to them, and is answered first.
Strangers give way to newer ones, the one first that was answered longest ago; they have little time to say what they
want, and a few of them at a time are answered. How soon the owner gets through a flood depends on what a stranger costs
before that: a connection is taken with a few system calls, and its words are looked into when they are whole. That is
why no web server stands here: asyncio's, on which uvicorn builds, makes a transport and a task of every connection
first, and of 60 stops under 500 hostile connections none came through. What a request is, h11 says.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from sepilot_runtime.output.web.connections import Answer, Connection, Request

__all__ = ["MOST_STRANGERS", "MOST_TRUSTED", "Crowd"]

MOST_STRANGERS, MOST_TRUSTED = 768, 128
SWEEP_S = 0.25
ACCEPTED_AT_ONCE, ANSWERED_AT_ONCE = 64, 1
"""Of strangers, before everybody else has a turn."""


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
        self.strangers: OrderedDict[Connection, None] = OrderedDict()
        self.trusted: OrderedDict[Connection, None] = OrderedDict()
        # One for all, and not the loop's own: that takes three times as long for every newcomer.
        self.selector: selectors.BaseSelector = selectors.DefaultSelector()
        self._listener, self._most_strangers = listener, most_strangers
        self._patient: deque[Connection] = deque()
        self._loop = asyncio.get_running_loop()
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ)
        self._loop.add_reader(self.selector, self._turn)

    async def sweep(self) -> None:
        """End those whose time is over, for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = time.monotonic()
            for connection in [*self.strangers, *self.trusted]:
                if connection.deadline_s < now_s:
                    connection.abort()

    def trust(self, connection: Connection) -> None:
        """It has shown the token."""
        self.strangers.pop(connection, None)
        self.trusted[connection] = None
        if len(self.trusted) > MOST_TRUSTED:
            next(iter(self.trusted)).abort()

    def have_patience(self, connection: Connection) -> None:
        """A stranger's request is whole, and is looked into when it is its turn."""
        if not self._patient:
            self._loop.call_soon(self._answer_some)
        self._patient.append(connection)

    def answered(self, connection: Connection) -> None:
        """The others were answered longer ago."""
        (self.trusted if connection.trusted else self.strangers).move_to_end(connection)

    def forget(self, connection: Connection) -> None:
        self.strangers.pop(connection, None)
        self.trusted.pop(connection, None)

    def _turn(self) -> None:
        for key, events in self.selector.select(0):
            if key.data is None:
                self._accept()
            elif events & selectors.EVENT_WRITE:
                key.data.writable()
            else:
                key.data.readable()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, place = self._listener.accept()
            except OSError as e:
                # Nobody is there, or has gone again. Or there is no file descriptor left: somebody has to give way.
                if not isinstance(e, BlockingIOError | ConnectionAbortedError) and self.strangers:
                    next(iter(self.strangers)).abort()
                return
            connection = Connection(self, accepted, place[0])
            self.strangers[connection] = None
            if len(self.strangers) > self._most_strangers:
                next(iter(self.strangers)).abort()
            # Where many wait, what it has to say has come already.
            connection.readable()

    def _answer_some(self) -> None:
        answered = 0
        while self._patient and answered < ANSWERED_AT_ONCE:
            answered += self._patient.popleft().begin()
        if self._patient:
            self._loop.call_soon(self._answer_some)
