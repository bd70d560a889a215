"""A page that is served to a test, with steps to show."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fakes import ConstantEngine
from model_factory import contract_of, frames, prediction_of
from sepilot_runtime.drive.step import Step
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.output.web.address import web_address
from sepilot_runtime.output.web.drive import Watched
from sepilot_runtime.output.web.page import WebPage
from sepilot_runtime.source.protocol import Frame

TOKEN = "correct-horse-battery"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
IMAGE = frames(1, height=120, width=160)[0]


def step_of(number: int, steering: float = 0.2, image: NDArray[np.uint8] | None = IMAGE, **changes: Any) -> Step:
    now_ns = time.monotonic_ns()
    frame, prediction = None, None
    if image is not None:
        frame = Frame(
            id=number, time_s=number / 20, image=image, arrived_ns=now_ns - 3_000_000, labels={"steering": -0.1}
        )
        prediction = prediction_of(steering, preprocess_us=20.0, infer_us=50.0, throttle=0.31)
    step = Step(
        frame=frame, prediction=prediction, steering=steering, throttle=0.25, decided_ns=now_ns,
        total_us=80.0 if frame else 0.0, age_ms=3.0 if frame else None,
    )  # fmt: skip
    return dataclasses.replace(step, **changes)


@dataclass
class Site:
    """A page that is served, and a browser's part of talking to it."""

    page: WebPage
    control: Control
    lost: dict[str, int]
    outputs: list[Any]
    port: int = field(init=False)

    def __post_init__(self) -> None:
        self.port = int(self.page.url.rsplit(":", 1)[1].strip("/"))

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer, body

    def get(self, path: str, **headers: str) -> Any:
        status, _, body = self.ask("GET", path, **headers)
        assert status == 200, body
        return json.loads(body)

    def post(self, action: str, **headers: str) -> int:
        return self.ask("POST", f"/control/{action}", **headers)[0]


Serve = Callable[..., Site]


@contextlib.contextmanager
def serving_pages() -> Iterator[Serve]:
    """Gives what serves pages, each until the end of the block."""
    with contextlib.ExitStack() as stack:

        def start(
            *,
            token: str | None = TOKEN,
            pilot: Pilot | None = None,
            network: bool = False,
            driving: Callable[[], Pilot] | None = None,
            **changes: Any,
        ) -> Site:
            where = web_address("127.0.0.1:0", token)
            # Answers as it would to the network, without opening this machine to one.
            page = WebPage(dataclasses.replace(where, loopback=not network))
            pilot = pilot or Pilot(ConstantEngine(contract_of()))
            control, lost, outputs = Control(), {"dropped": 0}, []
            watched = Watched(
                pilot=driving or (lambda: pilot),
                control=control,
                lost=lambda: lost,
                outputs=outputs,
                **{"recorder": True, **changes},
            )
            stack.enter_context(page.serving(watched))
            return Site(page, control, lost, outputs)

        yield start


def stall(port: int, requests: int) -> socket.socket:
    """A client that asks and asks, and takes nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(("127.0.0.1", port))
    client.sendall(b"GET /picture?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n" * requests)
    return client
