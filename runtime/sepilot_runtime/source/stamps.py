"""The time stamps that a camera's driver puts on frames: how old a frame is that waited in a queue."""

from __future__ import annotations

__all__ = ["Delays", "is_our_clock"]

LONGEST_DELAY_NS = 1_000_000_000
"""A stamp that lies further back than this when the first frame comes is on another clock than ours."""

MOST_AHEAD_NS = 1_000_000
"""Stamps are in microseconds, so one that is right may lie a little ahead."""

SETTLING_NS = 900_000_000
"""A clock that was set is believed anew when it went on for so long."""

DRIFT_PER_NS = 5000
"""A clock may lose one part in this many against ours."""


def is_our_clock(stamp_ns: int, now_ns: int) -> bool:
    """Whether the stamp of a drive's first frame, which comes at `now_ns`, can be a time of the same clock."""
    return -MOST_AHEAD_NS < now_ns - stamp_ns < LONGEST_DELAY_NS


class Delays:
    """How much longer than the quickest frame each took from its stamp to here, whatever becomes of the stamps' clock.

    Stamps count up and do not lie ahead of now. One that does otherwise comes from a clock that was set, for good or
    for one frame: the least delay of the new clock takes the place of the old one's when no other such stamp came for
    a while. Until then the old one counts: a driver that hands out old buffers must not pass for a clock that was set.
    """

    def __init__(self, stamp_ns: int, now_ns: int) -> None:
        self._least_ns = self._newer_ns = now_ns - stamp_ns
        self._stamp_ns, self._now_ns = stamp_ns, now_ns
        self._settled_ns: int | None = None

    def beyond_least(self, stamp_ns: int, now_ns: int) -> int:
        """Nanoseconds, at least 0."""
        delay_ns, drift_ns = now_ns - stamp_ns, (now_ns - self._now_ns) // DRIFT_PER_NS
        if stamp_ns < self._stamp_ns or delay_ns < min(self._newer_ns, 0) - MOST_AHEAD_NS:
            self._newer_ns, self._settled_ns = delay_ns, now_ns + SETTLING_NS
        self._newer_ns = min(self._newer_ns + drift_ns, delay_ns)
        if self._settled_ns is None or now_ns >= self._settled_ns:
            self._least_ns, self._settled_ns = self._newer_ns, None
        else:
            self._least_ns += drift_ns
        self._stamp_ns, self._now_ns = stamp_ns, now_ns
        return max(0, delay_ns - self._least_ns)
