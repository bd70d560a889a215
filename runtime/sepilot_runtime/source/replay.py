"""A recording played as a camera: its frames come when they are due, and whoever is late misses them.

For dry runs: what a live drive would have done on this road, at this speed, with its limits and its outputs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator

from sepilot_runtime.source.pace import LONGEST_WAIT_S
from sepilot_runtime.source.protocol import EndOfSource, Frame, Source, SourceAround, SourceInfo

__all__ = ["ReplaySource"]


class ReplaySource(SourceAround[Source]):
    """A file source as a live one, without the pauses of over a second in it. At its end `newest` raises EndOfSource.

    Attributes:
        info: of the file, as a live source.
        lost: what the file lost, and "dropped": frames that were due before anyone asked.
    """

    connected = True

    def __init__(
        self,
        source: Source,
        *,
        rate_hz: float | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            rate_hz: gives the frames at this rate instead of by their own time stamps.
        """
        super().__init__(source)
        self.info: SourceInfo = dataclasses.replace(source.info, live=True, rate_hz=rate_hz or source.info.rate_hz)
        self._rate_hz = rate_hz
        self._clock_ns, self._sleep = clock_ns, sleep
        self._dropped = 0
        self._frames: Iterator[Frame] | None = None
        self._next: tuple[Frame, int] | None = None
        self._start_ns: int | None = None
        self._last_s: float | None = None
        self._count = 0

    @property
    def lost(self) -> dict[str, int]:
        return dict(Counter(self._source.lost) + Counter(dropped=self._dropped))

    def newest(self, timeout_s: float) -> Frame | None:
        """The last frame that is due, or the next one if it becomes due within `timeout_s`."""
        limit_ns = self._clock_ns() + round(timeout_s * 1e9)
        due = self._peek()
        if due is None:
            raise EndOfSource
        if due[1] > limit_ns:
            self._sleep(timeout_s)
            return None
        if (wait_ns := due[1] - self._clock_ns()) > 0:
            self._sleep(wait_ns / 1e9)
        self._next = None
        while (later := self._peek()) is not None and later[1] <= self._clock_ns():
            due, self._next = later, None
            self._dropped += 1
        return dataclasses.replace(due[0], arrived_ns=due[1])

    def __iter__(self) -> Iterator[Frame]:
        with contextlib.suppress(EndOfSource):
            while True:
                if (frame := self.newest(1.0)) is not None:
                    yield frame

    def _peek(self) -> tuple[Frame, int] | None:
        """The next frame and when it is due; it is decoded ahead of that, as a camera does."""
        if self._next is None:
            self._frames = self._frames or iter(self._source)
            frame = next(self._frames, None)
            if frame is None:
                return None
            at_s = self._count / self._rate_hz if self._rate_hz else frame.time_s
            if self._start_ns is None:
                self._start_ns = self._clock_ns() - round(at_s * 1e9)
            elif self._last_s is not None and at_s - self._last_s > LONGEST_WAIT_S:
                # A pause of the recording is no fault of the camera that it plays.
                self._start_ns -= round((at_s - self._last_s - 1 / self.info.rate_hz) * 1e9)
            self._last_s = at_s
            self._next = frame, self._start_ns + round(at_s * 1e9)
            self._count += 1
        return self._next
