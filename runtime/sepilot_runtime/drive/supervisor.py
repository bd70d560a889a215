"""The states of a drive, and what leads from one to the other.

waiting    straight, throttle 0: no good frame has come yet
driving    steering and throttle
degraded   steering, less throttle: a frame was odd (late, repeated once, after a gap); good frames in a row end it
neutral    straight, throttle 0: trouble; good frames in a row end it
stopped    straight, throttle 0: emergency stop, signal, end; only `start` after an emergency stop ends it

`docs/states.md` has the table with all that leads into each.

The supervisor holds no clock and no thread: the loop tells it what it saw and when, frame by frame.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Literal

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.drive.state import State

__all__ = ["GOOD", "Control", "Level", "Limits", "Supervisor", "Verdict"]


class Level(enum.IntEnum):
    """How bad a finding is."""

    GOOD = 0
    ODD = 1
    TROUBLE = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about a frame, or about its absence. `reason` is for people, short, without the frame's number."""

    level: Level
    reason: str = ""


GOOD = Verdict(Level.GOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a live drive stops trusting what it sees.

    Attributes:
        max_gap_periods: neutral when no frame has come for so many frame periods; odd from three quarters of it.
        max_age_ms: an older frame is not steered by.
        max_repeats: a picture that is byte for byte the one before is odd; so many in a row are a frozen camera.
        least_mean, most_mean, least_spread: of the model's picture, in gray levels: darker is black, brighter is
            over-exposed, flatter shows nothing.
        deadline_ms: from the arrival of a frame to the steering; None takes the frame period.
        max_late: neutral when so many of the last `late_window` frames missed the deadline.
        max_lost_rows: a larger share of the picture's rows, one below the other, that is of an earlier picture, or of
            one colour where the training had none such, is trouble.
        max_brightness_step: so many gray levels more or less than the picture before are odd; two such steps within
            eight pictures are trouble.
        least_motion: of the picture while the throttle is not 0, in units of what noise alone shows; two in a row with
            less are trouble, until something moves; 0 does not look.
        start_ms: so long the car may take to start moving.
        max_novelty: of the novelty score, where 1 is the edge of what was trained on: one frame beyond is odd, two in
            a row are trouble. "auto" takes the contract's own limit, "off" does not look.
        recover_frames: good frames in a row, over at least as many frame periods, that end `degraded` and `neutral`.
        max_failures: the drive ends when the model failed on so many frames in a row.
    """

    max_gap_periods: float = 2.0
    max_age_ms: float = 150.0
    max_repeats: int = 2
    least_mean: float = 6.0
    most_mean: float = 250.0
    least_spread: float = 2.0
    deadline_ms: float | None = None
    max_late: int = 5
    late_window: int = 20
    max_lost_rows: float = 0.125
    max_brightness_step: float = 30.0
    least_motion: float = 2.0
    start_ms: float = 2000.0
    max_novelty: float | Literal["auto", "off"] = "auto"
    recover_frames: int = 5
    max_failures: int = 50

    def __post_init__(self) -> None:
        if self.max_gap_periods < 1:
            raise UsageError(f"max_gap_periods: at least 1 expected, found {self.max_gap_periods:g}")
        for name in ("max_repeats", "max_late", "recover_frames", "max_failures"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: at least 1 expected, found {getattr(self, name)}")
        if self.late_window < self.max_late:
            raise UsageError(f"late_window: at least max_late ({self.max_late}) expected, found {self.late_window}")


class Supervisor:
    """The state machine. One call per finding: per frame, or per frame period without a frame.

    Attributes:
        state, reason: now; `reason` is "" while driving.
    """

    def __init__(self, limits: Limits, period_ns: int) -> None:
        """
        Args:
            period_ns: of the frames.
        """
        self.state = State.WAITING
        self.reason = "no frame yet"
        self._limits = limits
        self._good = 0
        # Frames that waited in a queue come all at once: so many of them show no more than one does.
        self._least_good_ns = limits.recover_frames * period_ns
        self._bad_ns = 0
        self._late: deque[bool] = deque(maxlen=limits.late_window)

    def judge(self, verdict: Verdict, now_ns: int) -> State:
        """Take in what was found at `now_ns` and give the state that follows. Nothing leads out of `stopped`."""
        if self.state is State.STOPPED:
            return self.state
        if verdict.level is not Level.GOOD:
            self._bad_ns = now_ns
        if verdict.level is Level.TROUBLE:
            # Before the first good frame there is nothing to lose.
            self._enter(State.WAITING if self.state is State.WAITING else State.NEUTRAL, verdict.reason)
            self._good = 0
            return self.state
        self._good = self._good + 1 if verdict.level is Level.GOOD else 0
        recovered = self._good >= self._limits.recover_frames and now_ns - self._bad_ns >= self._least_good_ns
        if verdict.level is Level.ODD:
            if self.state in (State.DRIVING, State.DEGRADED):
                self._enter(State.DEGRADED, verdict.reason)
            elif self.state is State.WAITING:
                self.reason = verdict.reason
        elif self.state is State.WAITING or recovered:
            self._enter(State.DRIVING, "")
        return self.state

    def missing(self, reason: str, now_ns: int) -> State:
        """Take in that there is no frame, or none that the model can answer to."""
        return self.judge(Verdict(Level.TROUBLE, reason), now_ns)

    def lateness(self, late: bool) -> Verdict:
        """What a missed deadline, or a kept one, means after those before it."""
        self._late.append(late)
        count = sum(self._late)
        if count >= self._limits.max_late:
            return Verdict(Level.TROUBLE, f"{count} of {len(self._late)} frames missed their deadline")
        return Verdict(Level.ODD, "a frame missed its deadline") if late else GOOD

    def stop(self, reason: str) -> None:
        """Neutral until `start`."""
        self._enter(State.STOPPED, reason)

    def start(self) -> None:
        """Leave `stopped`; the next good frame drives."""
        if self.state is State.STOPPED:
            self._enter(State.WAITING, "no frame yet")
            self._good = 0
            self._late.clear()

    def _enter(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason


class Control:
    """What people and signals ask of a running drive, from any thread. The loop looks at it once per frame.

    Attributes:
        ending: why the drive is to end; None while it goes on.
        stopped: why it is to stand still; None while it drives.
        recording: whether what is seen and done is to be recorded.
    """

    def __init__(self, *, recording: bool = False) -> None:
        self.ending: str | None = None
        self.stopped: str | None = None
        self.recording = recording

    def end(self, reason: str) -> None:
        """End the drive; the first reason counts."""
        self.ending = self.ending or reason

    def stop(self, reason: str) -> None:
        """Stand still until `start`."""
        self.stopped = reason

    def start(self) -> None:
        """Drive again after `stop`."""
        self.stopped = None
