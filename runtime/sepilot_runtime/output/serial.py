"""Steering over a serial line to the microcontroller that drives servo and motor. `docs/serial.md` is the protocol."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios
import threading
from collections.abc import Callable
from typing import Any, Protocol

from sepilot_runtime.base.errors import MissingExtraError, OutputError
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step
from sepilot_runtime.output.registry import Address

__all__ = ["SerialSink", "checksum", "line_of_step", "open_address", "open_serial", "parse_line"]

_LETTERS = {
    State.WAITING: "W", State.DRIVING: "D", State.DEGRADED: "G", State.NEUTRAL: "N", State.STOPPED: "S",
}  # fmt: skip
LINE_BYTES, BITS_PER_BYTE = 32, 10
STALE_S = 0.1
"""What waits for longer in the driver's buffer is steered by too late: two lines at 20 per second, 3 ms each at 115200
baud."""

REOPEN_S = 0.1

_STATES = {letter: state for state, letter in _LETTERS.items()}


class Port(Protocol):
    """The part of `serial.Serial` that is used."""

    def write(self, data: bytes, /) -> int | None: ...
    def close(self) -> None: ...


def checksum(body: bytes) -> int:
    """The exclusive or of all bytes between `$` and `*`, as in NMEA 0183."""
    value = 0
    for byte in body:
        value ^= byte
    return value


def line_of_step(sequence: int, steering: float, throttle: float, state: State) -> bytes:
    """`$SP,<sequence>,<steering>,<throttle>,<state>*<checksum>\\r\\n`; steering and throttle in thousandths."""
    body = f"SP,{sequence % 1000},{round(steering * 1000)},{round(throttle * 1000)},{_LETTERS[state]}".encode()
    return b"$" + body + b"*%02X\r\n" % checksum(body)


def parse_line(line: bytes) -> tuple[int, float, float, State] | None:
    """Sequence, steering, throttle and state of a line; None for anything that is not whole. What a receiver does."""
    line = line.strip()
    if not line.startswith(b"$") or line[-3:-2] != b"*":
        return None
    body = line[1:-3]
    try:
        if int(line[-2:], 16) != checksum(body):
            return None
        kind, sequence, steering, throttle, letter = body.decode("ascii").split(",")
        values = int(sequence), int(steering) / 1000, int(throttle) / 1000
    except (ValueError, UnicodeDecodeError):
        return None
    if kind != "SP" or letter not in _STATES or abs(values[1]) > 1 or abs(values[2]) > 1:
        return None
    return (*values, _STATES[letter])


class SerialSink:
    """One line per step. The receiver goes neutral by itself when no valid line comes for 200 ms.

    A port that went away is opened again in the background, by its path; until then each step raises at once.
    """

    def __init__(self, port: Port, where: str, reopen: Callable[[], Port]) -> None:
        self._port: Port | None = port
        self._where, self._reopen = where, reopen
        self._sequence = 0
        self._torn = False
        self._closing = threading.Event()

    def write(self, step: Step) -> None:
        """Raises OutputError where the port takes no line."""
        port = self._port
        if port is None:
            raise OutputError(f"{self._where}: has gone away; it is opened again once it is there")
        line = line_of_step(self._sequence, step.steering, step.throttle, step.state)
        # Half a line may stand before it, which must not take this one with it.
        data = b"\r\n" + line if self._torn else line
        self._torn = True
        try:
            port.write(data)
        except BufferFull as e:
            raise OutputError(f"{self._where}: cannot be written: {e}") from e
        except OSError as e:
            self._port = None
            threading.Thread(target=self._open_again, args=(port,), name="serial", daemon=True).start()
            raise OutputError(f"{self._where}: cannot be written: {e}") from e
        self._torn = False
        self._sequence += 1

    def close(self) -> None:
        """
        Raises:
            OutputError: the last step was not written.
        """
        self._closing.set()
        if (port := self._port) is not None:
            port.close()
        if port is None or self._torn:
            raise OutputError(f"{self._where}: the last step could not be written; the receiver stops by itself")

    def _open_again(self, gone: Port) -> None:
        with contextlib.suppress(OSError):
            gone.close()
        while not self._closing.wait(REOPEN_S):
            try:
                self._port = self._reopen()
            except OutputError:
                continue
            return


class BufferFull(OSError):
    """The port is there, and what was written before waits in it: nobody takes it, or not as fast as it comes."""


class _PromptPort:
    """A `serial.Serial` whose write never waits, and fails where the line would wait.

    pyserial's own says "Write timeout" where nobody takes the bytes as well as where this process was held up after the
    kernel had taken every one of them (https://github.com/pyserial/pyserial/issues/281).
    """

    def __init__(self, port: Any) -> None:
        self._port, self._descriptor = port, port.fileno()
        self._most_waiting = max(STALE_S * port.baudrate / BITS_PER_BYTE, LINE_BYTES)
        self._waiting = array.array("i", [0])

    def write(self, data: bytes, /) -> int:
        fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, self._waiting)
        if self._waiting[0] > self._most_waiting:
            raise BufferFull(f"{self._waiting[0]} bytes wait to be sent")
        try:
            done = os.write(self._descriptor, data)
        except BlockingIOError:
            done = 0
        if done < len(data):
            raise BufferFull("the buffer is full")
        return done

    def close(self) -> None:
        self._port.close()


def open_address(address: Address) -> SerialSink:
    """`serial:PORT`."""
    address.require("baud")
    return open_serial(address.path, baud=round(address.number("baud", 115200, 300, 4e6)))


def open_serial(path: str, *, baud: int = 115200) -> SerialSink:
    """Open a serial port.

    Raises:
        MissingExtraError: pyserial is not installed.
        OutputError: there is no such port, or it cannot be opened.
    """
    try:
        import serial
    except ModuleNotFoundError as e:
        raise MissingExtraError("pyserial", "serial") from e

    def opened() -> Port:
        try:
            return _PromptPort(serial.Serial(path, baud, timeout=0))
        except (serial.SerialException, ValueError, OSError) as e:
            raise OutputError(f"serial:{path}: cannot be opened: {e}") from e

    return SerialSink(opened(), f"serial:{path}", opened)
