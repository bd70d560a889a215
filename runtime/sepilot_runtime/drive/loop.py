"""The drive loop: newest frame in, step out, with its time and age beside it, and a safe answer to every fault.

`drive_frames` steers by recorded frames, every one of them. `drive_live` steers by what a camera sees now, under a
supervisor (`supervisor.py`): whatever goes wrong leads to neutral within two frame periods, and back when it is over.
A model that does not steer goes through the same loop. Its answers are shown, not obeyed: what goes wrong is told
beside them (`onlooker.py`).
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sepilot_runtime.base.errors import ContractError, FrameError, ModelFileError
from sepilot_runtime.contract.frame_shape import FrameShape
from sepilot_runtime.drive.actuation import Actuation, Actuator, steers
from sepilot_runtime.drive.delivery import Delivery
from sepilot_runtime.drive.frame_checks import FrameChecks, Novelty
from sepilot_runtime.drive.numbers import give
from sepilot_runtime.drive.onlooker import Onlooker
from sepilot_runtime.drive.recorded import stopped_step
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Sink, Step, neutral_step
from sepilot_runtime.drive.summary import DriveSummary, Tally
from sepilot_runtime.drive.supervisor import Control, Level, Limits, Supervisor, Verdict
from sepilot_runtime.engine.pilot import Pilot, Prediction
from sepilot_runtime.source.pace import LONGEST_WAIT_S
from sepilot_runtime.source.protocol import EndOfSource, Frame, LiveSource

__all__ = ["drive_live"]


NewPilot = Callable[[], Pilot | None]
"""Asked before every frame: another pilot to go on with, or None."""

NoveltyOf = Callable[[Pilot], Novelty | None]
"""The novelty score for what a pilot was trained on, and its limit; None does not look."""


def drive_live(
    pilot: Pilot,
    source: LiveSource,
    sinks: Sequence[Sink],
    *,
    limits: Limits | None = None,
    actuation: Actuation | None = None,
    control: Control | None = None,
    novelty: NoveltyOf = lambda pilot: None,
    new_pilot: NewPilot = lambda: None,
    max_frames: int | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> DriveSummary:
    """Steer by the newest frame until `control` ends it. Every frame, and every period without one, gives a step.

    The last step is always `stopped`: straight ahead, throttle 0. An output that does not take a step is no end of the
    drive: the car goes neutral, and on when it is taken again (`delivery.py`).

    Args:
        novelty: as `limits.max_novelty` has it; asked for every pilot.
        new_pilot: asked between two frames for a pilot to go on with.

    Raises:
        DriveError: the source cannot come back.
        ModelFileError: the model failed on `limits.max_failures` frames in a row.
    """
    drive = _LiveDrive(
        pilot, sinks, limits or Limits(), actuation or Actuation(), control or Control(), novelty,
        1.0 / source.info.rate_hz, clock_ns,
    )  # fmt: skip
    ended = "stopped by an error"
    with _no_collections():
        try:
            ended = drive.run(source, new_pilot, max_frames)
        except KeyboardInterrupt:
            ended = "interrupted"
        finally:
            drive.finish(ended)
    return drive.tally.result(source.lost, ended, drive.delivery.unwritten)


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Collections in the middle of a drive take longer than a frame; nothing in it makes cycles."""
    gc.collect()
    gc.freeze()
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        gc.unfreeze()


class _LiveDrive:
    """What a live drive keeps from frame to frame."""

    def __init__(
        self,
        pilot: Pilot,
        sinks: Sequence[Sink],
        limits: Limits,
        actuation: Actuation,
        control: Control,
        novelty: NoveltyOf,
        period_s: float,
        clock_ns: Callable[[], int],
    ) -> None:
        self.tally = Tally(clock_ns)
        self._pilot, self._limits = pilot, limits
        self._control, self._clock_ns = control, clock_ns
        self._actuator = Actuator(actuation, obeyed=steers(pilot.contract))
        self._period_ns = round(period_s * 1e9)
        obeyed = self._actuator.obeyed
        self._supervisor: Supervisor | Onlooker = Supervisor(limits, self._period_ns) if obeyed else Onlooker()
        self._novelty = novelty
        self._content = self._content_check()
        self._shape = FrameShape()
        self.delivery = Delivery(sinks, self._period_ns, clock_ns)
        self._deadline_ns = round((limits.deadline_ms or period_s * 1e3) * 1e6)
        self._last_ns: int | None = None
        self._told_ns = 0
        self._throttle, self._time_s = 0.0, 0.0
        self._failures = 0
        self._obeyed: Mapping[str, Any] = {}

    def run(self, source: LiveSource, new_pilot: NewPilot, max_frames: int | None) -> str:
        control, timeout_s = self._control, self._period_ns / 1e9 / 4
        while control.ending is None:
            if control.stopped and self._supervisor.state is not State.STOPPED:
                self._supervisor.stop(control.stopped)
            elif control.stopped is None and self._supervisor.state is State.STOPPED:
                self._supervisor.start()
                self._content.start()
            try:
                frame = source.newest(timeout_s)
            except EndOfSource:
                return "end of source"
            if frame is not None and (other := new_pilot()) is not None:
                self._pilot = other
                self._content = self._content_check()
                self._shape.another_model()
            step = self._without_frame(source) if frame is None else self._with_frame(frame)
            if step is not None:
                self._pass_on(step)
            if self.tally.frames == max_frames:
                return "max-frames"
        return control.ending

    def finish(self, reason: str) -> None:
        """The last step, to every sink."""
        self._supervisor.stop(reason)
        step = stopped_step(self._actuator, reason, self._clock_ns())
        self.tally.add(step)
        self.delivery.last(step)

    def _pass_on(self, step: Step) -> None:
        self._told_ns = step.decided_ns
        self._throttle = step.throttle
        self.tally.add(step)
        self.delivery.pass_on(step)
        if step.obeyed and step.state.answers and self.delivery.verdict.level is Level.TROUBLE:
            # At once: the next frame is a period away, and another output may drive the throttle.
            self._supervisor.judge(self.delivery.verdict, self._clock_ns())
            self._pass_on(self._neutral_step(None))

    def _without_frame(self, source: LiveSource) -> Step | None:
        """A step for a period in which no frame came; None while it is too early to say, or said already."""
        now_ns = self._clock_ns()
        if self._last_ns is None:
            self._last_ns = now_ns
        before = self._supervisor.state
        if (now_ns - self._last_ns) / self._period_ns >= self._limits.max_gap_periods:
            reason = "no frame" if source.connected else "the camera has gone"
            self._supervisor.missing(reason, now_ns)
        state = self._supervisor.state
        # Whoever acts on the steps hears something in every period, so that silence means that nobody drives.
        if state.answers or (state is before and now_ns - self._told_ns < self._period_ns):
            if self.delivery.failing and not state.answers:
                # More often than the frames come: a bus that answers again is to be in neutral soon.
                self.delivery.retry(self._neutral_step(None))
            return None
        return self._neutral_step(None)

    def _with_frame(self, frame: Frame) -> Step:
        start_ns = self._clock_ns()
        waited = self._last_ns is None or self._supervisor.state is State.WAITING
        gap = 0.0 if waited else (start_ns - (self._last_ns or 0)) / self._period_ns
        self._last_ns = start_ns
        verdict, prediction = self._look(frame, start_ns)
        now_ns = self._clock_ns()
        late = now_ns - frame.arrived_ns > self._deadline_ns
        if verdict.level is not Level.TROUBLE:
            lateness = self._supervisor.lateness(late)
            if lateness.level > verdict.level:
                verdict = lateness
            odd = self._actuator.obeyed and gap > 0.75 * self._limits.max_gap_periods
            if verdict.level is Level.GOOD and odd:
                verdict = Verdict(Level.ODD, "after a gap")
        if self.delivery.verdict.level > verdict.level:
            verdict = self.delivery.verdict
        if prediction is None:
            state = self._supervisor.missing(verdict.reason, now_ns)
        else:
            state = self._supervisor.judge(verdict, now_ns)
        self._obeyed = prediction.values if prediction is not None and state.answers else {}
        if prediction is None or not state.answers:
            return self._neutral_step(frame, prediction, start_ns, late=late)
        return self._actuator.step(
            frame, prediction, start_ns, now_ns, state=state, reason=self._supervisor.reason, late=late
        )

    def _look(self, frame: Frame, now_ns: int) -> tuple[Verdict, Prediction | None]:
        """Preprocess, check and infer; a verdict without a prediction is trouble."""
        if (now_ns - frame.arrived_ns) / 1e6 > self._limits.max_age_ms:
            return Verdict(Level.TROUBLE, "the frame is too old"), None
        if frame.time_s - self._time_s > LONGEST_WAIT_S:
            self._content.start()  # A recording goes on after a pause.
        self._time_s = frame.time_s
        if other := self._shape.trouble(frame.image.shape, self._pilot.contract):
            self.tally.refused["another size"] += 1
            return Verdict(Level.TROUBLE, other), None
        try:
            give(self._pilot, frame, self._obeyed)
            prediction = self._pilot.predict(frame.image)
        except FrameError as e:
            self.tally.refused[e.reason] += 1
            return Verdict(Level.TROUBLE, e.reason), None
        except ContractError:
            self.tally.refused["another size"] += 1
            return Verdict(Level.TROUBLE, "the frame is of another size than the model takes"), None
        except Exception as e:
            # Whatever the interpreter raises, the car goes straight and stops; the drive ends if it goes on.
            self._failures += 1
            if self._failures >= self._limits.max_failures:
                path = self._pilot.engine.path
                raise ModelFileError(f"{path}: failed on {self._failures} frames in a row: {e}") from e
            return Verdict(Level.TROUBLE, "the model failed"), None
        self._failures = 0
        self._shape.steered_by(frame.image.shape)
        pilot = self._pilot
        # A model that makes the picture by itself was given the frame.
        picture = pilot.seen if pilot.contract.frame is None else pilot.picture_of(frame.image)
        return self._content.judge(frame.image, picture, now_ns, moving=self._throttle != 0), prediction

    def _content_check(self) -> FrameChecks:
        return FrameChecks(self._pilot.contract, self._limits, self._novelty(self._pilot))

    def _neutral_step(
        self, frame: Frame | None, prediction: Prediction | None = None, start_ns: int = 0, *, late: bool = False
    ) -> Step:
        now_ns = self._clock_ns()
        return neutral_step(
            self._actuator.neutral(now_ns),
            self._supervisor.reason,
            now_ns,
            state=self._supervisor.state,
            frame=frame,
            prediction=prediction,
            total_us=(now_ns - start_ns) / 1000 if frame is not None else 0.0,
            age_ms=(now_ns - frame.arrived_ns) / 1e6 if frame is not None else None,
            late=late,
            obeyed=self._actuator.obeyed,
        )
