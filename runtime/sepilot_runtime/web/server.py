"""The thread that serves the page, in the process of the drive. Only who looks at it costs anything."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sepilot_runtime.web.address import WebAddress, bind
from sepilot_runtime.web.feed import WebSink
from sepilot_runtime.web.status import Watched

if TYPE_CHECKING:
    import uvicorn

__all__ = ["WebPage"]

MOST_CONNECTIONS = 64
IDLE_S = 10
LAST_WORD_S = 0.25
"""Pages ask several times a second: so long after the end they can still hear how it ended."""

START_S = 5.0
SWITCH_S = 0.0005
COLLECT_EVERY_S = 5.0


class WebPage:
    """The page of one drive. It holds its port from the beginning, so that a taken one shows before the car moves.

    Attributes:
        sink: takes the steps.
        url: where people find it.
        controls: it has a token, so that it can stop the drive.
    """

    def __init__(self, address: WebAddress) -> None:
        """
        Raises:
            UsageError: it cannot listen there.
            ModuleNotFoundError: the extra `web` is not installed.
        """
        # What is missing is to show now, not in the thread.
        import starlette.applications  # noqa: F401
        import uvicorn  # noqa: F401

        self.sink = WebSink()
        self._address = address
        self.controls = address.token is not None
        self._listener = bind(address)
        host, port = self._listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if address.family == socket.AF_INET6 else f"http://{host}:{port}/"

    def close(self) -> None:
        """Give the port back."""
        self._listener.close()

    @contextlib.contextmanager
    def serving(self, watched: Watched) -> Iterator[None]:
        """Serve until the end of the block; after it the thread is gone within a second."""
        import uvicorn

        from sepilot_runtime.web.app import make_app

        config = uvicorn.Config(
            make_app(self.sink, watched, self._address), loop="asyncio", http=_capped_protocol(), ws="none",
            lifespan="off", log_config=None, log_level="error", access_log=False, server_header=False,
            proxy_headers=False, timeout_keep_alive=IDLE_S,
        )  # fmt: skip
        server = uvicorn.Server(config)
        switching_s = sys.getswitchinterval()
        # So long may a request keep the drive from its next line of Python.
        sys.setswitchinterval(min(SWITCH_S, switching_s))
        thread = threading.Thread(target=_serve, args=(server, self._listener), name="web", daemon=True)
        thread.start()
        # Its start is over before the drive begins: imports would hold up the first frames.
        end_s = time.monotonic() + START_S
        while not server.started and thread.is_alive() and time.monotonic() < end_s:
            time.sleep(0.01)
        try:
            yield
        finally:
            self.sink.close()
            if server.server_state.connections:
                time.sleep(LAST_WORD_S)
            server.should_exit = True
            thread.join(0.5)
            server.force_exit = True
            thread.join(0.2)
            sys.setswitchinterval(switching_s)
            self.close()


def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    async def run() -> None:
        tidying = asyncio.create_task(_collect())
        await server.serve(sockets=[listener])
        tidying.cancel()

    asyncio.run(run())


async def _collect() -> None:
    """A live drive turns the garbage collector off; what requests leave in cycles goes here, a little at a time."""
    while True:
        await asyncio.sleep(COLLECT_EVERY_S)
        if not gc.isenabled():
            gc.collect(0)


def _capped_protocol() -> type[asyncio.Protocol]:
    """HTTP/1.1 for so many connections at most, so that a crowd cannot take the camera's file descriptors."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class CappedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > MOST_CONNECTIONS:
                transport.abort()

    return CappedProtocol
