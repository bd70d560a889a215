"""A PCA9685 servo driver on the I2C bus, as most small cars have it.

Registers and prescale: NXP, PCA9685 data sheet, revision 4, sections 7.3.1 to 7.3.5.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sepilot_runtime.base.errors import MissingExtraError, OutputError, UsageError
from sepilot_runtime.drive.step import Sink, Step, neutral_step
from sepilot_runtime.output.registry import Address

__all__ = ["ServoSettings", "ServoSink", "open_address", "open_servo"]

MODE1, LED0_ON_L, PRESCALE = 0x00, 0x06, 0xFE
SLEEP, AUTO_INCREMENT, RESTART = 0x10, 0x20, 0x80
OSCILLATOR_HZ = 25_000_000
OSCILLATOR_START_S = 0.0005
TICKS = 4096


class Bus(Protocol):
    """The part of `smbus2.SMBus` that is used."""

    def read_byte_data(self, address: int, register: int, /) -> int: ...
    def write_byte_data(self, address: int, register: int, value: int, /) -> None: ...
    def write_i2c_block_data(self, address: int, register: int, data: list[int], /) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServoSettings:
    """Where the servo and the motor's controller are.

    Attributes:
        bus: /dev/i2c-<bus>.
        steering, throttle: channels, 0 to 15.
        low_us, high_us: pulse at -1 and +1; neutral is in the middle.
        rate_hz: of the pulses.
    """

    bus: int = 1
    address: int = 0x40
    steering: int = 1
    throttle: int = 0
    low_us: int = 1000
    high_us: int = 2000
    rate_hz: int = 60

    def __post_init__(self) -> None:
        if not (0 <= self.steering < 16 and 0 <= self.throttle < 16 and self.steering != self.throttle):
            raise UsageError(
                f"pca9685: two different channels from 0 to 15 expected, found {self.steering} and {self.throttle}"
            )
        if not 24 <= self.rate_hz <= 1526:
            raise UsageError(f"pca9685: rate_hz: 24 to 1526 expected, found {self.rate_hz}")
        if not 300 <= self.low_us < self.high_us <= min(2700, 1e6 / self.rate_hz):
            raise UsageError(
                f"pca9685: 300 <= low_us < high_us <= 2700 expected, found {self.low_us} and {self.high_us}"
            )


class ServoSink:
    """Sets both channels at every step, in one bus transfer each.

    After a transfer that failed, the next step opens the bus anew and looks whether the chip still runs as it should:
    an adapter that was unplugged, or a chip that lost its power, is taken up again as soon as it answers.
    """

    def __init__(
        self,
        open_bus: Callable[[], Bus],
        settings: ServoSettings,
        straight: float,
        *,
        start: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            straight: the steering of neutral.
            start: set the chip up, in neutral. Without, it is left alone until the first step: another process has
                started it, and steers by it.

        Raises:
            OutputError: no such bus, or nothing answers at the address.
        """
        self._open_bus, self._settings, self._straight, self._sleep = open_bus, settings, straight, sleep
        self._owns_chip = start
        self._where = f"pca9685 at 0x{settings.address:02x} on i2c-{settings.bus}"
        try:
            self._bus = open_bus()
        except OSError as e:
            raise OutputError(f"/dev/i2c-{settings.bus}: cannot be opened: {e.strerror or e}") from e
        self._failed = False
        try:
            if start:
                self._start()
        except OSError as e:
            self._bus.close()
            raise OutputError(f"{self._where}: does not answer: {e.strerror or e}") from e

    def write(self, step: Step) -> None:
        try:
            if self._failed:
                self._open_again()
            self._set(step.throttle, step.steering)
        except OSError as e:
            self._failed = True
            raise OutputError(f"{self._where}: cannot be written: {e.strerror or e}") from e

    def close(self) -> None:
        """Neutral, which the chip then holds.

        Raises:
            OutputError: the chip did not take it.
        """
        try:
            self.write(self._neutral())
        finally:
            self._bus.close()

    def ticks(self, value: float) -> int:
        """Length of the pulse for a value in [-1, 1], in 4096ths of the period."""
        settings = self._settings
        pulse_us = settings.low_us + (min(max(value, -1.0), 1.0) + 1) / 2 * (settings.high_us - settings.low_us)
        return round(pulse_us * 1e-6 * settings.rate_hz * TICKS)

    def _set(self, throttle: float, steering: float) -> None:
        settings = self._settings
        for channel, value in ((settings.throttle, throttle), (settings.steering, steering)):
            off = self.ticks(value)
            self._bus.write_i2c_block_data(settings.address, LED0_ON_L + 4 * channel, [0, 0, off & 0xFF, off >> 8])

    def _neutral(self) -> Step:
        return neutral_step(self._straight, "the servo driver is opened or closed", time.monotonic_ns())

    def _open_again(self) -> None:
        self._bus.close()
        self._bus = self._open_bus()
        if self._owns_chip and not self._runs():
            self._start()
        self._failed = False

    def _prescale(self) -> int:
        return round(OSCILLATOR_HZ / (TICKS * self._settings.rate_hz)) - 1

    def _runs(self) -> bool:
        """Is the chip as `_start` leaves it? After a loss of power it sleeps, at another rate."""
        address, bus = self._settings.address, self._bus
        mode = bus.read_byte_data(address, MODE1)
        return mode & (SLEEP | AUTO_INCREMENT) == AUTO_INCREMENT and (
            bus.read_byte_data(address, PRESCALE) == self._prescale()
        )

    def _start(self) -> None:
        address, bus, neutral = self._settings.address, self._bus, self._neutral()
        mode = bus.read_byte_data(address, MODE1) & ~(RESTART | SLEEP) | AUTO_INCREMENT
        # The prescaler can be set in sleep only. What the chip held before must not come out when it wakes.
        bus.write_byte_data(address, MODE1, mode | SLEEP)
        bus.write_byte_data(address, PRESCALE, self._prescale())
        self._set(neutral.throttle, neutral.steering)
        bus.write_byte_data(address, MODE1, mode)
        self._sleep(OSCILLATOR_START_S)
        self._set(neutral.throttle, neutral.steering)


def open_address(address: Address) -> Sink:
    """`pca9685:?NAME=VALUE&…`. The chip repeats the last pulse for ever: who survives this process watches over it."""
    plain = dataclasses.asdict(ServoSettings())
    address.require(*plain)
    if address.path:
        raise UsageError(f"--to {address.spec}: pca9685:?NAME=VALUE&… expected")
    settings = ServoSettings(**{name: round(address.number(name, value, 0, 1e6)) for name, value in plain.items()})
    sink = open_servo(settings, address.straight, start=address.start)
    if address.bare:
        return sink
    from sepilot_runtime.output.watchdog import Guarded

    try:
        return Guarded(sink, address.spec, address.straight)
    except OutputError:
        sink.close()
        raise


def open_servo(settings: ServoSettings, straight: float, *, start: bool = True) -> ServoSink:
    """Open the bus; with `start` also start the chip in neutral, which is steering `straight` and throttle 0.

    Raises:
        MissingExtraError: smbus2 is not installed.
        OutputError: no such bus, or nothing answers at the address.
    """
    try:
        from smbus2 import SMBus
    except ModuleNotFoundError as e:
        raise MissingExtraError("smbus2", "servo") from e
    return ServoSink(lambda: SMBus(settings.bus), settings, straight, start=start)
