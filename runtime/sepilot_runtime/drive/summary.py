"""What a drive came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sepilot_runtime.base.latency import Latency, LatencyHistogram
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step

__all__ = ["DriveSummary", "Tally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveSummary:
    """What a drive came to.

    Attributes:
        frames: that were steered by.
        seconds: from the first frame to the end.
        preprocess, infer, post, total: latencies; None without frames. `total` is from the frame in memory to the
            answer.
        age: of a frame when its answer was known, in microseconds; None without frames.
        late: frames that missed their deadline.
        lost: frames that did not come through, by reason.
        seconds_in: time spent in each state.
        neutral: how often each reason led to neutral.
        doubtful: of a run, how many answers each reason casts a doubt on, or kept from being given.
        unwritten: how many steps an output did not take, by what it said.
        ended: "end of source", "max-frames", "interrupted", or what went wrong on the way.
    """

    frames: int
    seconds: float
    preprocess: Latency | None
    infer: Latency | None
    post: Latency | None
    total: Latency | None
    age: Latency | None
    late: int
    lost: dict[str, int]
    seconds_in: dict[str, float]
    neutral: dict[str, int]
    doubtful: dict[str, int]
    unwritten: dict[str, int]
    ended: str


class Tally:
    """Figures of a drive in constant memory."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self.frames, self.late = 0, 0
        self.refused: Counter[str] = Counter()
        self.neutral: Counter[str] = Counter()
        self.doubtful: Counter[str] = Counter()
        self._stages = [LatencyHistogram() for _ in range(5)]
        self._clock_ns, self._start_ns = clock_ns, clock_ns()
        self._since_ns, self._state = self._start_ns, State.WAITING
        self._seconds_in: dict[str, float] = {}

    def add(self, step: Step) -> None:
        if step.prediction is not None and step.age_ms is not None:
            self.frames += 1
            self.late += step.late
            prediction = step.prediction
            values = (
                prediction.preprocess_us, prediction.infer_us, prediction.post_us, step.total_us, step.age_ms * 1000
            )  # fmt: skip
            for stage, value in zip(self._stages, values, strict=True):
                stage.add(value)
        if not step.obeyed and step.reason and (step.state is State.DOUBTFUL or step.frame is not None):
            self.doubtful[step.reason] += 1
        if step.state is not self._state:
            if step.state is State.NEUTRAL:
                self.neutral[step.reason] += 1
            self._leave(step.state)

    def result(self, lost: Mapping[str, int], ended: str, unwritten: Mapping[str, int] | None = None) -> DriveSummary:
        self._leave(self._state)
        preprocess, infer, post, total, age = (stage.result() for stage in self._stages)
        return DriveSummary(
            frames=self.frames,
            seconds=(self._clock_ns() - self._start_ns) / 1e9,
            preprocess=preprocess,
            infer=infer,
            post=post,
            total=total,
            age=age,
            late=self.late,
            lost=dict(Counter(lost) + self.refused),
            seconds_in={state: round(seconds, 3) for state, seconds in self._seconds_in.items()},
            neutral=dict(self.neutral),
            doubtful=dict(self.doubtful),
            unwritten=dict(unwritten or {}),
            ended=ended,
        )

    def _leave(self, state: State) -> None:
        now_ns = self._clock_ns()
        name = self._state.value
        self._seconds_in[name] = self._seconds_in.get(name, 0.0) + (now_ns - self._since_ns) / 1e9
        self._since_ns, self._state = now_ns, state
