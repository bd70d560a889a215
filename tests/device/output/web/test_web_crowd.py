"""Who is let in where many want to be, who has to go, and what is no request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from sepilot_runtime.output.web import connections, crowd
from sepilot_runtime.output.web.connections import Answer, Request
from sepilot_runtime.output.web.crowd import Crowd

TOKEN = b"Bearer correct-horse-battery"
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ASK_WITH_TOKEN = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + TOKEN + b"\r\n\r\n"
HALF = ASK[:-2]
SLOW = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"
LARGE = 8 << 20

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[bytes], Awaitable[Client]]


def in_a_crowd(test: Callable[[Connect, Crowd], Awaitable[None]], most_strangers: int = 100) -> None:
    """Run `test` with what connects to a crowd and says something."""

    async def handler(request: Request) -> Answer:
        if request.path == "/large":
            return Answer(status=200, body=bytes(LARGE))
        return Answer(status=200, body=f"{request.method} {request.path} {request.token}".encode())

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            served = Crowd(listener, handler, lambda given: given == TOKEN, most_strangers=most_strangers)
            sweeping = asyncio.create_task(served.sweep())

            async def connect(words: bytes) -> Client:
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                writer.write(words)
                return reader, writer

            await asyncio.wait_for(test(connect, served), 30)
            sweeping.cancel()
            for connection in [*served.strangers, *served.trusted]:
                connection.abort()

    asyncio.run(run())


async def answer_of(client: Client) -> bytes:
    """The body of the next answer; b"" where the connection ended."""
    try:
        head = await client[0].readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await client[0].readexactly(int(length.split(b":")[1]))


async def ask(client: Client, words: bytes = ASK) -> bytes:
    try:
        client[1].write(words)
    except ConnectionError:
        return b""
    return await answer_of(client)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.1)
    monkeypatch.setattr(connections, "STALLED_S", 0.1)
    monkeypatch.setattr(crowd, "SWEEP_S", 0.02)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "words",
    [b"", b"G", HALF, SLOW, ASK, ASK.replace(b"/ ", b"/large ")],
    ids=["silent", "one byte", "half a header", "half a body", "nothing after an answer", "takes no answer"],
)
def test_whoever_keeps_others_waiting_has_to_go(words: bytes) -> None:
    async def test(connect: Connect, crowd: Crowd) -> None:
        client = await connect(words)
        if words == ASK:
            assert await answer_of(client) == b"GET / None"
        while not crowd.strangers:
            await asyncio.sleep(0.001)
        # What trickles in does not make its time longer.
        while crowd.strangers:
            if words == SLOW:
                client[1].write(b"x")
            await asyncio.sleep(0.05)
        client[1].close()

    in_a_crowd(test)


@pytest.mark.usefixtures("quick")
def test_the_owner_may_take_longer() -> None:
    async def test(connect: Connect, crowd: Crowd) -> None:
        owner = await connect(ASK_WITH_TOKEN)
        assert await answer_of(owner) == b"GET / True"
        await asyncio.sleep(0.3)
        # And needs the token only where it is asked for: this connection stays the owner's.
        assert await ask(owner) == b"GET / None" and len(crowd.trusted) == 1 and not crowd.strangers

    in_a_crowd(test)


def test_strangers_give_way_to_newer_ones_and_never_does_the_owner() -> None:
    async def test(connect: Connect, crowd: Crowd) -> None:
        owner = await connect(ASK_WITH_TOKEN)
        assert await answer_of(owner) == b"GET / True"
        strangers = []
        for _ in range(4):
            strangers.append(await connect(ASK))
            assert await answer_of(strangers[-1]) == b"GET / None"
        # The first one was answered last, so that the second one is who has waited longest.
        assert await ask(strangers[0]) == b"GET / None"
        assert await answer_of(await connect(ASK)) == b"GET / None"
        assert await ask(strangers[1]) == b""
        assert await ask(strangers[0]) == b"GET / None"
        crowded = [await connect(HALF) for _ in range(50)]
        elsewhere = await connect(ASK_WITH_TOKEN)
        assert await answer_of(elsewhere) == b"GET / True"
        assert await ask(owner) == await ask(elsewhere) == b"GET / None"
        assert len(crowd.strangers) == 3 and len(crowd.trusted) == 2 and crowded

    in_a_crowd(test, most_strangers=4)


def test_who_shows_the_token_is_answered_before_those_who_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[bool | None] = []
    request_of = connections.Connection._request_of

    def noted(self: connections.Connection, event: connections.h11.Request) -> Request:
        request = request_of(self, event)
        order.append(request.token)
        return request

    monkeypatch.setattr(connections.Connection, "_request_of", noted)

    async def test(connect: Connect, crowd: Crowd) -> None:
        address = crowd._listener.getsockname()
        clients = []
        for number in range(30):
            clients.append(socket.create_connection(address))
            clients[-1].sendall(ASK if number < 29 else ASK_WITH_TOKEN)
        while len(order) < 30:
            await asyncio.sleep(0.001)
        # One stranger's answer a turn, and all were let in within one.
        assert order.index(True) <= 2
        for client in clients:
            client.close()

    in_a_crowd(test)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (b"HELO\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20000, b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"y" * 5000, b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + b"y" * 5000, b"413"),
    ],
)
def test_what_is_no_request_is_refused_and_ends_the_connection(words: bytes, status: bytes) -> None:
    async def test(connect: Connect, crowd: Crowd) -> None:
        reader, _ = await connect(words)
        assert (await reader.readuntil(b"\r\n"))[9:12] == status
        while crowd.strangers:
            await asyncio.sleep(0.001)

    in_a_crowd(test)


def test_requests_that_come_together_are_answered_one_after_the_other() -> None:
    async def test(connect: Connect, crowd: Crowd) -> None:
        second = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        client = await connect(ASK + second + ASK_WITH_TOKEN[:40])
        assert [await answer_of(client) for _ in range(2)] == [b"GET / None", b"POST /b None"]
        assert await ask(client, ASK_WITH_TOKEN[40:]) == b"GET / True"

    in_a_crowd(test)
