"""Waiting for a newer step or picture: one look for all who wait, and none at the drive while nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time

from sepilot_runtime.output.web.feed import Feed
from sepilot_runtime.output.web.link import Link, Silent
from sepilot_runtime.output.web.pictures import MOST_PER_S, Shot, jpeg_of

__all__ = ["News"]

LOOK_EVERY_S = 0.015
ASLEEP_S = 1.0
"""So often the steps are taken in while nobody looks, so that no change of state goes unnoticed."""

PICTURE_S = 0.5
AFTER_LAST_S = 1.0


class News:
    """Takes in the steps, and pictures while somebody asks for them."""

    def __init__(self, feed: Feed, link: Link) -> None:
        self._feed, self._link = feed, link
        self._shot: Shot | None = None
        self._steps, self._shots, self._asked = _Bell(), _Bell(), asyncio.Event()
        self._asked_s = self._picture_asked_s = self._picture_taken_s = -math.inf

    async def step_after(self, count: int, limit_s: float) -> None:
        """Come back when there is another count of steps than `count`, or the time or the drive is over."""
        self._feed.catch_up()
        self._asked_s = time.monotonic()
        end_s = self._asked_s + limit_s
        self._asked.set()
        while self._feed.count == count and not self._link.closed and (left_s := end_s - time.monotonic()) > 0:
            await self._steps.wait(left_s)

    async def shot_after(self, number: int, limit_s: float) -> Shot | None:
        """The newest frame with another number than `number`; None where there is none in time."""
        self._asked_s = self._picture_asked_s = time.monotonic()
        end_s = self._asked_s + limit_s
        self._asked.set()
        while (shot := self._shot) is None or shot.number == number or shot.jpeg is None:
            left_s = end_s - time.monotonic()
            if self._link.closed or left_s <= 0:
                return None
            await self._shots.wait(left_s)
        return shot

    async def follow(self) -> None:
        """Look for what is new, for ever."""
        while True:
            if time.monotonic() - self._asked_s < AFTER_LAST_S:
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                self._asked.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), ASLEEP_S)
            self.look()
            await self._take_picture()

    def look(self) -> None:
        """Wake those for whom there is something, or all when the drive is over."""
        if self._feed.catch_up() or self._link.closed:
            self._steps.ring()
        if self._link.closed:
            self._shots.ring()

    async def _take_picture(self) -> None:
        now_s, newest = time.monotonic(), self._feed.newest
        if newest is None or now_s - self._picture_asked_s > AFTER_LAST_S:
            return
        if now_s - self._picture_taken_s < 1 / MOST_PER_S or (self._shot and self._shot.number == newest.frames):
            return
        try:
            found = await self._link.ask("picture", PICTURE_S)
        except Silent:
            return
        self._picture_taken_s = now_s
        if found:
            shape = found.pop("shape")
            # Until the next is asked for, the drive leaves this one alone.
            jpeg = None if shape is None else jpeg_of(self._feed.frame[: math.prod(shape)].reshape(shape))
            self._shot = Shot(**found, jpeg=jpeg)
            self._shots.ring()


class _Bell:
    """Wakes all who wait for it."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    async def wait(self, limit_s: float) -> None:
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._future], timeout=limit_s)

    def ring(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
        self._future = None
