"""Arithmetic of numbers, by hand and against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_factory import STEERING, THROTTLE, steering_output
from sepilot_runtime.contract.contract import Scalar
from sepilot_runtime.contract.outputs.kinds import KINDS, task_of
from sepilot_runtime.contract.outputs.protocol import Evidence

SPEED = Scalar(name="speed", unit="m/s", scale=10.0, low=0.0, high=1.0)


def evidence(said: list[float], expected: list[float], labels: list[float] | None = None) -> Evidence:
    count = len(said)
    return Evidence(
        said=np.array(said), expected=np.array(expected),
        labels=np.array(labels if labels else [math.nan] * count), drives=["a"] * count,
        pictures=np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1),
    )  # fmt: skip


def test_every_kind_has_its_task() -> None:
    assert set(KINDS) == {"scalar", "classes", "boxes", "points", "embedding"} and task_of(THROTTLE).output is THROTTLE


@given(st.floats(-10, 10, width=32))
def test_what_the_car_obeys_lies_in_the_outputs_range(raw: float) -> None:
    for output in (STEERING, THROTTLE):
        found = task_of(output).decode(np.array([raw], np.float32))
        assert found == min(max(raw, output.low), output.high) and type(found) is float


def test_distances_are_in_the_unit_after_the_cut_off() -> None:
    apart = task_of(STEERING).distance(np.array([0.5, 2.0, -0.1]), np.array([0.0, 1.5, 0.1]))
    assert apart.tolist() == pytest.approx([12.5, 0.0, 5.0])
    assert task_of(SPEED).distance(np.array([[0.5], [-3.0]]), np.array([0.25, 0.0])).tolist() == [2.5, 0.0]


def test_errors_are_in_label_units_and_unknown_where_the_label_is() -> None:
    found = task_of(STEERING).error(np.array([0.5, 2.0, 0.0], np.float32), np.array([0.25, 0.5, math.nan], np.float32))
    assert found[:2].tolist() == [0.25, 0.5] and math.isnan(found[2])


def test_tails_run_from_one_end_to_the_other_and_keep_the_order_of_equals() -> None:
    said, label = np.array([0.5, -0.5, 0.5, 0.0]), np.array([0.1, math.nan, -0.9, 0.1])
    lowest, highest, largest = (tail.order for tail in task_of(STEERING).tails(said, label))
    assert lowest.tolist() == [1, 3, 0, 2] and highest.tolist() == [0, 2, 3, 1] and largest.tolist() == [2, 0, 3, 1]
    assert len(task_of(STEERING).tails(said, None)) == 2


def test_only_what_has_two_sides_is_asked_for_flips() -> None:
    assert [rule.name for rule in task_of(STEERING).gates()] == ["max_error", "mae_increase", "sign_flips", "saturated"]
    assert [rule.name for rule in task_of(THROTTLE).gates()] == ["max_error", "mae_increase", "saturated"]


@pytest.mark.parametrize(
    ("output", "gate", "said", "expected", "limit", "words"),
    [
        (STEERING, "max_error", [0.5, 0.0], [0.0, 0.0], 0.4, "max error 12.5 deg, at most 10 (0.4 of full"),
        (STEERING, "max_error", [0.5, 0.0], [0.0, 0.0], 0.5, ""),
        (SPEED, "max_error", [0.5, 0.0], [0.0, 0.0], 0.4, "max error 5 m/s, at most 4 (0.4 of full scale) allowed"),
        (STEERING, "sign_flips", [0.1, 0.1], [-0.1, 0.1], 0.0, "1 of 2 frames steered to the other side"),
        (STEERING, "sign_flips", [0.01, 0.1], [-0.1, 0.1], 0.0, ""),
        (Scalar(name="roll"), "sign_flips", [0.1, 0.1], [-0.1, 0.1], 0.0, "1 of 2 frames answered with the other sign"),
        (STEERING, "saturated", [0.3, 0.3, -1.0], [0.5, 0.4, -1.0], 0.0, "2 of 3 frames saturated: the file cannot st"),
        (SPEED, "saturated", [0.3, 0.3, 0.0], [0.5, 0.4, 0.0], 0.0, "2 of 3 frames saturated: the file cannot answer"),
        (steering_output(high=0.5), "saturated", [0.5, 0.5, -1.0], [0.9, 0.8, -1.0], 0.0, ""),
    ],
)  # fmt: skip
def test_a_gate_tells_what_it_is_not_kept_by(
    output: Scalar, gate: str, said: list[float], expected: list[float], limit: float, words: str
) -> None:
    rule = next(rule for rule in task_of(output).gates() if rule.name == gate)
    found = rule.fault(rule.figure(evidence(said, expected)), limit, len(said))
    assert found == words or (words and found.startswith(words))


def test_without_labels_the_task_is_not_judged() -> None:
    rule = next(rule for rule in task_of(STEERING).gates() if rule.name == "mae_increase")
    assert rule.figure(evidence([0.5], [0.0])) is None
    assert rule.fault(None, 0.0, 1) == rule.remark(None, 0.0) == ""
    found = rule.figure(evidence([0.5, 0.5], [0.0, 0.0], [0.0, math.nan]))
    assert found is not None and found.mean == 0.5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("output", "value", "words"),
    [
        (STEERING, 0.5, "12.5° right"), (STEERING, -0.5, "12.5° left"), (STEERING, 0.001, "straight"),
        (THROTTLE, 0.25, "0.25"), (SPEED, 0.25, "2.50 m/s"),
    ],
)  # fmt: skip
def test_answers_are_told_to_people(output: Scalar, value: float, words: str) -> None:
    assert task_of(output).words(value) == words


def test_labels_ask_for_no_more_than_the_output_means() -> None:
    asked = task_of(Scalar(name="steering")).asked
    assert asked(np.array([0.3, np.nan, -0.2], np.float32))["steering"] == pytest.approx((-0.2, 0.3))
    assert asked(np.array([0.3, 4.0], np.float32)) == {"steering": (0.0, 1.0)}
    assert asked(np.array([np.nan], np.float32)) == {"steering": (0.0, 0.0)}
    wide = task_of(Scalar(name="wheel", low=-25.0, high=25.0))
    assert wide.asked(np.array([-40.0, 20.0], np.float32)) == {"wheel": (-25.0, 20.0)}


def test_limits_and_tolerances_are_fractions_of_one_full_scale() -> None:
    speed = Scalar(name="speed", unit="m/s", high=30.0, low=0.0)
    assert (speed.magnitude, speed.full_scale) == (15.0, 15.0)
    angle = Scalar(name="steering", unit="deg", scale=25.0, positive="right")
    assert (angle.magnitude, angle.full_scale) == (1.0, 25.0)
    task = task_of(speed)
    rule = next(rule for rule in task.gates() if rule.name == "max_error")
    assert rule.fault(1.4, 0.1, 1) == "" and "at most 1.5 (0.1 of full scale)" in rule.fault(1.6, 0.1, 1)
