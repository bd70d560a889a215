"""A recording played as a camera: its frames come when they are due, and whoever is late misses them.

For dry runs: what a live drive would have done on this road, at this speed, with its limits and its outputs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator

from sepilot_runtime.source.pace import Ratekeeper
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
        self._clock_ns = clock_ns
        self._keeper = Ratekeeper(clock_ns=clock_ns, sleep=sleep)
        self._dropped = self._count = 0
        self._frames: Iterator[Frame] | None = None
        self._next: Frame | None = None

    @property
    def lost(self) -> dict[str, int]:
        return dict(Counter(self._source.lost) + Counter(dropped=self._dropped))

    def newest(self, timeout_s: float) -> Frame | None:
        """The last frame that is due, or the next one if it becomes due within `timeout_s`."""
        keeper, frame = self._keeper, self._peek()
        if frame is None:
            raise EndOfSource
        if not keeper.wait(timeout_s):
            return None
        due_ns, self._next = keeper.due_ns, None
        while (later := self._peek()) is not None and keeper.due_ns <= self._clock_ns():
            frame, due_ns, self._next = later, keeper.due_ns, None
            self._dropped += 1
        return dataclasses.replace(frame, arrived_ns=due_ns)

    def __iter__(self) -> Iterator[Frame]:
        with contextlib.suppress(EndOfSource):
            while True:
                if (frame := self.newest(1.0)) is not None:
                    yield frame

    def _peek(self) -> Frame | None:
        """The next frame, for which the keeper now waits; it is decoded ahead of that, as a camera does."""
        if self._next is None:
            self._frames = self._frames or iter(self._source)
            self._next = frame = next(self._frames, None)
            if frame is not None:
                at_s = self._count / self._rate_hz if self._rate_hz else frame.time_s
                # A pause of the recording is no fault of the camera that it plays.
                self._keeper.stamped(at_s, after_pause_s=1 / self.info.rate_hz)
                self._count += 1
        return self._next
