"""A PCA9685 servo driver on the I2C bus, as most small cars have it.

Registers and prescale: NXP, PCA9685 data sheet, revision 4, sections 7.3.1 to 7.3.5.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sepilot_runtime.errors import MissingExtraError, OutputError, UsageError
from sepilot_runtime.sinks import Step

__all__ = ["ServoSettings", "ServoSink", "open_servo"]

MODE1, LED0_ON_L, PRESCALE = 0x00, 0x06, 0xFE
SLEEP, AUTO_INCREMENT, RESTART = 0x10, 0x20, 0x80
OSCILLATOR_HZ = 25_000_000
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
    """Sets both channels at every step, in one bus transfer each."""

    def __init__(self, bus: Bus, settings: ServoSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """
        Raises:
            OutputError: nothing answers at the address.
        """
        self._bus, self._settings = bus, settings
        self._where = f"pca9685 at 0x{settings.address:02x} on i2c-{settings.bus}"
        try:
            self._start(sleep)
        except OSError as e:
            raise OutputError(f"{self._where}: does not answer: {e.strerror or e}") from e

    def write(self, step: Step) -> None:
        self._set(step.steering, step.throttle)

    def close(self) -> None:
        """Straight ahead and throttle 0, which the chip then holds."""
        self._set(0.0, 0.0)
        self._bus.close()

    def ticks(self, value: float) -> int:
        """Length of the pulse for a value in [-1, 1], in 4096ths of the period."""
        settings = self._settings
        pulse_us = settings.low_us + (min(max(value, -1.0), 1.0) + 1) / 2 * (settings.high_us - settings.low_us)
        return round(pulse_us * 1e-6 * settings.rate_hz * TICKS)

    def _set(self, steering: float, throttle: float) -> None:
        settings = self._settings
        try:
            for channel, value in ((settings.throttle, throttle), (settings.steering, steering)):
                off = self.ticks(value)
                self._bus.write_i2c_block_data(settings.address, LED0_ON_L + 4 * channel, [0, 0, off & 0xFF, off >> 8])
        except OSError as e:
            raise OutputError(f"{self._where}: cannot be written: {e.strerror or e}") from e

    def _start(self, sleep: Callable[[float], None]) -> None:
        address, bus = self._settings.address, self._bus
        mode = bus.read_byte_data(address, MODE1) & ~RESTART
        # The prescaler can be set in sleep only, and the oscillator takes 500 µs to start.
        bus.write_byte_data(address, MODE1, (mode | SLEEP) & 0x7F)
        bus.write_byte_data(address, PRESCALE, round(OSCILLATOR_HZ / (TICKS * self._settings.rate_hz)) - 1)
        bus.write_byte_data(address, MODE1, (mode & ~SLEEP) | AUTO_INCREMENT)
        sleep(0.0005)
        self._set(0.0, 0.0)


def open_servo(settings: ServoSettings) -> ServoSink:
    """Open the bus and start the chip in neutral.

    Raises:
        MissingExtraError: smbus2 is not installed.
        OutputError: no such bus, or nothing answers at the address.
    """
    try:
        from smbus2 import SMBus
    except ModuleNotFoundError as e:
        raise MissingExtraError("smbus2", "servo") from e
    try:
        bus = SMBus(settings.bus)
    except OSError as e:
        raise OutputError(f"/dev/i2c-{settings.bus}: cannot be opened: {e.strerror or e}") from e
    return ServoSink(bus, settings)
