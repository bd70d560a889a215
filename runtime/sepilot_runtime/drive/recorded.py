"""Steering by recorded frames, every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.drive.actuation import STEERING, Actuation, Actuator
from sepilot_runtime.drive.delivery import tell_all
from sepilot_runtime.drive.step import Sink, Step, neutral_step
from sepilot_runtime.drive.summary import DriveSummary, Tally
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.source.pace import Pace
from sepilot_runtime.source.protocol import Source

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

    Args:
        pace: `paced` or `paced_at`; without, as fast as they come.

    Raises:
        DriveError: the source failed before the first frame.
        ModelFileError: the model answered with NaN or infinity.
        OutputError: a sink cannot write.
    """
    actuation, control = actuation or Actuation(), control or Control()
    actuator, tally = Actuator(actuation), Tally(clock_ns)
    ended = "stopped by an error"
    try:
        for frame in pace(source):
            start = time.perf_counter_ns()
            try:
                prediction = pilot.predict(frame.image)
            except FrameError as e:
                tally.refused[e.reason] += 1
                continue
            total_us = (time.perf_counter_ns() - start) / 1000
            now_ns = clock_ns()
            step = Step(
                frame=frame,
                prediction=prediction,
                # The time of a recording is that of its frames, however fast they are gone through.
                steering=actuator.steer(prediction.values[STEERING], round(frame.time_s * 1e9)),
                throttle=actuation.throttle,
                decided_ns=now_ns,
                total_us=total_us,
                age_ms=(now_ns - frame.arrived_ns) / 1e6,
            )
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


def stopped_step(actuator: Actuator, reason: str, now_ns: int) -> Step:
    """The last word of a drive."""
    return neutral_step(actuator.neutral(now_ns), reason, now_ns)
