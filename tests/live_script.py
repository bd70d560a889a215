"""A camera by script for the live loop, on a clock of its own: one event per frame period."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.drive.step import Step
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.source.protocol import Frame, SourceInfo

__all__ = ["PERIOD_NS", "Clock", "Event", "LiveScript", "at_period"]

PERIOD_NS = 50_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10_000_000_000

    def __call__(self) -> int:
        return self.now_ns


Event = Callable[["LiveScript"], NDArray[np.uint8] | None]
"""What happens in one frame period: an image, or None for no frame."""


class LiveScript:
    """A camera at 20 Hz on a clock of its own: one entry of the script per period, then the drive is ended."""

    def __init__(self, control: Control, script: list[Event]) -> None:
        self.info = SourceInfo(where="script", kind="camera", live=True, width=64, height=48, rate_hz=20, frames=None)
        self.lost: dict[str, int] = {}
        self.connected = True
        self.clock = Clock()
        self.delay_ns = 1_000_000
        self._control, self._script = control, script
        self._period = 0
        self._begin_ns = self.clock.now_ns

    @property
    def period(self) -> int:
        return self._period

    def newest(self, timeout_s: float) -> Frame | None:
        due_ns = self._begin_ns + self._period * PERIOD_NS
        limit_ns = self.clock.now_ns + round(timeout_s * 1e9)
        if self._period == len(self._script):
            self._control.end("end of script")
            return None
        if due_ns > limit_ns:
            self.clock.now_ns = limit_ns
            return None
        self.clock.now_ns = max(self.clock.now_ns, due_ns)
        event = self._script[self._period]
        self._period += 1
        image = event(self)
        if image is None:
            return None
        arrived_ns = self.clock.now_ns - self.delay_ns
        return Frame(id=self._period - 1, time_s=(self._period - 1) / 20, image=image, arrived_ns=arrived_ns)

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def at_period(steps: list[Step], period: int) -> Step:
    """The last word within the period."""
    end_ns = 10_000_000_000 + (period + 1) * PERIOD_NS
    return [s for s in steps if s.decided_ns < end_ns][-1]
