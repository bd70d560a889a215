"""The page's process: answers browsers, and asks the drive for what they want to know.

    python -m sepilot_runtime.output.web.server LISTENER CHANNEL MEMORY

The arguments are file descriptors: the socket that listens, the line to the drive, and what both share. The drive says
on the line where it listens and what the token is, which would show in the list of processes as an argument. The end
of the line is the end of the drive.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.output.web.address import WebAddress
from sepilot_runtime.output.web.app import App
from sepilot_runtime.output.web.crowd import MOST_STRANGERS, MOST_TRUSTED, Crowd
from sepilot_runtime.output.web.feed import Feed
from sepilot_runtime.output.web.link import Link
from sepilot_runtime.output.web.news import News

__all__ = ["main", "serve"]

START_S = 10.0
LAST_WORD_S = 0.25
"""Pages ask several times a second: so long after the end they can still hear how it ended."""

OTHER_FILES = 64
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGABRT)
"""Whoever ends the drive ends this process, which says the drive's last word first."""


async def serve(listener: socket.socket, channel: socket.socket, memory: int) -> None:
    """Serve until the drive is over."""
    ended = asyncio.Event()
    link = Link(ended.set)
    await asyncio.get_running_loop().create_connection(lambda: link, sock=channel)
    told = await link.told
    link.drive = told["drive"]
    link.about, link.facts = await link.ask("about", START_S), await link.ask("facts", START_S)
    feed = Feed(memory)
    news = News(feed, link)
    app = App(feed, link, news, _address_of(told))
    crowd = Crowd(listener, app.answer, app.trusts)
    others = [asyncio.create_task(news.follow()), asyncio.create_task(crowd.sweep())]
    await link.ask("up")
    await ended.wait()
    news.look()
    if crowd.trusted or crowd.strangers:
        await asyncio.sleep(LAST_WORD_S)
    for task in others:
        task.cancel()


def _address_of(told: dict[str, Any]) -> WebAddress:
    return WebAddress(
        family=socket.AF_INET, host=told["host"], port=told["port"], loopback=told["loopback"], token=told["token"]
    )


def main() -> int:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    listener, channel, memory = (int(argument) for argument in sys.argv[1:])
    _make_room()
    # One picture at a time: more threads would take the drive's processors for little.
    cv2.setNumThreads(1)
    asyncio.run(serve(socket.socket(fileno=listener), socket.socket(fileno=channel), memory))
    return 0


def _make_room() -> None:
    """Not in real time, ended before the drive where memory runs out, and with enough files for the crowd."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    wanted = MOST_STRANGERS + MOST_TRUSTED + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    raise SystemExit(main())
