"""The drive loop: newest frame in, steering out, with its time and age beside it."""

from __future__ import annotations

import dataclasses
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sepilot_runtime.errors import DriveError, FrameError
from sepilot_runtime.latency import Latency, latency_of
from sepilot_runtime.pilot import Pilot
from sepilot_runtime.sinks import Sink, Step
from sepilot_runtime.sources import Frame, Source

__all__ = ["DriveSummary", "Pace", "drive_frames", "paced", "paced_at"]

Pace = Callable[[Iterable[Frame]], Iterator[Frame]]
"""Delays frames that come faster than wanted."""

LONGEST_WAIT_S = 1.0
"""Pacing by time stamps skips gaps in a recording that are longer than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveSummary:
    """What a drive came to.

    Attributes:
        frames: that were steered by.
        seconds: from the first frame to the end.
        preprocess, infer, total: latencies; None without frames. `total` is from the frame in memory to the steering.
        age_p50_ms: median age of a frame when its steering was known; None without frames.
        lost: frames that did not come through, by reason.
        ended: "end of source", "max-frames", "interrupted", or what went wrong with the source on the way.
    """

    frames: int
    seconds: float
    preprocess: Latency | None
    infer: Latency | None
    total: Latency | None
    age_p50_ms: float | None
    lost: dict[str, int]
    ended: str


def drive_frames(
    pilot: Pilot,
    source: Source,
    sinks: Sequence[Sink],
    *,
    max_frames: int | None = None,
    pace: Pace = iter,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> DriveSummary:
    """Steer by every frame of `source` and pass each step on to `sinks`, in their order.

    Ctrl-C, or a source that fails on the way, ends the drive and not the program: what was driven until then stays
    valid and the summary says how it ended. A frame of an impossible shape is counted in `lost`.

    Args:
        pace: `paced` or `paced_at`; without, as fast as they come.

    Raises:
        DriveError: the source failed before the first frame.
        ModelFileError: the model answered with NaN or infinity.
        OutputError: a sink cannot write.
    """
    stages = [array("d") for _ in range(4)]
    refused: Counter[str] = Counter()
    ended = "end of source"
    start = time.perf_counter()
    try:
        for frame in pace(source):
            try:
                step = _step(pilot, frame, clock_ns)
            except FrameError as e:
                refused[e.reason] += 1
                continue
            _record(stages, step)
            for sink in sinks:
                sink.write(step)
            if len(stages[0]) == max_frames:
                ended = "max-frames"
                break
    except KeyboardInterrupt:
        ended = "interrupted"
    except DriveError as e:
        if not stages[0]:
            raise
        ended = str(e)
    preprocess, infer, total, age = (latency_of(stage) if stage else None for stage in stages)
    return DriveSummary(
        frames=len(stages[0]),
        seconds=time.perf_counter() - start,
        preprocess=preprocess,
        infer=infer,
        total=total,
        age_p50_ms=age.p50_us / 1000 if age else None,
        lost=dict(Counter(source.lost) + refused),
        ended=ended,
    )


def _step(pilot: Pilot, frame: Frame, clock_ns: Callable[[], int]) -> Step:
    start = time.perf_counter_ns()
    prediction = pilot.steer(frame.image)
    total_us = (time.perf_counter_ns() - start) / 1000
    return Step(
        frame=frame,
        prediction=prediction,
        total_us=total_us,
        age_ms=(clock_ns() - frame.arrived_ns) / 1e6,
    )


def _record(stages: Sequence[array[float]], step: Step) -> None:
    prediction = step.prediction
    for stage, value in zip(
        stages, (prediction.preprocess_us, prediction.infer_us, step.total_us, step.age_ms * 1000), strict=True
    ):
        stage.append(value)


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


def paced_at(
    rate_hz: float,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Pace:
    """Give at most `rate_hz` frames per second. A turn that comes late does not hurry those after it."""
    period_ns = round(1e9 / rate_hz)

    def pace(frames: Iterable[Frame]) -> Iterator[Frame]:
        waiting = iter(frames)
        due_ns = clock_ns()
        while True:
            # First wait, then take: a live source goes on replacing its newest frame in the meantime.
            if (wait_ns := due_ns - clock_ns()) > 0:
                sleep(wait_ns / 1e9)
            now_ns = clock_ns()
            due_ns = (due_ns if now_ns - due_ns < period_ns else now_ns) + period_ns
            try:
                frame = next(waiting)
            except StopIteration:
                return
            yield frame

    return pace
