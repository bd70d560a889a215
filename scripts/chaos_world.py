"""A camera, a servo chip and a clock in memory alone, so that a drive of hours takes minutes and repeats itself.

The drive itself is the real one: `drive_live` with its supervisor, a model file, and `ServoSink` on a bus that fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.output.pca9685 import LED0_ON_L, MODE1, PRESCALE, SLEEP, ServoSettings
from sepilot_runtime.source.protocol import Frame, SourceInfo

Image = NDArray[np.uint8]

RATE_HZ = 20.0
PERIOD_NS = round(1e9 / RATE_HZ)
DELAY_NS = 1_000_000
"""From the shutter to the loop, of a healthy camera."""


POWERED = {MODE1: 0x11, PRESCALE: 0x1E}
"""After power came on, by the chip's data sheet."""


class Clock:
    """Monotonic nanoseconds that only go on where something takes time."""

    def __init__(self) -> None:
        self.now_ns = 10_000_000_000

    def __call__(self) -> int:
        return self.now_ns


@dataclass(slots=True)
class Chip:
    """A PCA9685 on an I2C bus: it holds the last pulses for ever, whatever becomes of those who wrote them.

    Attributes:
        failing: transfers from now on that fail.
        answers_ns: until then all transfers fail.
        failed_ns: when a transfer last failed.
    """

    clock: Clock
    settings: ServoSettings
    failing: int = 0
    answers_ns: int = 0
    failed_ns: int = 0
    _registers: dict[int, int] = field(default_factory=lambda: dict(POWERED))
    _off: dict[int, int] = field(default_factory=dict)

    def read_byte_data(self, address: int, register: int, /) -> int:
        self._transfer()
        return self._registers.get(register, 0)

    def write_byte_data(self, address: int, register: int, value: int, /) -> None:
        self._transfer()
        self._registers[register] = value

    def write_i2c_block_data(self, address: int, register: int, data: list[int], /) -> None:
        self._transfer()
        self._off[(register - LED0_ON_L) // 4] = data[2] | data[3] << 8

    def close(self) -> None:
        """Nothing is held."""

    def lose_power(self) -> None:
        """It forgets everything and gives no pulses."""
        self._registers, self._off = dict(POWERED), {}

    @property
    def silent_ns(self) -> int:
        """Until when the bus does not answer, as far as that is known by now."""
        return self.clock.now_ns if self.failing else max(self.failed_ns, self.answers_ns)

    @property
    def pulses(self) -> tuple[int, int]:
        """What motor and servo get, in 4096ths of the period; 0 for no pulse."""
        if self._registers[MODE1] & SLEEP:
            return 0, 0
        return self._off.get(self.settings.throttle, 0), self._off.get(self.settings.steering, 0)

    def _transfer(self) -> None:
        if self.failing > 0 or self.clock.now_ns < self.answers_ns:
            self.failing = max(0, self.failing - 1)
            self.failed_ns = self.clock.now_ns
            raise OSError(121, "Remote I/O error")


@dataclass(slots=True, kw_only=True)
class Arrival:
    """What the camera gives in one period.

    Attributes:
        image: None where no frame comes.
        delay_ns: from its stamp to the loop; negative for a stamp that lies ahead.
        copies: that come at once, as from a driver's queue.
    """

    image: Image | None
    delay_ns: int = DELAY_NS
    copies: int = 1


class Spoiler:
    """Stands between the camera and the loop. This one leaves everything as it is."""

    def arrive(self, recent: Sequence[Image], image: Image) -> Arrival:
        """What comes in place of `image`; `recent` are those that came before a fault began, the newest last."""
        return Arrival(image=image)


class ReplayedCamera:
    """Recorded frames at a steady rate on the clock, one after the other and again from the beginning.

    Attributes:
        spoiler: what is done to the frames from now on; None for nothing.
        period: that is shown; it counts up.
        connected: as a camera says it.
    """

    lost: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, clock: Clock, images: Sequence[Image]) -> None:
        height, width = images[0].shape[:2]
        self.info = SourceInfo(
            where="chaos", kind="camera", live=True, width=width, height=height, rate_hz=RATE_HZ, frames=None
        )
        self.connected = True
        self.spoiler: Spoiler | None = None
        self.period = 0
        self.at = 0
        self._clock, self._images = clock, images
        self._recent: deque[Image] = deque(maxlen=8)
        self._begin_ns = clock.now_ns
        self._queued: deque[Frame] = deque()

    @property
    def due_ns(self) -> int:
        """When the next frame is due."""
        return self._begin_ns + self.period * PERIOD_NS

    def newest(self, timeout_s: float) -> Frame | None:
        if self._queued:
            self._clock.now_ns += 500_000
            return self._queued.popleft()
        due_ns = self.due_ns
        limit_ns = self._clock.now_ns + round(timeout_s * 1e9)
        if due_ns > limit_ns:
            self._clock.now_ns = limit_ns
            return None
        self._clock.now_ns = max(self._clock.now_ns, due_ns)
        # A turn that took longer than a period misses what came in the meantime.
        self.period = (self._clock.now_ns - self._begin_ns) // PERIOD_NS + 1
        self.at = (self.at + 1) % len(self._images)
        image = self._images[self.at]
        if self.spoiler is None:
            self._recent.append(image)
            arrival = Arrival(image=image)
        else:
            arrival = self.spoiler.arrive(self._recent, image)
        if arrival.image is None:
            return None
        stamp_ns = self._clock.now_ns - arrival.delay_ns
        frames = [
            Frame(id=self.period, time_s=self.period / RATE_HZ, image=arrival.image, arrived_ns=stamp_ns)
            for _ in range(arrival.copies)
        ]
        self._queued.extend(frames[1:])
        return frames[0]

    def __len__(self) -> int:
        """Of the recording, in frames."""
        return len(self._images)
