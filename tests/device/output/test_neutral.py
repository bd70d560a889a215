"""Neutral means one thing: the wheels straight, by the trim, and throttle 0, at once, whoever writes it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fake_smbus2.smbus2 import Chip
from repository import TESTS
from sepilot_runtime.drive.actuation import Actuation, Actuator
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step, neutral_step
from sepilot_runtime.output.registry import open_bare
from sepilot_runtime.output.watchdog import hold_neutral

CAR = Actuation(trim=0.2, throttle=0.3, smoothing_s=0.5, max_rate_per_s=1.0)
STRAIGHT_TICKS, STOPPED_TICKS = 393, 369
"""1600 and 1500 µs at 60 Hz, in 4096ths."""

LOCK = Step(frame=None, prediction=None, steering=1.0, throttle=0.3)


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chip:
    monkeypatch.setenv("FAKE_I2C", str(tmp_path))
    monkeypatch.syspath_prepend(TESTS / "fake_smbus2")
    monkeypatch.delitem(sys.modules, "smbus2", raising=False)
    yield Chip(tmp_path)
    sys.modules.pop("smbus2", None)


def pulses(chip: Chip) -> list[tuple[int, ...]]:
    return [ticks for _, ticks in chip.pulses(1, 0)]


def test_neutral_is_neither_smoothed_nor_limited_and_the_filter_goes_on_from_there() -> None:
    actuator = Actuator(CAR)
    for turn in range(100):
        actuator.steer(1.0, turn * 50_000_000)
    now_ns = 5_000_000_000
    assert actuator.neutral(now_ns) == 0.2
    assert 0.2 < actuator.steer(1.0, now_ns + 50_000_000) <= 0.25
    step = neutral_step(CAR.straight, "why", now_ns)
    assert (step.steering, step.throttle, step.state) == (0.2, 0.0, State.STOPPED)


@pytest.mark.parametrize(("low", "high", "straight"), [(-1.0, 0.1, 0.1), (0.3, 1.0, 0.3), (-1.0, 1.0, 0.2)])
def test_neutral_stays_in_what_the_linkage_takes(low: float, high: float, straight: float) -> None:
    car = Actuation(trim=0.2, low=low, high=high)
    assert car.straight == Actuator(car).neutral(0) == straight


def test_the_servo_driver_starts_and_ends_in_the_neutral_of_the_trim(chip: Chip) -> None:
    sink = open_bare("pca9685:", CAR.straight)
    assert pulses(chip)[-1] == (STRAIGHT_TICKS, STOPPED_TICKS)
    sink.write(LOCK)
    assert pulses(chip)[-1] == (492, 406)
    sink.close()
    assert pulses(chip)[-1] == (STRAIGHT_TICKS, STOPPED_TICKS)


def test_the_watchdog_writes_the_same_neutral(chip: Chip) -> None:
    open_bare("pca9685:", CAR.straight).write(LOCK)
    attached = open_bare("pca9685:", CAR.straight, start=False)
    hold_neutral(attached, CAR.straight, "the drive was killed", lambda: True)
    assert pulses(chip)[-1] == (STRAIGHT_TICKS, STOPPED_TICKS)


def test_a_second_process_that_opens_the_chip_does_not_touch_it(chip: Chip) -> None:
    open_bare("pca9685:", CAR.straight).write(LOCK)
    before = chip.log()
    open_bare("pca9685:", CAR.straight, start=False)
    assert chip.log() == before


def test_a_chip_that_held_full_throttle_wakes_in_neutral(chip: Chip) -> None:
    """A drive before this one left it so; nothing of it may come out while the chip is set up."""
    open_bare("pca9685:", 0.0).write(Step(frame=None, prediction=None, steering=-1.0, throttle=1.0))
    before = len(pulses(chip))
    open_bare("pca9685:", CAR.straight)
    assert set(pulses(chip)[before:]) == {(0, 0), (STRAIGHT_TICKS, STOPPED_TICKS)}
