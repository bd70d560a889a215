"""A camera that gives more than is wanted: of its frames, the newest, so many times per second."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping

from sepilot_runtime.source.pace import next_turn, paced_at
from sepilot_runtime.source.protocol import Frame, LiveSource, SourceAround, SourceInfo

__all__ = ["ThrottledSource"]


class ThrottledSource(SourceAround[LiveSource]):
    """A live source of which at most `rate_hz` frames per second are taken. Those in between count as dropped there.

    Attributes:
        info: of the camera, at the lower rate.
    """

    def __init__(
        self,
        source: LiveSource,
        rate_hz: float,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(source)
        self.info: SourceInfo = dataclasses.replace(source.info, rate_hz=min(rate_hz, source.info.rate_hz))
        self._period_ns = round(1e9 / rate_hz)
        self._clock_ns, self._sleep = clock_ns, sleep
        self._due_ns = 0

    @property
    def connected(self) -> bool:
        return self._source.connected

    @property
    def lost(self) -> Mapping[str, int]:
        return self._source.lost

    def newest(self, timeout_s: float) -> Frame | None:
        """The newest frame once it is due, waiting for both at most `timeout_s` in all."""
        wait_s = (self._due_ns - self._clock_ns()) / 1e9
        if wait_s > 0:
            self._sleep(min(wait_s, timeout_s))
            if wait_s >= timeout_s:
                return None
        frame = self._source.newest(timeout_s - max(wait_s, 0.0))
        if frame is not None:
            self._due_ns = next_turn(self._due_ns, self._clock_ns(), self._period_ns)
        return frame

    def __iter__(self) -> Iterator[Frame]:
        return paced_at(1e9 / self._period_ns, clock_ns=self._clock_ns, sleep=self._sleep)(self._source)
