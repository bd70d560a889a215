"""Telling systemd that the drive is up and goes on, so that it restarts one that hangs.

A unit with `Type=notify` and `WatchdogSec` gives a socket in NOTIFY_SOCKET and the time in WATCHDOG_USEC; the protocol
is that of sd_notify(3), a datagram of lines, and needs no package.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from sepilot_runtime.drive.step import Step

__all__ = ["SystemdSink", "open_systemd"]

EVERY_S = 1.0
"""A sign of life; more often where the watchdog waits for less than three seconds."""


def open_systemd(environment: Mapping[str, str] = os.environ) -> SystemdSink | None:
    """The sink that tells systemd; None where this process was not started by a unit that wants to be told."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    limit_us = environment.get("WATCHDOG_USEC", "")
    every_s = min(EVERY_S, int(limit_us) / 3e6) if limit_us.isdecimal() and int(limit_us) else EVERY_S
    return SystemdSink(address, every_s=every_s)


class SystemdSink:
    """READY=1 with the first step, then WATCHDOG=1 and the state, STOPPING=1 at the end.

    A step comes in every frame period, also while no frame does; so what stops the signs of life is a loop that hangs,
    not a camera that was unplugged. A systemd that does not listen is no reason to stop driving.
    """

    def __init__(self, address: str, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        # A name that starts with @ is one of the abstract namespace.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._every_s, self._clock = every_s, clock
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._due_s: float | None = None
        self._told = ""

    def write(self, step: Step) -> None:
        now_s = self._clock()
        if self._due_s is not None and now_s < self._due_s:
            return
        ready = "READY=1\n" if self._due_s is None else ""
        self._due_s = now_s + self._every_s
        status = f"{step.state.value}: {step.reason}" if step.reason else step.state.value
        told, self._told = self._told, status
        self._send(f"{ready}WATCHDOG=1" + (f"\nSTATUS={status}" if status != told else ""))

    def close(self) -> None:
        self._send("STOPPING=1")
        self._socket.close()

    def _send(self, words: str) -> None:
        try:
            self._socket.sendto(words.encode(), self._address)
        except OSError:
            # Its queue is full, or it has gone.
            return
