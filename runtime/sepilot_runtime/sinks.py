"""Sinks: where the steering goes. Each takes one step of the loop at a time; several may stand side by side."""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

from sepilot_runtime.errors import OutputError, SepilotError
from sepilot_runtime.states import State

# For its types alone: the watchdog's process imports this module, and shall neither wait for numpy nor hold it.
if TYPE_CHECKING:
    from sepilot_runtime.pilot import Prediction
    from sepilot_runtime.sources import Frame

__all__ = ["Background", "JsonLinesSink", "ListSink", "Sink", "Step", "neutral_step"]

REOPEN_S = 2.0
"""Between two tries to open what could not be opened, or broke."""

HUNG_S = 30.0
"""A step that takes a sink longer than this will never end: even a card that is worn out answers before."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One turn of the loop.

    Attributes:
        state, reason: of the drive after this turn; `reason` is "" while driving.
        frame, prediction: None where none came, or where the frame was not steered by.
        steering: what the car gets, after calibration, smoothing and limits; straight ahead unless the state steers.
        throttle: what the car gets; 0 unless the state steers.
        decided_ns: `time.monotonic_ns()` of the decision.
        total_us: from the frame in memory to the steering; 0 without a frame.
        age_ms: from the arrival of the frame to the steering; None without a frame.
        late: the frame missed its deadline.
    """

    frame: Frame | None
    prediction: Prediction | None
    steering: float
    throttle: float = 0.0
    state: State = State.DRIVING
    reason: str = ""
    decided_ns: int = 0
    total_us: float = 0.0
    age_ms: float | None = None
    late: bool = False


def neutral_step(
    straight: float,
    reason: str,
    decided_ns: int,
    *,
    state: State = State.STOPPED,
    frame: Frame | None = None,
    prediction: Prediction | None = None,
    total_us: float = 0.0,
    age_ms: float | None = None,
    late: bool = False,
) -> Step:
    """What the car gets when nobody drives: straight ahead and throttle 0, at once.

    Every neutral is made here: the drive's, that of a servo driver which is opened or closed, and the watchdog's.

    Args:
        straight: `Actuation.straight`.
    """
    return Step(
        frame=frame, prediction=prediction, steering=straight, throttle=0.0, state=state, reason=reason,
        decided_ns=decided_ns, total_us=total_us, age_ms=age_ms, late=late,
    )  # fmt: skip


class Sink(Protocol):
    """Takes what the loop decided. What drives the car must see every step, neutral ones above all."""

    def write(self, step: Step) -> None:
        """Pass one step on, within a millisecond. Raises OutputError where it cannot."""

    def close(self) -> None:
        """Leave the car in neutral and give back what is held. The last step before it is `stopped`."""


class JsonLinesSink:
    """One JSON object per step and line, flushed at once, so that a program behind a pipe steers without delay.

    Keys: state, reason (unless empty), steering in [-1, 1] with + = right and throttle as the car gets them, and with a
    frame: frame (id), time_s, total_us, age_ms, and recorded (steering) where the source has it; with a prediction:
    steering_deg, raw (before clipping), preprocess_us, infer_us.
    """

    def __init__(self, file: TextIO, shown_as: str = "standard output", *, frames_only: bool = False) -> None:
        """
        Args:
            frames_only: leave out steps without a frame, so that a recording gives one line per frame.
        """
        self._file, self._shown_as, self._frames_only = file, shown_as, frames_only

    def write(self, step: Step) -> None:
        if self._frames_only and step.frame is None:
            return
        try:
            self._file.write(json.dumps(line_of(step)) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as e:
            raise OutputError(f"{self._shown_as}: cannot be written: {e.strerror or e}") from e

    def close(self) -> None:
        """The file belongs to whoever opened it."""


def line_of(step: Step) -> dict[str, float | str]:
    """A step as plain values; the keys are those of `JsonLinesSink`."""
    line: dict[str, float | str] = {}
    frame, prediction = step.frame, step.prediction
    if frame is not None:
        line |= {"frame": frame.id, "time_s": round(frame.time_s, 4)}
    line |= {"state": step.state.value, "steering": round(step.steering, 6), "throttle": round(step.throttle, 6)}
    if step.reason:
        line["reason"] = step.reason
    if prediction is not None:
        line |= {
            "steering_deg": round(prediction.steering_deg, 4),
            "raw": round(prediction.raw, 6),
            "preprocess_us": round(prediction.preprocess_us, 1),
            "infer_us": round(prediction.infer_us, 1),
        }
    if frame is not None and step.age_ms is not None:
        line |= {"total_us": round(step.total_us, 1), "age_ms": round(step.age_ms, 3)}
        if frame.label is not None:
            line["recorded"] = round(frame.label, 6)
    return line


class ListSink:
    """Keeps every step, for tests and for looking at a drive from Python."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.closed = False

    def write(self, step: Step) -> None:
        self.steps.append(step)

    def close(self) -> None:
        self.closed = True


class Background:
    """Runs another sink in a thread of its own, so that a slow disk or a reader that stopped reading holds nothing up.

    Attributes:
        dropped: steps that did not reach the sink, as newer ones had come or the queue was full.
        failure: what went wrong in the sink; it gets no further steps then, and the drive goes on.
        newest: whether only the newest step counts.
        name: of the sink, for messages.
    """

    def __init__(
        self,
        sink: Sink | None,
        *,
        keep: Literal["newest", "all"],
        depth: int = 64,
        close_s: float = 2.0,
        hung_s: float = HUNG_S,
        name: str = "",
        reopen: Callable[[], Sink] | None = None,
        reopen_s: float = REOPEN_S,
    ) -> None:
        """
        Args:
            sink: None is opened by `reopen` in the background.
            name: for messages; without, that of the sink's class.
            reopen: opens the sink again where it broke, every `reopen_s` until it can; steps wait or are dropped in
                the meantime, and the first failure is told on stderr at once. Without, a sink that breaks is done with.
            keep: with `newest` an old step gives way to a new one and the queue holds one; with `all` every step is
                kept until `depth` of them wait, and later ones are dropped.
            close_s: how long `close` waits for what is queued.
            hung_s: how long it then waits for the step that the sink is at.
        """
        self.dropped = 0
        self.failure: str | None = None
        self.newest, self.name = keep == "newest", name or type(sink).__name__
        self._reopen, self._reopen_s = reopen, reopen_s
        self._told = False
        self._sink, self._close_s, self._hung_s = sink, close_s, hung_s
        self._queue: deque[Step] = deque()
        self._depth = 1 if self.newest else depth
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._thread.start()

    def write(self, step: Step) -> None:
        if self.failure is not None and self._reopen is None:
            return
        with self._changed:
            if self._closing:
                return
            if len(self._queue) >= self._depth:
                self.dropped += 1
                if not self.newest:
                    return
                self._queue.popleft()
            self._queue.append(step)
            self._changed.notify()

    def close(self) -> None:
        """Let the sink finish what is queued, if it can within `close_s`, and close it.

        After that the sink is not written to any more, so that what it writes into can be released: the rest of the
        queue is dropped, and the step that the sink is at is waited for. One that takes longer than `hung_s` (a pipe
        that nobody reads, a disk that does not answer) never ends; it is told as a failure and left behind.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(self._close_s)
        with self._changed:
            self.dropped += len(self._queue)
            self._queue.clear()
        self._thread.join(self._hung_s)
        if self._thread.is_alive():
            self.failure = f"{self.name}: its last step did not end within {self._hung_s:g} s"

    def _run(self) -> None:
        # Whatever a sink raises ends that sink alone, and is told: nobody reads the traceback of a thread.
        while self._drained():
            pass
        if self._sink is not None:
            self._close(self._sink)

    def _drained(self) -> bool:
        """Pass steps on until it is closed or the sink breaks; whether another try is to be made."""
        step: Step | None = None
        try:
            if self._sink is None and self._reopen is not None:
                self._sink = self._reopen()
                self.failure = None
            while self._sink is not None and (step := self._next()) is not None:
                self._sink.write(step)
        except Exception as e:  # noqa: BLE001
            self.dropped += step is not None and self._reopen is not None
            self.failure = self._words(e)
        else:
            return False
        return self._reopen is not None and self._waited()

    def _waited(self) -> bool:
        """Tell, let go of what broke, and wait; false when it is closed in the meantime."""
        if not self._told:
            self._told = True
            print(f"warning: {self.failure}; trying again", file=sys.stderr)
        broken, self._sink = self._sink, None
        if broken is not None:
            self._close(broken)
        with self._changed:
            return not self._changed.wait_for(lambda: self._closing, self._reopen_s)

    def _close(self, sink: Sink) -> None:
        try:
            sink.close()
        except Exception as e:  # noqa: BLE001
            self.failure = self.failure or self._words(e)

    def _words(self, error: Exception) -> str:
        """One line about what a sink raised."""
        if isinstance(error, BrokenPipeError):
            return "the reader has gone"
        # OpenCV's messages are of several lines.
        words = " ".join(str(error).split())
        return words if isinstance(error, SepilotError | OSError) else f"{self.name}: {type(error).__name__}: {words}"

    def _next(self) -> Step | None:
        """The next step, None when closing and all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            return self._queue.popleft() if self._queue else None
