"""Steps as UDP datagrams: for a program on the same car, or a screen beside the track."""

from __future__ import annotations

import json
import socket
import sys
import threading
from typing import Any

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.drive.step import Step
from sepilot_runtime.output.background import REOPEN_S
from sepilot_runtime.output.json_lines import line_of
from sepilot_runtime.output.registry import Address

__all__ = ["UdpSink", "open_address"]


class UdpSink:
    """One JSON object per datagram, keys as in the JSON lines, and `seq`, which counts datagrams.

    Nothing tells a sender whether anyone listens: whoever acts on these must go neutral by itself when they stop.

    Attributes:
        unsent: datagrams that the network did not take.
        failure: why they could not be sent, while the host is not known; it is looked up again in the background.
    """

    def __init__(self, host: str, port: int) -> None:
        self._socket: socket.socket | None = None
        self._target: tuple[Any, ...] = ()
        self._host, self._port = host, port
        self._seq = 0
        self.unsent = 0
        self.failure: str | None = None
        self._closing = threading.Event()
        try:
            # An address as numbers asks nobody; a name may take a minute.
            self._find(socket.AI_NUMERICHOST)
        except OSError:
            self.failure = f"udp://{host}:{port}: the host is not known yet"
            threading.Thread(target=self._look_up, name="udp", daemon=True).start()

    def write(self, step: Step) -> None:
        if self._socket is None:
            self.unsent += 1
            return
        line = {"seq": self._seq, **line_of(step)}
        self._seq += 1
        try:
            self._socket.sendto(json.dumps(line).encode(), self._target)
        except OSError:
            # Nobody there, no route, buffer full: the next one may get through.
            self.unsent += 1

    def close(self) -> None:
        self._closing.set()
        if self._socket is not None:
            self._socket.close()

    def _find(self, flags: int = 0) -> None:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM, flags=flags)
        family, kind, protocol, _, self._target = found[0]
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        self._socket = opened

    def _look_up(self) -> None:
        told = False
        while not self._closing.is_set():
            try:
                self._find()
            except OSError as e:
                self.failure = f"udp://{self._host}:{self._port}: {e.strerror or e}"
                if not told:
                    print(f"warning: {self.failure}; trying again", file=sys.stderr)
                told = True
                self._closing.wait(REOPEN_S)
            else:
                self.failure = None
                return


def open_address(address: Address) -> UdpSink:
    """`udp://HOST:PORT`."""
    address.require()
    if not address.host or not address.port:
        raise UsageError(f"--to {address.spec}: udp://HOST:PORT expected")
    return UdpSink(address.host, address.port)
