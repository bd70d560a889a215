"""A PCA9685 on an I2C bus that fails by script. Stands in for smbus2: put this folder first on Python's path.

All of it lies in the folder that FAKE_I2C names, so that several processes share one chip and a test looks on:

log     one line per transfer, in the order in which the chip took them: time, process, what, register, data
fails   one file per transfer that will fail with EIO; each is used up by one
down    while it is there, every transfer fails
gone    while it is there, so does opening the bus: the adapter was unplugged

`Chip` is the side of the test. No lock is held during a transfer: a process may be stopped anywhere.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Chip", "Record", "SMBus"]

ADDRESS = 0x40
MODE1, LED0, PRESCALE = 0x00, 0x06, 0xFE
SLEEP, AUTO_INCREMENT = 0x10, 0x20
POWERED = {MODE1: 0x11, PRESCALE: 0x1E}
"""After power came on, by the data sheet."""


class SMBus:
    def __init__(self, bus: int) -> None:
        self._chip = Chip(Path(os.environ["FAKE_I2C"]))
        if self._chip.is_gone():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._open = True

    def read_byte_data(self, address: int, register: int) -> int:
        self._transfer(address, "read", register)
        return self._chip.register(register)

    def write_byte_data(self, address: int, register: int, value: int) -> None:
        if register == PRESCALE and not self._chip.register(MODE1) & SLEEP:
            raise AssertionError("the prescaler can be set in sleep only")
        self._transfer(address, "write", register, [value])

    def write_i2c_block_data(self, address: int, register: int, data: list[int]) -> None:
        self._transfer(address, "write", register, data)

    def close(self) -> None:
        self._open = False

    def _transfer(self, address: int, what: str, register: int, data: list[int] | None = None) -> None:
        if not self._open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if address != ADDRESS:
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
        failure = self._chip.failure()
        self._chip.note("failed" if failure else what, register, data or [])
        if failure:
            raise OSError(failure, os.strerror(failure))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A transfer that the chip took ("write", "read") or not ("failed"), or what was done: "fail", "heal", "power"."""

    at_ns: int
    process: int
    what: str
    register: int
    data: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chip:
    folder: Path

    def fail(self, count: int | None = None, *, gone: bool = False) -> None:
        """Let the next `count` transfers fail; None: until `heal`."""
        self.note("fail", 0, [])
        if count is None:
            (self.folder / ("gone" if gone else "down")).touch()
        else:
            (self.folder / "fails").mkdir(exist_ok=True)
            for number in range(count):
                (self.folder / "fails" / str(number)).touch()

    def heal(self) -> None:
        self.note("heal", 0, [])
        for name in ("gone", "down"):
            (self.folder / name).unlink(missing_ok=True)

    def power_cycle(self) -> None:
        """The chip forgets everything."""
        for register, value in POWERED.items():
            self.note("power", register, [value])

    def failure(self) -> int:
        """The errno that a transfer fails with now; 0 where it does not. Uses up what `fail` counted."""
        if self.is_gone():
            return errno.ENODEV
        if (self.folder / "down").exists():
            return errno.EIO
        for path in (self.folder / "fails").glob("*"):
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            return errno.EIO
        return 0

    def answers_since_ns(self) -> int | None:
        """When the last transfer that was to fail had failed; None while others are to fail still."""
        if any((self.folder / "fails").glob("*")) or (self.folder / "down").exists() or self.is_gone():
            return None
        return max((record.at_ns for record in self.log() if record.what in ("fail", "failed", "heal")), default=0)

    def is_gone(self) -> bool:
        return (self.folder / "gone").exists()

    def note(self, what: str, register: int, data: list[int]) -> None:
        words = [time.monotonic_ns(), os.getpid(), what, register, *data]
        file = os.open(self.folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        # One call: lines of two processes never mix, and one that is stopped has written a line or has not.
        os.write(file, (" ".join(map(str, words)) + "\n").encode())
        os.close(file)

    def log(self) -> list[Record]:
        try:
            # A reader may see the beginning of a line that is being written.
            lines = (self.folder / "log").read_text().rpartition("\n")[0].splitlines()
        except FileNotFoundError:
            return []
        return [
            Record(at_ns=int(at), process=int(process), what=what, register=int(register), data=tuple(map(int, data)))
            for at, process, what, register, *data in map(str.split, lines)
        ]

    def register(self, register: int) -> int:
        for record in reversed(self.log()):
            if record.what in ("write", "power") and record.register == register:
                return record.data[0]
        return POWERED.get(register, 0)

    def pulses(self, *channels: int) -> Iterator[tuple[Record, tuple[int, ...]]]:
        """After each write: what the channels' pulses are, in ticks; 0 before they were ever set, and in sleep."""
        held, awake = dict.fromkeys(channels, 0), False
        for record in self.log():
            if record.what not in ("write", "power"):
                continue
            if record.register == MODE1:
                awake = not record.data[0] & SLEEP
            for channel in channels:
                if record.register == LED0 + 4 * channel:
                    held[channel] = record.data[2] + 256 * record.data[3]
            yield record, tuple(held[channel] if awake else 0 for channel in channels)
