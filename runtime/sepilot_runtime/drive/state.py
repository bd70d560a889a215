"""The states of a drive, and of a run that only shows what is said."""

from __future__ import annotations

import enum

__all__ = ["State"]


class State(enum.StrEnum):
    """`supervisor.py` has those of a drive, `onlooker.py` those where nobody drives: running and doubtful."""

    WAITING = "waiting"
    DRIVING = "driving"
    DEGRADED = "degraded"
    NEUTRAL = "neutral"
    STOPPED = "stopped"
    RUNNING = "running"
    DOUBTFUL = "doubtful"

    @property
    def answers(self) -> bool:
        """Is what the model says passed on, to the car or to whoever looks on?"""
        return self in (State.DRIVING, State.DEGRADED, State.RUNNING, State.DOUBTFUL)

    @property
    def well(self) -> bool:
        """Is it passed on without reserve?"""
        return self in (State.DRIVING, State.RUNNING)
