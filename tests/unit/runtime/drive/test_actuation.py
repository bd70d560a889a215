"""From the model's steering to the servo's, by hand and to the edge of each setting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_factory import contract_of, prediction_of, steering_output, two_output_contract
from sepilot_runtime.base.errors import ContractError, UsageError
from sepilot_runtime.contract.contract import Scalar
from sepilot_runtime.drive.actuation import Actuation, Actuator, require_drivable
from sepilot_runtime.drive.state import State
from sepilot_runtime.source.protocol import Frame

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
        ({"throttle": 1.01}, "throttle: -1 to 1 expected, found 1.01"),
        ({"throttle": -1.01}, "throttle: -1"),
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


def throttle_of(settings: Actuation, steering: float, state: State = State.DRIVING, **more: float) -> float:
    """What a car gets for a model that says so much."""
    said = prediction_of(steering)
    said = said._replace(values={**said.values, **more})
    frame = Frame(id=0, time_s=0.0, image=np.zeros((2, 2, 3), np.uint8), arrived_ns=0)
    return Actuator(settings).step(frame, said, 0, 0, state=state).throttle


def test_a_throttle_of_its_own_does_not_ask_the_model() -> None:
    settings = Actuation(throttle=0.3)
    assert throttle_of(settings, 1.0, throttle=0.9) == throttle_of(settings, 0.0) == 0.3
    assert throttle_of(settings, 0.0, State.DEGRADED) == 0.15


@pytest.mark.parametrize(("said", "given"), [(-0.5, 0.0), (0.0, 0.0), (0.25, 0.25), (0.4, 0.4), (0.9, 0.4), (7.0, 0.4)])
def test_the_models_throttle_stays_below_its_cap_and_never_goes_backwards(said: float, given: float) -> None:
    settings = Actuation(throttle="model", throttle_max=0.4)
    assert throttle_of(settings, 0.5, throttle=said) == given
    assert throttle_of(settings, 0.5, State.DEGRADED, throttle=said) == given / 2


def test_by_curvature_is_slower_the_further_it_steers_to_either_side() -> None:
    settings = Actuation(throttle="by-curvature", throttle_max=0.5, bend_throttle=0.5)
    found = [throttle_of(settings, steering) for steering in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    assert found == [0.25, 0.375, 0.5, 0.375, 0.25]
    assert throttle_of(Actuation(throttle="by-curvature", throttle_max=0.5, bend_throttle=1.0), 1.0) == 0.5
    assert throttle_of(settings, 1.0, State.DEGRADED) == 0.125


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"throttle": "model"}, 'throttle_max: a number above 0 expected with throttle = "model"'),
        ({"throttle": "by-curvature"}, "throttle_max: a number above 0 expected"),
        ({"throttle": "model", "throttle_max": 0.0}, "throttle_max: above 0 and at most 1 expected, found 0"),
        ({"throttle": "model", "throttle_max": 1.5}, "throttle_max: above 0 and at most 1 expected"),
        ({"throttle": 0.5, "throttle_max": 0.4}, "throttle: at most throttle_max, 0.4, expected, found 0.5"),
        ({"throttle": 1.5}, "throttle: -1 to 1 expected"),
        ({"bend_throttle": -0.5}, "bend_throttle: 0 to 1 expected"),
        ({"degraded_throttle": 1.5}, "degraded_throttle: 0 to 1 expected"),
    ],
)
def test_a_throttle_that_nothing_holds_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Actuation(**settings)
    assert words in str(caught.value)


def test_a_model_without_a_throttle_is_refused_where_it_is_asked_for_one() -> None:
    asks, path = Actuation(throttle="model", throttle_max=0.4), Path("m.tflite")
    require_drivable(two_output_contract(), path, asks)
    for contract in (contract_of(), contract_of(outputs=(steering_output(), Scalar(name="brake")), golden=0)):
        require_drivable(contract, path, Actuation(throttle="by-curvature", throttle_max=0.4))
        with pytest.raises(ContractError, match=r"^m\.tflite: actuation\.throttle = .* no output 'throttle'"):
            require_drivable(contract, path, asks)
