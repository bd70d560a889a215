"""The states of a drive."""

from __future__ import annotations

import enum

__all__ = ["State"]


class State(enum.StrEnum):
    """See above."""

    WAITING = "waiting"
    DRIVING = "driving"
    DEGRADED = "degraded"
    NEUTRAL = "neutral"
    STOPPED = "stopped"

    @property
    def steers(self) -> bool:
        """Does the car get what the model says?"""
        return self in (State.DRIVING, State.DEGRADED)
