"""The page's process asks the drive: one word a line, and an answer as JSON with its number."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Link", "Silent"]

ANSWER_S = 1.0
FACTS_EVERY_S = 0.25
FACTS_S = 0.3


class Silent(Exception):
    """The drive does not answer."""


class Link(asyncio.Protocol):
    """The drive's end of the line, as the page's process sees it.

    Attributes:
        told: what the drive said when it started this process.
        drive: tells one drive from the next.
        about: model card and what the drive can do.
        facts: the drive's last word about itself.
        closed: the drive is over.
    """

    def __init__(self, ended: Callable[[], None], clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.about: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.closed = False
        self.drive = ""
        self._ended, self._clock_ns = ended, clock_ns
        self._transport: asyncio.WriteTransport | None = None
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number, self._heard = 0, bytearray()
        self._facts_ns = 0
        self._refreshing: asyncio.Task[None] | None = None

    async def ask(self, word: str, limit_s: float = ANSWER_S) -> dict[str, Any]:
        """What the drive answers. Raises Silent."""
        if self.closed or self._transport is None:
            raise Silent
        self._number += 1
        number = self._number
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self._transport.write(f"{number} {word}\n".encode())
        try:
            return await asyncio.wait_for(future, limit_s)
        except TimeoutError as e:
            raise Silent from e
        finally:
            self._asked.pop(number, None)

    async def refresh(self) -> None:
        """See that `facts` and `about` are no older than `FACTS_EVERY_S`, if the drive answers."""
        if self._clock_ns() - self._facts_ns < FACTS_EVERY_S * 1e9 or self.closed:
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        await asyncio.wait([self._refreshing])

    async def _refresh(self) -> None:
        try:
            facts = await self.ask("facts", FACTS_S)
            if not self.about or facts["model"] != self.about["model"]["sha256"]:
                self.about = await self.ask("about")
            self.facts = facts
        except Silent:
            pass
        self._facts_ns = self._clock_ns()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._heard + data).split(b"\n")
        self._heard = bytearray(rest)
        for line in lines:
            number, answer = json.loads(line)
            if not self.told.done():
                self.told.set_result(answer)
            elif number == 0:
                self.facts = answer
            elif (future := self._asked.get(number)) is not None and not future.done():
                future.set_result(answer)

    def eof_received(self) -> bool:
        # The drive's last word is said; this process says it on for a moment.
        self._end()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self.closed:
            self.closed = True
            self._ended()
