"""Answers to recorded frames, to every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.drive.actuation import Actuation, Actuator, steers
from sepilot_runtime.drive.delivery import tell_all
from sepilot_runtime.drive.numbers import give
from sepilot_runtime.drive.step import Sink, Step, neutral_step
from sepilot_runtime.drive.summary import DriveSummary, Tally
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.source.pace import Pace
from sepilot_runtime.source.protocol import Frame, Source

__all__ = ["drive_frames", "stopped_step"]


def drive_frames(
    pilot: Pilot,
    source: Source,
    sinks: Sequence[Sink],
    *,
    max_frames: int | None = None,
    pace: Pace = iter,
    actuation: Actuation | None = None,
    control: Control | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> DriveSummary:
    """Steer by every frame of `source` and pass each step on to `sinks`, in their order.

    Ctrl-C, or a source that fails on the way, ends the drive and not the program: what was driven until then stays
    valid and the summary says how it ended. A frame of an impossible shape is counted in `lost`. The last step is
    `stopped`, straight ahead, throttle 0, so that whoever acts on them is not left with the word of the last frame.
    Long because a third of it is what it takes and promises.

    Args:
        pace: `paced` or `paced_at`; without, as fast as they come.

    Raises:
        DriveError: the source failed before the first frame.
        ModelFileError: the model answered with NaN or infinity.
        OutputError: a sink cannot write.
    """
    actuator = Actuator(actuation or Actuation(), obeyed=steers(pilot.contract))
    tally, control = Tally(clock_ns), control or Control()
    ended = "stopped by an error"
    try:
        for step in _steps(pilot, pace(source), actuator, tally, clock_ns):
            tally.add(step)
            for sink in sinks:
                sink.write(step)
            if control.ending or tally.frames == max_frames:
                ended = control.ending or "max-frames"
                break
        else:
            ended = "end of source"
    except KeyboardInterrupt:
        ended = "interrupted"
    except DriveError as e:
        if not tally.frames:
            raise
        ended = str(e)
    finally:
        if tally.frames:
            tell_all(sinks, stopped_step(actuator, ended, clock_ns()))
    return tally.result(source.lost, ended)


def _steps(
    pilot: Pilot, frames: Iterable[Frame], actuator: Actuator, tally: Tally, clock_ns: Callable[[], int]
) -> Iterator[Step]:
    """A step for every frame that can be steered by; the others are counted."""
    obeyed: Mapping[str, Any] = {}
    for frame in frames:
        start_ns = clock_ns()
        try:
            give(pilot, frame, obeyed)
            prediction = pilot.predict(frame.image)
        except FrameError as e:
            tally.refused[e.reason] += 1
            continue
        obeyed = prediction.values
        # The time of a recording is that of its frames, however fast they are gone through.
        yield actuator.step(frame, prediction, start_ns, clock_ns(), at_ns=round(frame.time_s * 1e9))


def stopped_step(actuator: Actuator, reason: str, now_ns: int) -> Step:
    """The last word of a drive."""
    return neutral_step(actuator.neutral(now_ns), reason, now_ns, obeyed=actuator.obeyed)
