"""Steps as UDP datagrams: for a program on the same car, or a screen beside the track."""

from __future__ import annotations

import json
import socket
from typing import Any

from sepilot_runtime.errors import OutputError
from sepilot_runtime.sinks import Step, line_of

__all__ = ["UdpSink"]


class UdpSink:
    """One JSON object per datagram, keys as in the JSON lines, and `seq`, which counts datagrams.

    Nothing tells a sender whether anyone listens: whoever acts on these must go neutral by itself when they stop.

    Attributes:
        unsent: datagrams that the network did not take.
    """

    def __init__(self, host: str, port: int) -> None:
        """
        Raises:
            OutputError: the host is not known.
        """
        try:
            family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, protocol)
        except OSError as e:
            raise OutputError(f"udp://{host}:{port}: {e.strerror or e}") from e
        self._target: tuple[Any, ...] = target
        self._socket.setblocking(False)
        self._seq = 0
        self.unsent = 0

    def write(self, step: Step) -> None:
        line = {"seq": self._seq, **line_of(step)}
        self._seq += 1
        try:
            self._socket.sendto(json.dumps(line).encode(), self._target)
        except OSError:
            # Nobody there, no route, buffer full: the next one may get through.
            self.unsent += 1

    def close(self) -> None:
        self._socket.close()
