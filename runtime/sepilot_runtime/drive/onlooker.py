"""What a live run makes of its findings where nobody obeys the answers: it tells them beside each answer.

waiting    no frame, or none that the model could answer to
running    the answer to this frame
doubtful   the answer to a frame that is odd or worse: black, frozen, unlike those of the training
stopped    somebody or something ended it, or holds it

A car must be kept from going on by one good frame among bad ones. An answer that is only looked at need not: each frame
stands by itself, so nothing here remembers. For the same reason no deadline is missed: a late answer is late.
"""

from __future__ import annotations

from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.supervisor import GOOD, Level, Verdict

__all__ = ["Onlooker"]


class Onlooker:
    """In the place of a `Supervisor`."""

    def __init__(self) -> None:
        self.state = State.WAITING
        self.reason = "no frame yet"

    def judge(self, verdict: Verdict, now_ns: int) -> State:
        """Take in what was found about a frame that was answered to. Nothing leads out of `stopped`."""
        return self._enter(State.RUNNING if verdict.level is Level.GOOD else State.DOUBTFUL, verdict.reason)

    def missing(self, reason: str, now_ns: int) -> State:
        """Take in that there is no answer."""
        return self._enter(State.WAITING, reason)

    def lateness(self, late: bool) -> Verdict:
        return GOOD

    def stop(self, reason: str) -> None:
        """No answers until `start`."""
        self.state, self.reason = State.STOPPED, reason

    def start(self) -> None:
        if self.state is State.STOPPED:
            self.state, self.reason = State.WAITING, "no frame yet"

    def _enter(self, state: State, reason: str) -> State:
        if self.state is not State.STOPPED:
            self.state, self.reason = state, reason
        return self.state
