"""Steering over a serial line to the microcontroller that drives servo and motor. `docs/serial.md` is the protocol."""

from __future__ import annotations

import os
import select
from typing import Any, Protocol

from sepilot_runtime.errors import MissingExtraError, OutputError
from sepilot_runtime.sinks import Step
from sepilot_runtime.states import State

__all__ = ["SerialSink", "checksum", "line_of_step", "open_serial", "parse_line"]

_LETTERS = {
    State.WAITING: "W", State.DRIVING: "D", State.DEGRADED: "G", State.NEUTRAL: "N", State.STOPPED: "S",
}  # fmt: skip
# A line takes 3 ms at 115200 baud and goes into the driver's buffer; a full one means that nobody takes it.
_WRITE_TIMEOUT_S = 0.05

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
    """One line per step. The receiver goes neutral by itself when no valid line comes for 200 ms."""

    def __init__(self, port: Port, where: str) -> None:
        self._port, self._where = port, where
        self._sequence = 0

    def write(self, step: Step) -> None:
        try:
            self._port.write(line_of_step(self._sequence, step.steering, step.throttle, step.state))
        except OSError as e:
            raise OutputError(f"{self._where}: cannot be written: {e}") from e
        self._sequence += 1

    def close(self) -> None:
        self._port.close()


class _PromptPort:
    """A `serial.Serial` whose write fails where nobody takes the bytes, and only there.

    pyserial's own also says "Write timeout" when this process was held up after the kernel had taken every byte
    (https://github.com/pyserial/pyserial/issues/281).
    """

    def __init__(self, port: Any) -> None:
        self._port = port

    def write(self, data: bytes, /) -> int:
        descriptor, done = self._port.fileno(), 0
        while done < len(data):
            if not select.select([], [descriptor], [], _WRITE_TIMEOUT_S)[1]:
                raise TimeoutError("Write timeout")
            done += os.write(descriptor, data[done:])
        return done

    def close(self) -> None:
        self._port.close()


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
    try:
        port = serial.Serial(path, baud, timeout=0)
    except (serial.SerialException, ValueError, OSError) as e:
        raise OutputError(f"serial:{path}: cannot be opened: {e}") from e
    return SerialSink(_PromptPort(port), f"serial:{path}")
