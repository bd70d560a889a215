"""Those who look at the page of a drive, and those who want to keep its owner from the stop; each a process of its own.

python bench_web_crowds.py viewers|hostile|guessers PORT COUNT
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

HOST = "127.0.0.1"
BURST = 20
LIVE_EVERY_S, PICTURE_EVERY_S = 0.1, 0.07
HALF = b"GET /live?count=0 HTTP/1.1\r\nHost: localhost\r\nX-Some"
SLOW = b"POST /control/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n"
WHOLE = b"GET /live?count=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
GUESS = "POST /control/check HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong-horse-{}\r\n\r\n"


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> tuple[dict[str, str], bytes]:
    """One question on a connection that is kept, as the page asks it."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
    }
    return headers, await reader.readexactly(int(headers.get("content-length", "0")))


async def look(port: int, counts: list[int]) -> None:
    """A page without its drawing: two connections, each asking as often as the page does."""

    async def live() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        count = bucket = 0
        while True:
            sent_s = time.monotonic()
            _, body = await ask(reader, writer, f"/live?count={count}&bucket={bucket}")
            now = json.loads(body)
            count, bucket = now["count"], now["bucket"]
            counts[0] += 1
            await asyncio.sleep(max(0.01, LIVE_EVERY_S - (time.monotonic() - sent_s)))

    async def pictures() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        after = 0
        while True:
            sent_s = time.monotonic()
            headers, body = await ask(reader, writer, f"/picture?after={after}")
            if body:
                after = json.loads(headers["x-shot"])["number"]
                counts[1] += 1
            await asyncio.sleep(max(0.005, PICTURE_EVERY_S - (time.monotonic() - sent_s)))

    await asyncio.gather(again(live), again(pictures))


async def again(what: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """For ever, whatever the other end does."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError, KeyError):
            await what()
        await asyncio.sleep(0.05)


async def hold(port: int, words: bytes, drip: bytes, counts: list[int]) -> None:
    """Connect, say `words`, then a byte now and then; come again when thrown out."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, port)
            counts[0] += 1
            writer.write(words)
            while drip:
                await asyncio.sleep(0.2)
                writer.write(drip)
                await writer.drain()
            await reader.read()
            writer.close()
        await asyncio.sleep(0)


async def hammer(port: int, people: int, counts: list[int]) -> None:
    """Connect, say half a request or a whole one, hang up, and again, as fast as this process can."""
    held: deque[socket.socket] = deque()
    while True:
        for words in (HALF, WHOLE) * BURST:
            with contextlib.suppress(OSError):
                client = socket.socket()
                held.append(client)
                client.setblocking(False)
                client.connect_ex((HOST, port))
                client.send(words)
                counts[1] += 1
            if len(held) > people:
                held.popleft().close()
        await asyncio.sleep(0)


async def guess(port: int, counts: list[int]) -> None:
    """Try a token, wait for what is said to it, and again."""
    number = 0
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(HOST, port)
            number += 1
            writer.write(GUESS.format(number).encode())
            if (await reader.read(12)).endswith(b"401"):
                counts[0] += 1
            writer.close()
        await asyncio.sleep(0.01)


async def run(kind: str, port: int, count: int) -> None:
    """Until standard input ends; then say what was counted."""
    counts = [0, 0]
    if kind == "viewers":
        works = [look(port, counts) for _ in range(count)]
    elif kind == "guessers":
        works = [guess(port, counts) for _ in range(count)]
    else:
        kinds = [
            lambda: hold(port, b"", b"", counts),
            lambda: hold(port, HALF, b"", counts),
            lambda: hold(port, SLOW, b"x", counts),
        ]
        hammering = 2 * count // 5
        works = [kinds[number % len(kinds)]() for number in range(count - hammering)]
        works.append(hammer(port, hammering, counts))
    tasks = [asyncio.create_task(work) for work in works]
    print("begun", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps(counts), flush=True)
    for task in tasks:
        task.cancel()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
