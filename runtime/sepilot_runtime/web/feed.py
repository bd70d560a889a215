"""What the page knows of the steps. The loop writes, the server's thread reads, and neither waits for the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from sepilot_runtime.sinks import Step
from sepilot_runtime.states import State

__all__ = ["Change", "Record", "Ring", "WebSink"]

RECORDS = 4096
CHANGES = 64
REPEATED_NS = 1_000_000_000
"""A reason that changes within a state, as a count does, is noted at most so often."""

T = TypeVar("T")


class Ring(Generic[T]):
    """The last `size` items. One thread appends, others read, without a lock.

    Attributes:
        count: of all items that were ever appended.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self._slots: list[tuple[int, T] | None] = [None] * size

    def append(self, item: T) -> None:
        self._slots[self.count % len(self._slots)] = (self.count, item)
        self.count += 1

    def backwards(self) -> Iterator[T]:
        """The newest first. It ends where something newer has taken the place meanwhile."""
        slots = self._slots
        for number in range(self.count - 1, -1, -1):
            slot = slots[number % len(slots)]
            if slot is None or slot[0] != number:
                return
            yield slot[1]


class Record(NamedTuple):
    """What is kept of every step; never its frame.

    Attributes:
        model: what the model said, before calibration; None where it was not asked.
        recorded: steering of the recording that is played.
    """

    decided_ns: int
    state: State
    steering: float
    model: float | None
    recorded: float | None
    total_us: float
    age_ms: float | None
    late: bool


class Change(NamedTuple):
    """The drive came into a state, or stayed in it for another reason."""

    at_ns: int
    state: State
    reason: str


class WebSink:
    """Takes the steps of a drive for the page: about 10 µs each, and nothing that can block.

    Attributes:
        records, changes: the last ones.
        newest: the last step; None before the first.
        seen: the last step that had a frame, and how many had one until then.
        state_ns: when the state was entered.
        late, late_ns: frames that missed their deadline, and when the last of them did.
        closed: the drive is over.
    """

    def __init__(self) -> None:
        self.records: Ring[Record] = Ring(RECORDS)
        self.changes: Ring[Change] = Ring(CHANGES)
        self.newest: Step | None = None
        self.seen: tuple[int, Step] | None = None
        self.state_ns = 0
        self.late, self.late_ns = 0, 0
        self.closed = False
        self._frames = 0
        self._noted = Change(0, State.WAITING, "")

    def write(self, step: Step) -> None:
        frame, prediction, now_ns = step.frame, step.prediction, step.decided_ns
        if step.state is not self._noted.state or not self.changes.count:
            self.state_ns = now_ns
            self._note(step)
        elif step.reason != self._noted.reason and now_ns - self._noted.at_ns > REPEATED_NS:
            self._note(step)
        if step.late:
            self.late += 1
            self.late_ns = now_ns
        self.records.append(
            Record(
                now_ns,
                step.state,
                step.steering,
                None if prediction is None else prediction.steering,
                None if frame is None else frame.label,
                step.total_us,
                step.age_ms,
                step.late,
            )
        )
        if frame is not None:
            self._frames += 1
            self.seen = self._frames, step
        self.newest = step

    def close(self) -> None:
        self.closed = True

    def _note(self, step: Step) -> None:
        self._noted = Change(step.decided_ns, step.state, step.reason)
        self.changes.append(self._noted)
