"""The states of a drive, verdict by verdict."""

from __future__ import annotations

from typing import Any

import pytest

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.supervisor import GOOD, Control, Level, Limits, Supervisor, Verdict

ODD, TROUBLE = Verdict(Level.ODD, "odd"), Verdict(Level.TROUBLE, "trouble")
VERDICTS = {"g": GOOD, "o": ODD, "t": TROUBLE}


PERIOD_NS = 50_000_000


class Paced(Supervisor):
    """Told something once a period."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, PERIOD_NS)
        self.now_ns = 0

    def see(self, verdict: Verdict) -> State:
        self.now_ns += PERIOD_NS
        return self.judge(verdict, self.now_ns)


def supervisor(**limits: Any) -> Paced:
    return Paced(Limits(**limits))


def judged(machine: Paced, verdicts: str) -> list[State]:
    """The states after a row of good (g), odd (o) and troublesome (t) frames, one period apart."""
    return [machine.see(VERDICTS[verdict]) for verdict in verdicts]


W, D, DEGRADED, N, S = State.WAITING, State.DRIVING, State.DEGRADED, State.NEUTRAL, State.STOPPED


@pytest.mark.parametrize(
    ("verdicts", "states"),
    [
        ("g", [D]),
        ("gggggggg", [D] * 8),
        ("og", [W, D]),
        ("tg", [W, D]),
        ("go", [D, DEGRADED]),
        ("gogggg", [D, *[DEGRADED] * 5]),
        ("goggggg", [D, *[DEGRADED] * 5, D]),
        ("goggggoggggg", [D, *[DEGRADED] * 10, D]),
        ("gt", [D, N]),
        ("gtgggg", [D, *[N] * 5]),
        ("gtggggg", [D, *[N] * 5, D]),
        ("gtggggoggggg", [D, *[N] * 10, D]),
        ("gtgggtggggg", [D, *[N] * 9, D]),
        ("got", [D, DEGRADED, N]),
    ],
)
def test_what_leads_where(verdicts: str, states: list[State]) -> None:
    assert judged(supervisor(), verdicts) == states


@pytest.mark.parametrize("bad", ["o", "t"])
def test_good_frames_that_come_at_once_are_no_recovery(bad: str) -> None:
    machine = supervisor()
    judged(machine, "g" + bad)
    state, bad_ns = machine.state, machine.now_ns
    assert {machine.judge(GOOD, bad_ns + 5 * PERIOD_NS - 1) for _ in range(20)} == {state}
    assert machine.judge(GOOD, bad_ns + 5 * PERIOD_NS) is D
    # Time alone is none either: five frames it takes.
    machine = supervisor()
    judged(machine, "g" + bad)
    found = [machine.judge(GOOD, machine.now_ns + 100 * PERIOD_NS) for _ in range(5)]
    assert found == [state] * 4 + [D]


def test_reasons_are_the_last_trouble_and_none_while_driving() -> None:
    machine = supervisor()
    assert (machine.state, machine.reason) == (W, "no frame yet")
    assert machine.see(ODD) is W and machine.reason == "odd"
    assert machine.see(TROUBLE) is W and machine.reason == "trouble"
    assert machine.see(GOOD) is D and machine.reason == ""
    assert machine.see(ODD) is DEGRADED and machine.reason == "odd"
    assert machine.see(GOOD) is DEGRADED and machine.reason == "odd"
    assert machine.see(TROUBLE) is N and machine.reason == "trouble"
    # An odd frame is no better reason than the trouble that it follows.
    assert machine.see(ODD) is N and machine.reason == "trouble"


def test_only_start_leads_out_of_stopped() -> None:
    machine = supervisor()
    judged(machine, "gt")
    machine.stop("somebody pressed it")
    assert judged(machine, "gggggggot") == [S] * 9 and machine.reason == "somebody pressed it"
    machine.start()
    assert (machine.state, machine.reason) == (W, "no frame yet")
    assert judged(machine, "g") == [D]
    machine.start()
    assert machine.state is D, "start means nothing to a car that drives"


def test_a_start_forgets_what_was_before_it() -> None:
    machine = supervisor(max_late=2, late_window=4)
    judged(machine, "gt" + "gggg")
    machine.lateness(True)
    machine.stop("x")
    machine.start()
    assert machine.lateness(True).level is Level.ODD, "the late frame before the stop does not count"
    # Waiting, trouble, and then good frames: the first drives.
    assert judged(machine, "tg") == [W, D]
    # The four good frames before the stop are no part of a recovery after it.
    machine = supervisor()
    judged(machine, "gt" + "gggg")
    machine.stop("x")
    machine.start()
    assert judged(machine, "got") == [D, DEGRADED, N] and judged(machine, "g") == [N]


def test_lateness_counts_within_its_window() -> None:
    machine = supervisor(max_late=3, late_window=5)
    found = [machine.lateness(late) for late in (True, False, True, False, False, True, True, True, False)]
    assert [v.level.name[0] for v in found] == list("OGOGGOTTT")
    assert found[0].reason == "a frame missed its deadline" and found[1] is GOOD
    assert found[6].reason == "3 of 5 frames missed their deadline"


def test_states_that_steer() -> None:
    assert [state.answers for state in State] == [False, True, True, False, False, True, True]
    assert [state.value for state in State][:5] == ["waiting", "driving", "degraded", "neutral", "stopped"]
    assert Level.GOOD < Level.ODD < Level.TROUBLE and GOOD.level is Level.GOOD


@pytest.mark.parametrize("name", ["max_repeats", "max_late", "recover_frames", "max_failures"])
def test_limits_from_one_on(name: str) -> None:
    assert getattr(Limits(**{name: 1}), name) == 1
    with pytest.raises(UsageError, match=f"{name}: at least 1 expected, found 0"):
        Limits(**{name: 0})


def test_limits_that_make_no_sense() -> None:
    assert Limits(max_gap_periods=1.0, max_late=5, late_window=5).late_window == 5
    with pytest.raises(UsageError, match=r"max_gap_periods: at least 1 expected, found 0\.99"):
        Limits(max_gap_periods=0.99)
    with pytest.raises(UsageError, match=r"late_window: at least max_late \(5\) expected, found 4"):
        Limits(late_window=4)


def test_the_limits_of_a_drive_that_nobody_set() -> None:
    """In docs/states.md; another number is another car."""
    limits = Limits()
    assert (limits.max_gap_periods, limits.max_age_ms, limits.max_repeats) == (2.0, 150.0, 2)
    assert (limits.least_mean, limits.most_mean, limits.least_spread) == (6.0, 250.0, 2.0)
    assert (limits.deadline_ms, limits.max_late, limits.late_window) == (None, 5, 20)
    assert (limits.max_lost_rows, limits.max_brightness_step) == (0.125, 30.0)
    assert (limits.least_motion, limits.start_ms, limits.max_novelty) == (2.0, 2000.0, "auto")
    assert (limits.recover_frames, limits.max_failures) == (5, 50)


def test_what_people_ask_of_a_drive() -> None:
    control = Control()
    assert (control.ending, control.stopped, control.recording) == (None, None, False)
    assert Control(recording=True).recording
    control.stop("a key")
    assert control.stopped == "a key"
    control.start()
    assert control.stopped is None
    control.end("a signal")
    control.end("another")
    assert control.ending == "a signal"
