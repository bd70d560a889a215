"""Pacing: frames no faster than wanted, by their time stamps or at a rate."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

from sepilot_runtime.source.protocol import Frame

__all__ = ["LONGEST_WAIT_S", "Pace", "next_turn", "paced", "paced_at"]

Pace = Callable[[Iterable[Frame]], Iterator[Frame]]
"""Delays frames that come faster than wanted."""


LONGEST_WAIT_S = 1.0
"""Playing by time stamps skips gaps in a recording that are longer than this."""


def paced(
    frames: Iterable[Frame],
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Frame]:
    """Give frames at the speed at which they were recorded; each arrives at the moment at which it is due."""
    offset_s: float | None = None
    for frame in frames:
        now_s = clock_ns() / 1e9
        if offset_s is None or frame.time_s + offset_s - now_s > LONGEST_WAIT_S:
            offset_s = now_s - frame.time_s
        if (wait_s := frame.time_s + offset_s - now_s) > 0:
            sleep(wait_s)
        yield dataclasses.replace(frame, arrived_ns=clock_ns())


def next_turn(due_ns: int, now_ns: int, period_ns: int) -> int:
    """When the turn after the one of `due_ns` is due. One that comes late does not hurry those after it."""
    return (due_ns if now_ns - due_ns < period_ns else now_ns) + period_ns


def paced_at(
    rate_hz: float,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Pace:
    """Give at most `rate_hz` frames per second."""
    period_ns = round(1e9 / rate_hz)

    def pace(frames: Iterable[Frame]) -> Iterator[Frame]:
        waiting = iter(frames)
        due_ns = clock_ns()
        while True:
            # First wait, then take: a live source goes on replacing its newest frame in the meantime.
            if (wait_ns := due_ns - clock_ns()) > 0:
                sleep(wait_ns / 1e9)
            now_ns = clock_ns()
            due_ns = next_turn(due_ns, now_ns, period_ns)
            try:
                frame = next(waiting)
            except StopIteration:
                return
            yield frame

    return pace
