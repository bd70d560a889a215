"""A camera that gives more than is wanted: of its frames, the newest, so many times per second."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping

from sepilot_runtime.source.pace import Ratekeeper, paced_at
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
        self._pace = paced_at(rate_hz, clock_ns=clock_ns, sleep=sleep)
        self._keeper, self._clock_ns = Ratekeeper(rate_hz, clock_ns=clock_ns, sleep=sleep), clock_ns

    @property
    def connected(self) -> bool:
        return self._source.connected

    @property
    def lost(self) -> Mapping[str, int]:
        return self._source.lost

    def newest(self, timeout_s: float) -> Frame | None:
        """The newest frame once it is due, waiting for both at most `timeout_s` in all."""
        end_ns = self._clock_ns() + round(timeout_s * 1e9)
        if not self._keeper.wait(timeout_s):
            return None
        frame = self._source.newest(max(0.0, (end_ns - self._clock_ns()) / 1e9))
        if frame is not None:
            self._keeper.taken()
        return frame

    def __iter__(self) -> Iterator[Frame]:
        return self._pace(self._source)
