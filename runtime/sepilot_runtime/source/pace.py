"""Pacing: frames no faster than wanted, by their time stamps or at a rate."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator

from sepilot_runtime.source.protocol import Frame

__all__ = ["LONGEST_WAIT_S", "Pace", "Ratekeeper", "paced", "paced_at"]

Pace = Callable[[Iterable[Frame]], Iterator[Frame]]
"""Delays frames that come faster than wanted."""


LONGEST_WAIT_S = 1.0
"""Playing by time stamps skips gaps in a recording that are longer than this."""


class Ratekeeper:
    """When the next frame is due, and waiting for it. Everything that paces frames does it by one of these.

    Attributes:
        due_ns: by the clock; 0 is at once.
    """

    def __init__(
        self,
        rate_hz: float | None = None,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            rate_hz: for `taken` and `overtaken`; time stamps need none.
        """
        self.due_ns = 0
        self._period_ns = round(1e9 / rate_hz) if rate_hz else 0
        self._clock_ns, self._sleep = clock_ns, sleep
        self._offset_ns, self._last_s = 0, math.inf

    def wait(self, most_s: float = math.inf) -> bool:
        """Sleep until the frame is due, but no longer than this; whether it is due then."""
        wait_s = (self.due_ns - self._clock_ns()) / 1e9
        if wait_s > 0:
            self._sleep(min(wait_s, most_s))
        return wait_s <= most_s

    def taken(self) -> None:
        """The next one is due a period after this. One that was taken late does not hurry those after it."""
        now_ns = self._clock_ns()
        self.due_ns = (self.due_ns if now_ns - self.due_ns < self._period_ns else now_ns) + self._period_ns

    def overtaken(self) -> int:
        """How many periods have passed since the frame was due, in each of which a newer one took its place."""
        count = max(0, (self._clock_ns() - self.due_ns) // self._period_ns)
        self.due_ns += count * self._period_ns
        return count

    def stamped(self, time_s: float, *, after_pause_s: float = 0.0) -> None:
        """The next one is due by its time stamp, the first at once.

        Args:
            after_pause_s: how long a pause of more than `LONGEST_WAIT_S` takes instead.
        """
        if self._last_s == math.inf:
            self._offset_ns = self._clock_ns() - round(time_s * 1e9)
        elif time_s - self._last_s > LONGEST_WAIT_S:
            self._offset_ns -= round((time_s - self._last_s - after_pause_s) * 1e9)
        self._last_s = time_s
        self.due_ns = self._offset_ns + round(time_s * 1e9)


def paced(
    frames: Iterable[Frame],
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Frame]:
    """Give frames at the speed at which they were recorded; each arrives at the moment at which it is due."""
    keeper = Ratekeeper(clock_ns=clock_ns, sleep=sleep)
    for frame in frames:
        keeper.stamped(frame.time_s)
        keeper.wait()
        yield dataclasses.replace(frame, arrived_ns=clock_ns())


def paced_at(
    rate_hz: float,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Pace:
    """Give at most `rate_hz` frames per second."""

    def pace(frames: Iterable[Frame]) -> Iterator[Frame]:
        waiting, keeper = iter(frames), Ratekeeper(rate_hz, clock_ns=clock_ns, sleep=sleep)
        while True:
            # First wait, then take: a live source goes on replacing its newest frame in the meantime.
            keeper.wait()
            keeper.taken()
            try:
                frame = next(waiting)
            except StopIteration:
                return
            yield frame

    return pace
