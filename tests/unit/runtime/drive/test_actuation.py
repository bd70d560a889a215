"""From the model's steering to the servo's, by hand and to the edge of each setting."""

from __future__ import annotations

import math

import pytest

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.drive.actuation import Actuation, Actuator

S = 1_000_000_000
"""A second in nanoseconds."""


def test_as_it_is_the_steering_passes() -> None:
    actuator = Actuator(Actuation())
    assert [actuator.steer(s, i * S) for i, s in enumerate((0.0, 1.0, -1.0, 0.25))] == [0.0, 1.0, -1.0, 0.25]
    assert actuator.neutral(9 * S) == 0.0


def test_gain_then_trim_then_the_linkages_range() -> None:
    actuator = Actuator(Actuation(gain=-0.5, trim=0.125, low=-0.25, high=0.5))
    assert [actuator.steer(s, 0) for s in (0.0, 0.5, 1.0, -0.5, -1.0)] == [0.125, -0.125, -0.25, 0.375, 0.5]


def test_a_low_pass_is_defined_in_time() -> None:
    quick, slow = (Actuator(Actuation(smoothing_s=2.0)) for _ in range(2))
    for actuator in (quick, slow):
        assert actuator.steer(0.0, 0) == 0.0
    once = slow.steer(1.0, S)
    assert once == pytest.approx(1 - math.exp(-0.5))
    for i in range(1, 11):
        several = quick.steer(1.0, i * S // 10)
    # At ten times the rate it is where it is after the same time.
    assert several == pytest.approx(once)
    assert slow.steer(-0.5, 3 * S) == pytest.approx(once + (-0.5 - once) * (1 - math.exp(-1)))


def test_a_rate_limit_is_defined_in_time_and_both_ways() -> None:
    actuator = Actuator(Actuation(max_rate_per_s=0.5))
    assert [actuator.steer(1.0, 0), actuator.steer(-1.0, S), actuator.steer(-1.0, 3 * S)] == [1.0, 0.5, -0.5]
    assert [actuator.steer(1.0, 4 * S), actuator.steer(0.125, 5 * S)] == [0.0, 0.125]


def test_time_that_stands_still_or_falls_moves_nothing() -> None:
    actuator = Actuator(Actuation(max_rate_per_s=0.5))
    actuator.steer(0.25, 2 * S)
    assert actuator.steer(1.0, 2 * S) == 0.25 and actuator.steer(1.0, S) == 0.25
    smooth = Actuator(Actuation(smoothing_s=1.0))
    smooth.steer(0.25, 2 * S)
    assert smooth.steer(1.0, 2 * S) == 0.25 and smooth.steer(1.0, S) == 0.25


@pytest.mark.parametrize("more", [{"smoothing_s": 5.0}, {"max_rate_per_s": 0.1}, {}])
def test_neutral_is_at_once_and_the_filter_goes_on_from_there(more: dict[str, float]) -> None:
    actuator = Actuator(Actuation(trim=0.125, **more))  # type: ignore[arg-type]
    actuator.steer(-1.0, 0)
    assert actuator.neutral(S // 100) == 0.125
    if more:
        assert abs(actuator.steer(-1.0, S // 50) - 0.125) < 0.01


@pytest.mark.parametrize(("trim", "low", "high", "straight"), [(0.5, -1, 0.25, 0.25), (-0.5, -0.25, 1, -0.25)])
def test_straight_lies_within_the_linkages_range(trim: float, low: float, high: float, straight: float) -> None:
    assert Actuator(Actuation(trim=trim, low=low, high=high)).neutral(0) == straight


@pytest.mark.parametrize(
    "settings",
    [
        {"low": -1.0, "high": 1.0}, {"low": -0.1, "high": 0.0}, {"gain": -0.001}, {"gain": 100.0}, {"trim": 1.0},
        {"trim": -1.0}, {"smoothing_s": 0.0}, {"smoothing_s": 9.99}, {"max_rate_per_s": 0.001},
        {"max_rate_per_s": math.inf}, {"throttle": 1.0}, {"throttle": -1.0}, {"degraded_throttle": 0.0},
        {"degraded_throttle": 1.0},
    ],
)  # fmt: skip
def test_settings_to_their_edges(settings: dict[str, float]) -> None:
    Actuation(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"low": -1.01}, "steering range: -1 <= low < high <= 1 expected, found -1.01 to 1"),
        ({"high": 1.01}, "steering range"),
        ({"low": 0.5, "high": 0.5}, "steering range"),
        ({"low": math.nan}, "steering range"),
        ({"gain": 0.0}, "gain: a number other than 0 expected, found 0"),
        ({"gain": math.inf}, "gain"),
        ({"gain": math.nan}, "gain"),
        ({"trim": 1.01}, "trim: -1 to 1 expected, found 1.01"),
        ({"trim": -1.01}, "trim"),
        ({"smoothing_s": -0.01}, "smoothing_s: 0 to 10 expected, found -0.01"),
        ({"smoothing_s": 10.0}, "smoothing_s"),
        ({"max_rate_per_s": 0.0}, "max_rate_per_s: a positive number expected, found 0"),
        ({"max_rate_per_s": -1.0}, "max_rate_per_s"),
        ({"max_rate_per_s": math.nan}, "max_rate_per_s"),
        ({"throttle": 1.01}, "throttle from -1 to 1 and degraded_throttle from 0 to 1 expected, found 1.01 and 0.5"),
        ({"throttle": -1.01}, "throttle from -1"),
        ({"degraded_throttle": 1.01}, "degraded_throttle"),
        ({"degraded_throttle": -0.01}, "degraded_throttle"),
    ],
)
def test_settings_beyond_them(settings: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        Actuation(**settings)  # type: ignore[arg-type]


def test_a_car_that_nobody_set_up_does_not_drive() -> None:
    plain = Actuation()
    assert (plain.gain, plain.trim, plain.low, plain.high) == (1.0, 0.0, -1.0, 1.0)
    assert (plain.smoothing_s, plain.max_rate_per_s, plain.throttle, plain.degraded_throttle) == (0.0, None, 0.0, 0.5)
