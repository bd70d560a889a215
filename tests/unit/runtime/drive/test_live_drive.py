"""The live loop: each fault leads to neutral in time, with its name, and recovery follows where it is promised."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import ConstantEngine, ListSink
from live_script import PERIOD_NS, Event, LiveScript, at_period
from model_factory import PICTURE, classes_contract, contract_of
from sepilot_runtime.base.errors import DriveError, ModelFileError, OutputError
from sepilot_runtime.contract.frame_shape import other_shape
from sepilot_runtime.drive.actuation import Actuation
from sepilot_runtime.drive.frame_checks import Novelty
from sepilot_runtime.drive.loop import drive_live
from sepilot_runtime.drive.novelty import statistics_of
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Sink, Step
from sepilot_runtime.drive.summary import DriveSummary
from sepilot_runtime.drive.supervisor import GOOD, Control, Level, Limits, Supervisor, Verdict
from sepilot_runtime.engine.pilot import Pilot

STEERING = 0.25


RNG = np.random.default_rng(3)


def good(_: LiveScript) -> NDArray[np.uint8]:
    return RNG.integers(0, 255, (48, 64, 3), np.uint8)


def none(_: LiveScript) -> None:
    return None


def plain(value: int) -> Event:
    return lambda _: np.clip(RNG.normal(value, 0.4, (48, 64, 3)), 0, 255).astype(np.uint8)


FROZEN = RNG.integers(0, 255, (48, 64, 3), np.uint8)


def frozen(_: LiveScript) -> NDArray[np.uint8]:
    return FROZEN.copy()


def wrong_size(_: LiveScript) -> NDArray[np.uint8]:
    return np.zeros((48, 64, 5), np.uint8)


def old(source: LiveScript) -> NDArray[np.uint8]:
    source.delay_ns = 400_000_000
    return good(source)


def fresh(source: LiveScript) -> NDArray[np.uint8]:
    source.delay_ns = 1_000_000
    return good(source)


def slow_answer(source: LiveScript) -> NDArray[np.uint8]:
    """Arrives so late that the deadline of one period has passed, yet is not too old."""
    source.delay_ns = 80_000_000
    return good(source)


def drive(
    script: list[Event],
    *,
    pilot: Pilot | None = None,
    limits: Limits | None = None,
    actuation: Actuation | None = None,
    sinks: list[Sink] | None = None,
    control: Control | None = None,
    **options: Any,
) -> tuple[list[Step], DriveSummary, LiveScript]:
    control = control or Control()
    source, sink = LiveScript(control, script), ListSink()
    summary = drive_live(
        pilot or Pilot(ConstantEngine(contract_of(), STEERING)), source, [sink, *(sinks or [])],
        limits=limits, actuation=actuation, control=control, clock_ns=source.clock, **options,
    )  # fmt: skip
    return sink.steps, summary, source


def test_good_frames_are_driven_and_the_last_word_is_stopped() -> None:
    steps, summary, _ = drive([good] * 8, actuation=Actuation(throttle=0.3))
    assert [s.state for s in steps[:-1]] == [State.DRIVING] * 8
    assert all((s.steering, s.throttle, s.reason) == (STEERING, 0.3, "") for s in steps[:-1])
    last = steps[-1]
    assert (last.state, last.steering, last.throttle, last.reason) == (State.STOPPED, 0.0, 0.0, "end of script")
    assert (summary.frames, summary.ended, summary.neutral) == (8, "end of script", {})


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (none, "no frame"),
        (frozen, "the picture is frozen"),
        (plain(0), "the picture is black"),
        (plain(255), "the picture is over-exposed"),
        (plain(120), "the picture is blank"),
        (wrong_size, "wrong shape"),
        (old, "the frame is too old"),
    ],
)
def test_each_fault_is_neutral_within_two_periods_and_recovers(fault: Event, reason: str) -> None:
    before, during = 6, 6
    steps, summary, _ = drive([good] * before + [fault] * during + [fresh] * 10, actuation=Actuation(throttle=0.3))
    assert at_period(steps, before - 1).state is State.DRIVING
    # Two periods after the first bad one was due; the first frozen picture is still a new one.
    word = at_period(steps, before + 1 + (fault is frozen))
    assert (word.state, word.reason, word.steering, word.throttle) == (State.NEUTRAL, reason, 0.0, 0.0)
    assert at_period(steps, before + during - 1).state is State.NEUTRAL
    assert summary.neutral == {reason: 1}
    # Five good frames end it.
    assert at_period(steps, before + during + 3).state is State.NEUTRAL
    assert at_period(steps, before + during + 5).state is State.DRIVING


@pytest.mark.parametrize(("bad", "state"), [(Level.TROUBLE, State.NEUTRAL), (Level.ODD, State.DEGRADED)])
def test_a_burst_of_frames_that_waited_ends_nothing(bad: Level, state: State) -> None:
    """Ten frames out of a queue within ten milliseconds show no more than one; nor do few over a long time."""
    supervisor = Supervisor(Limits(recover_frames=5), PERIOD_NS)
    supervisor.judge(GOOD, 0)
    supervisor.judge(Verdict(bad, "a reason"), PERIOD_NS)
    burst = [supervisor.judge(GOOD, PERIOD_NS + i * 1_000_000) for i in range(1, 11)]
    later = [supervisor.judge(GOOD, PERIOD_NS * i) for i in range(2, 8)]
    assert burst + later == [state] * 14 + [State.DRIVING] * 2, "five periods after it, with more than five good frames"
    supervisor.judge(Verdict(bad, "a reason"), PERIOD_NS * 10)
    rare = [supervisor.judge(GOOD, PERIOD_NS * i) for i in range(20, 80, 10)]
    assert rare == [state] * 4 + [State.DRIVING] * 2, "the fifth good frame"


def sized(height: int, width: int) -> Event:
    return lambda _: RNG.integers(0, 255, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(96, 128), (48, 96), (64, 48)])
def test_another_size_in_mid_drive_is_neutral_at_once_for_as_long_as_it_lasts(size: tuple[int, int]) -> None:
    steps, summary, _ = drive([good] * 4 + [sized(*size)] * 30 + [good] * 6)
    reason = "the frame is of another size than the first one"
    assert {(s.state, s.reason, s.steering) for s in steps[4:34]} == {(State.NEUTRAL, reason, 0.0)}
    assert steps[-2].state is State.DRIVING
    assert (summary.neutral, summary.lost) == ({reason: 1}, {"another size": 30})


def trained_on(width: int, height: int) -> Pilot:
    statistics = dataclasses.replace(statistics_of(np.zeros((1, *PICTURE.shape), np.uint8)), frame_size=(width, height))
    return Pilot(ConstantEngine(contract_of(statistics=statistics), STEERING))


def test_frames_of_another_shape_than_the_training_s_never_drive() -> None:
    """By the size in the contract; an older one has golden frames, here of 4 to 3."""
    reason = "the frame has another shape than those of the training"
    portrait = [sized(64, 48)] * 10
    for pilot, script in ((None, portrait), (trained_on(640, 480), portrait), (trained_on(640, 360), [good] * 10)):
        steps, _, _ = drive(script, pilot=pilot)
        assert {(s.state, s.reason) for s in steps[:-1]} == {(State.WAITING, reason)}
    for pilot in (None, trained_on(640, 480)):
        steps, _, _ = drive([sized(480, 640)] * 3, pilot=pilot)
        assert {s.state for s in steps[:-1]} == {State.DRIVING}
    told = other_shape(trained_on(640, 360).contract, 640, 480)
    assert told == "frames are 640x480, 1.33 to 1; those of the training were 1.78 to 1"
    assert not other_shape(trained_on(640, 360).contract, 0, 0), "a source that does not know its size before it begins"
    # A model that was installed meanwhile has its own.
    others = [None, None, trained_on(640, 360)]
    steps, _, _ = drive([good] * 6, new_pilot=lambda: others.pop(0) if others else None)
    assert [s.state for s in steps[1:3]] == [State.DRIVING, State.NEUTRAL] and steps[2].reason == reason


def test_neutral_goes_on_being_said_while_nothing_comes() -> None:
    steps, _, _ = drive([good] * 3 + [none] * 10)
    said = [s for s in steps[:-1] if s.state is State.NEUTRAL]
    assert 8 <= len(said) <= 11, "about once per period"


def test_before_the_first_frame_it_waits_and_says_so() -> None:
    steps, _, _ = drive([none] * 5 + [good] * 2)
    waiting, driving = steps[:-3], steps[-3:-1]
    assert 3 <= len(waiting) <= 6
    assert {(s.state, s.steering) for s in waiting} == {(State.WAITING, 0.0)}
    assert [s.state for s in driving] == [State.DRIVING] * 2


def test_a_picture_that_comes_twice_is_degraded_only() -> None:
    steps, summary, _ = drive(
        [good, frozen, frozen, good, good, good, good, good], actuation=Actuation(throttle=0.4, degraded_throttle=0.5)
    )
    assert [s.state for s in steps[:-1]].count(State.NEUTRAL) == 0
    assert (steps[2].state, steps[2].throttle, steps[2].steering) == (State.DEGRADED, 0.2, STEERING)
    assert steps[-2].state is State.DRIVING
    assert not summary.neutral


def test_missed_deadlines_beyond_the_limit_are_neutral() -> None:
    steps, summary, _ = drive([good] * 4 + [slow_answer] * 8, limits=Limits(max_late=5))
    assert [s.state for s in steps[4:8]] == [State.DEGRADED] * 4, "some late frames are odd"
    assert steps[8].state is State.NEUTRAL
    assert "missed their deadline" in steps[8].reason
    assert summary.late == 8


class FailingEngine(ConstantEngine):
    """Breaks while `broken`: raises what an interpreter may raise, or answers NaN."""

    broken: Exception | float | None = None

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        if isinstance(self.broken, Exception):
            raise self.broken
        return {"steering": np.full(1, self.broken)} if isinstance(self.broken, float) else self.answers


@pytest.mark.parametrize("fault", [RuntimeError("kernel"), MemoryError(), float("nan"), float("inf")])
def test_a_model_that_fails_is_neutral_at_once_and_may_recover(fault: Exception | float) -> None:
    engine = FailingEngine(contract_of(), STEERING)

    def breaks(source: LiveScript) -> NDArray[np.uint8]:
        engine.broken = fault
        return good(source)

    def mends(source: LiveScript) -> NDArray[np.uint8]:
        engine.broken = None
        return good(source)

    steps, summary, _ = drive([good] * 3 + [breaks] * 2 + [mends] * 6, pilot=Pilot(engine))
    assert (steps[3].state, steps[3].reason, steps[3].steering) == (State.NEUTRAL, "the model failed", 0.0)
    assert steps[-2].state is State.DRIVING
    assert summary.neutral == {"the model failed": 1}


def test_a_model_that_goes_on_failing_ends_the_drive_in_neutral() -> None:
    engine = FailingEngine(contract_of(), STEERING)
    engine.broken = RuntimeError("kernel")
    sink = ListSink()
    with pytest.raises(ModelFileError, match="failed on 7 frames in a row: kernel"):
        drive([good] * 30, pilot=Pilot(engine), limits=Limits(max_failures=7), sinks=[sink])
    assert (sink.steps[-1].state, sink.steps[-1].steering) == (State.STOPPED, 0.0)


def test_sigstop_is_a_gap_and_then_an_old_frame() -> None:
    def asleep(source: LiveScript) -> NDArray[np.uint8]:
        """The process wakes seconds after the frame arrived."""
        image = good(source)
        source.clock.now_ns += 3_000_000_000
        source.delay_ns = 3_000_000_000
        return image

    steps, summary, _ = drive([good] * 4 + [asleep] + [fresh] * 80)
    woken = next(s for s in steps if s.frame is not None and s.frame.id == 4)
    assert (woken.state, woken.steering) == (State.NEUTRAL, 0.0)
    assert steps[-2].state is State.DRIVING
    assert summary.neutral == {"the frame is too old": 1}


def test_the_emergency_stop_holds_until_start() -> None:
    control = Control()

    def stop(source: LiveScript) -> NDArray[np.uint8]:
        control.stop("emergency stop")
        return good(source)

    def start(source: LiveScript) -> NDArray[np.uint8]:
        control.start()
        return good(source)

    steps, _, _ = drive([good] * 3 + [stop] + [good] * 6 + [start] + [good] * 3, control=control)
    held = steps[4:10]
    assert {(s.state, s.reason, s.steering) for s in held} == {(State.STOPPED, "emergency stop", 0.0)}
    assert steps[-2].state is State.DRIVING


def test_a_picture_unlike_the_training_is_neutral() -> None:
    scores = iter([1.0] + [3.0] * 4)
    steps, _, _ = drive([good] * 5, novelty=lambda pilot: Novelty(lambda *_: next(scores), 1.5))
    assert [s.state for s in steps[:-1]] == [State.DRIVING, State.DEGRADED] + [State.NEUTRAL] * 3
    steps, _, _ = drive([good] * 5, novelty=lambda pilot: Novelty(lambda *_: 1.0, 1.5))
    assert steps[2].state is State.DRIVING


def test_another_pilot_takes_over_between_two_frames() -> None:
    other = [None, None, Pilot(ConstantEngine(contract_of(), -0.25))]
    steps, _, _ = drive([good] * 4, new_pilot=lambda: other.pop(0) if other else None)
    assert [s.steering for s in steps[:-1]] == [STEERING, STEERING, -0.25, -0.25]


class Flaky(ListSink):
    """An output that steers and does not take the steps of some tries."""

    def __init__(self, *failing: range) -> None:
        super().__init__()
        self.tries = 0
        self._failing = failing

    def write(self, step: Step) -> None:
        self.tries += 1
        if any(self.tries in tries for tries in self._failing):
            raise OutputError("servo: gone")
        super().write(step)


CAR = Actuation(throttle=0.4, degraded_throttle=0.5, trim=0.1)


def test_an_output_that_fails_once_is_degraded_and_named() -> None:
    servo = Flaky(range(3, 4))
    steps, summary, _ = drive([good] * 12, actuation=CAR, sinks=[servo])
    assert (steps[3].state, steps[3].reason, steps[3].throttle) == (State.DEGRADED, "servo: gone", 0.2)
    assert State.NEUTRAL not in {s.state for s in steps}
    assert steps[-2].state is State.DRIVING
    assert summary.unwritten == {"servo: gone": 1}


def test_an_output_that_goes_on_failing_is_neutral_at_once_and_the_drive_goes_on_when_it_answers() -> None:
    servo = Flaky(range(3, 20))
    steps, summary, _ = drive([good] * 30, actuation=CAR, sinks=[servo])
    second = 10_000_000_000 + 3 * PERIOD_NS
    assert at_period(steps, 2).state is State.DRIVING
    neutral = next(s for s in steps if s.state is State.NEUTRAL)
    assert (neutral.reason, neutral.steering, neutral.throttle) == ("servo: gone", 0.1, 0.0)
    assert neutral.decided_ns - second < PERIOD_NS / 4, "with the second step that was not taken"
    taken = servo.steps[2]
    assert (taken.state, taken.throttle) == (State.NEUTRAL, 0.0), "the first word that it takes again"
    assert servo.steps[-2].state is State.DRIVING
    assert summary.neutral == {"servo: gone": 1} and summary.unwritten == {"servo: gone": 17}


def test_a_failing_output_is_tried_more_often_than_frames_come() -> None:
    servo = Flaky(range(3, 10**9))
    _, summary, _ = drive([good] * 3 + [none] * 20, sinks=[servo])
    assert servo.tries > 3 * 20 and summary.ended == "end of script"


def test_one_broken_sink_does_not_keep_neutral_from_the_others() -> None:
    last = ListSink()
    _, summary, _ = drive([good] * 40, actuation=CAR, sinks=[Flaky(range(1, 10**9)), last])
    assert {s.state for s in last.steps[3:-1]} == {State.NEUTRAL}, "for as long as it fails, without end"
    assert (last.steps[-1].state, last.steps[-1].steering, summary.ended) == (State.STOPPED, 0.1, "end of script")


def test_an_output_that_hangs_for_two_periods_and_fails_is_neutral_at_once() -> None:
    class Hangs(ListSink):
        def write(self, step: Step) -> None:
            super().write(step)
            if len(self.steps) == 3:
                source.clock.now_ns += 3 * PERIOD_NS
                raise OutputError("servo: timed out")

    control = Control()
    source, servo = LiveScript(control, [good] * 8), Hangs()
    pilot = Pilot(ConstantEngine(contract_of(), STEERING))
    drive_live(pilot, source, [servo], control=control, clock_ns=source.clock)
    assert (servo.steps[3].state, servo.steps[3].reason) == (State.NEUTRAL, "servo: timed out")


def test_what_is_no_output_error_ends_the_drive_in_neutral() -> None:
    class Broken(ListSink):
        def write(self, step: Step) -> None:
            raise KeyError("a fault of ours")

    last = ListSink()
    with pytest.raises(KeyError):
        drive([good] * 4, sinks=[Broken(), last])
    assert last.steps[-1].state is State.STOPPED


def test_a_camera_that_cannot_come_back_ends_the_drive_in_neutral() -> None:
    def gone(_: LiveScript) -> None:
        raise DriveError("camera 0: gone for good")

    sink = ListSink()
    with pytest.raises(DriveError, match="gone for good"):
        drive([good, good, gone], sinks=[sink])
    assert sink.steps[-1].state is State.STOPPED


def test_the_collector_is_off_during_a_drive_and_on_after_it() -> None:
    seen = []

    def look(source: LiveScript) -> NDArray[np.uint8]:
        seen.append(gc.isenabled())
        return good(source)

    drive([look] * 3)
    assert seen == [False] * 3
    assert gc.isenabled()


def test_calibration_is_defined_in_time(tmp_path: Path) -> None:
    """The same second of steering gives the same servo position at 20 and at 60 frames per second."""
    from sepilot_runtime.drive.actuation import Actuator

    for settings in (Actuation(smoothing_s=0.3), Actuation(max_rate_per_s=0.5)):
        reached = []
        for rate_hz in (20, 60):
            actuator = Actuator(settings)
            actuator.steer(0.0, 0)
            for i in range(1, rate_hz + 1):
                position = actuator.steer(1.0, round(i / rate_hz * 1e9))
            reached.append(position)
        assert reached[0] == pytest.approx(reached[1], abs=1e-6)
    actuator = Actuator(Actuation(gain=-0.5, trim=0.1, low=-0.3, high=0.8))
    assert actuator.steer(1.0, 0) == pytest.approx(-0.3)
    assert actuator.steer(-1.0, 1) == pytest.approx(0.6)
    assert actuator.neutral(2) == pytest.approx(0.1), "straight ahead is where the trim says"


def test_a_model_that_does_not_steer_is_doubted_frame_by_frame_and_never_neutral() -> None:
    """The same loop and checks; the first good frame after a bad one is answered to."""
    script = [good, good, plain(2), good, frozen, frozen, frozen, good, *[none] * 4, old, fresh]
    steps, summary, _ = drive(
        script, pilot=Pilot(ConstantEngine(classes_contract(), 0.5)), limits=Limits(max_brightness_step=255),
        actuation=Actuation(trim=0.2, throttle=0.5),
    )  # fmt: skip
    states = [(step.state.value, step.reason) for step in steps]
    well = [state == "running" for state, _ in states[:8]]
    assert well == [True, True, False, True, True, False, False, True]
    assert states[2] == ("doubtful", "the picture is black") and states[6] == ("doubtful", "the picture is frozen")
    assert ("waiting", "no frame") in states and ("waiting", "the frame is too old") in states
    assert states[-2:] == [("running", ""), ("stopped", "end of script")]
    assert not any(step.steering or step.throttle or step.obeyed for step in steps)
    assert all(step.prediction for step in steps if step.state.answers)
    assert summary.doubtful["the picture is frozen"] == 1 and summary.neutral == {}
