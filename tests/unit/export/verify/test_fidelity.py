"""Deviation, saturation and the paired interval."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from model_factory import steering_output
from sepilot_export.verify.fidelity import Fidelity, measure
from sepilot_export.verify.gates import judge, remarks
from sepilot_runtime.base.bootstrap import paired_bootstrap_mean

OUTPUT = steering_output(scale=25.0)
DRIVES = ("a",) * 400
PICTURES = np.random.default_rng(9).integers(0, 256, (5000, 2, 3, 1), np.uint8)


def limits_of(
    *, max_error: float, mae_increase: float, sign_flips: float = 0.0, saturated: float = 0.01
) -> dict[str, float]:
    return {"max_error": max_error, "mae_increase": mae_increase, "sign_flips": sign_flips, "saturated": saturated}


def saturated(said: Any, expected: Any, pictures: Any) -> int:
    """The figure of the gate of that name."""
    none = np.full(len(said), np.nan)
    return measure(said, expected, none, ("a",) * len(said), pictures, OUTPUT).figures["saturated"]


def world(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = rng.uniform(-0.8, 0.8, count)
    return reference, np.clip(reference + rng.normal(0, 0.1, count), -1, 1)


def test_a_perfect_file_has_no_error() -> None:
    reference, labels = world()
    found = measure(reference, reference, labels, DRIVES, PICTURES, OUTPUT)
    assert (found.mean_error, found.max_error, found.figures["sign_flips"], found.figures["saturated"]) == (0, 0, 0, 0)
    assert found.mae_increase is not None and found.mae_increase.mean == found.mae_increase.high == 0
    assert list(judge(found, limits_of(max_error=0, mae_increase=0, saturated=0), OUTPUT, 400)) == []


def test_errors_are_in_degrees_after_the_cut_off() -> None:
    reference, labels = world()
    answers = reference.copy()
    answers[3] += 0.02
    reference[4], answers[4] = 1.3, 1.1  # Both are full lock for the car.
    found = measure(answers, reference, labels, DRIVES, PICTURES, OUTPUT)
    assert found.max_error == pytest.approx(0.5)
    assert found.mean_error == pytest.approx(0.5 / 400)


def test_sign_flips_count_outside_the_dead_band() -> None:
    reference = np.array([0.1, 0.1, 0.005, -0.1, 0.0])
    answers = np.array([-0.1, -0.01, -0.2, -0.1, 0.3])
    assert measure(answers, reference, reference, ("a",) * 5, PICTURES, OUTPUT).figures["sign_flips"] == 1


def test_a_clipped_range_saturates_and_full_lock_does_not() -> None:
    reference = np.linspace(-1.0, 1.0, 201)
    assert saturated(np.clip(reference, -0.505, 0.505), reference, PICTURES) == 98
    at_lock = np.clip(reference * 2, -1, 1)
    assert saturated(at_lock, at_lock, PICTURES) == 0


def test_a_reference_with_a_dead_head_saturates() -> None:
    reference = np.minimum(np.linspace(-0.9, 0.9, 181), 0.6)
    assert saturated(reference + 0.001, reference, PICTURES) == 30
    # A car that stands still sees one picture again and again, and that is no fault of the head.
    standing = PICTURES[:181].copy()
    standing[151:] = standing[150]
    assert saturated(reference, reference, standing) == 0


def test_quantized_answers_do_not_saturate_by_their_steps() -> None:
    reference, _ = world(5000)
    said = np.round(reference * 128) / 128
    assert saturated(said, reference, PICTURES) == 0


def test_the_interval_holds_the_truth_and_knows_of_blocks() -> None:
    """Frames in runs of 25 equal ones carry as much as 1/25 of them; the interval must say so."""
    rng = np.random.default_rng(1)
    hits, widths = 0, []
    for _ in range(60):
        change = np.repeat(rng.normal(0.01, 0.05, 80), 25)
        found = paired_bootstrap_mean(change, ("a",) * len(change), samples=400)
        hits += found.low <= 0.01 <= found.high
        widths.append(found.high - found.low)
    assert hits >= 50
    expected = 2 * 1.96 * 0.05 / np.sqrt(80)
    assert np.mean(widths) == pytest.approx(expected, rel=0.15)


def test_blocks_end_with_their_drive() -> None:
    """Of 5,000 frames blocks of 25 are made; a drive of 10 frames is one by itself, not a part of its neighbour's."""
    change = np.concatenate([np.zeros(4990), np.full(10, 100.0)])
    drives = ["a"] * 4990 + ["b"] * 10
    rng = np.random.default_rng(0)
    # The same by hand: 199.6 blocks of a, one of b, drawn with the same numbers.
    sums = np.array([*np.zeros(200), 1000.0])
    counts = np.array([*np.full(199, 25), 15, 10])
    drawn = rng.integers(0, 201, (2000, 201))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    found = paired_bootstrap_mean(change, drives)
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, (0.025, 0.975)))
    assert paired_bootstrap_mean(change, ["a"] * 5000).high != pytest.approx(found.high)


def test_blocks_of_few_frames_are_shorter() -> None:
    """A twentieth of the frames, at least one: single frames here, so that the interval is that of the frames."""
    change = np.array([0.0, 1.0] * 10)
    drawn = np.random.default_rng(0).integers(0, 20, (2000, 20))
    expected = np.quantile(change[drawn].mean(axis=1), (0.025, 0.975))
    found = paired_bootstrap_mean(change, ["a"] * 20)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, *expected))
    assert paired_bootstrap_mean(np.array([0.5]), ["a"]).high == 0.5
    pairs = np.repeat([0.0, 1.0] * 10, 2)
    # 39 frames are single ones still.
    drawn = np.random.default_rng(0).integers(0, 39, (2000, 39))
    assert paired_bootstrap_mean(pairs[:39], ["a"] * 39).high == pytest.approx(
        np.quantile(pairs[:39][drawn].mean(axis=1), 0.975)
    )
    # 40 frames are blocks of two, and two equal ones are one observation.
    assert paired_bootstrap_mean(pairs, ["a"] * 40).high == pytest.approx(found.high)


def test_the_interval_follows_its_samples_and_seed() -> None:
    change = np.random.default_rng(3).normal(size=1000)
    drives = ["a"] * 1000
    assert paired_bootstrap_mean(change, drives) == paired_bootstrap_mean(change, drives, samples=2000, seed=0)
    assert paired_bootstrap_mean(change, drives).high != paired_bootstrap_mean(change, drives, seed=1).high
    assert paired_bootstrap_mean(change, drives).high != paired_bootstrap_mean(change, drives, samples=1999).high


def test_each_gate_names_its_figure() -> None:
    reference, labels = world()
    limits = limits_of(max_error=0.01, mae_increase=0.001)
    shifted = measure(-reference, reference, labels, DRIVES, PICTURES, OUTPUT)
    reasons = list(judge(shifted, limits, OUTPUT, 400))
    assert [r.split()[0] for r in reasons[:2]] == ["max", "task"]
    assert any("other side" in r for r in reasons)
    clipped = measure(np.clip(reference, -0.1, 0.1), reference, labels, DRIVES, PICTURES, OUTPUT)
    assert any("saturated" in r for r in judge(clipped, limits, OUTPUT, 400))


def test_few_frames_prove_neither_good_nor_bad() -> None:
    """40 frames cannot tell +0.001 from noise: no verdict about the task, and a remark that says so."""
    rng = np.random.default_rng(5)
    reference, labels = world(40)
    answers = reference + rng.normal(0, 0.03, 40)
    limits = limits_of(max_error=0.5, mae_increase=0.001, sign_flips=1)
    found = measure(answers, reference, labels, DRIVES[:40], PICTURES, OUTPUT)
    assert found.mae_increase is not None and found.mae_increase.high > limits["mae_increase"]
    assert list(judge(found, limits, OUTPUT, 40)) == []
    (remark,) = remarks(found, limits, OUTPUT)
    assert "too few" in remark
    # What is bad beyond doubt fails with 40 frames as well.
    ruined = measure(answers + 0.5, reference, labels, DRIVES[:40], PICTURES, OUTPUT)
    assert any("task MAE" in r for r in judge(ruined, limits, OUTPUT, 40))


def test_enough_frames_must_prove_the_limit() -> None:
    reference, labels = world(5000)
    rng = np.random.default_rng(6)
    found = measure(reference + rng.normal(0, 0.05, 5000), reference, labels, ("a",) * 5000, PICTURES, OUTPUT)
    assert found.mae_increase is not None
    mean, high = found.mae_increase.mean, found.mae_increase.high
    between = limits_of(max_error=1, mae_increase=(mean + high) / 2, sign_flips=1)
    assert not list(remarks(found, between, OUTPUT)) and any(
        "task MAE" in r for r in judge(found, between, OUTPUT, 5000)
    )
    assert list(judge(found, {**between, "mae_increase": high}, OUTPUT, 5000)) == []


def counted(found: Fidelity, **figures: int) -> Fidelity:
    return dataclasses.replace(found, figures={**found.figures, **figures})


def test_one_frame_is_no_share_of_a_small_set() -> None:
    reference, labels = world(60)
    base = measure(reference, reference, labels, DRIVES[:60], PICTURES, OUTPUT)
    limits = limits_of(max_error=1, mae_increase=1, sign_flips=0, saturated=0.01)
    assert list(judge(counted(base, saturated=1), limits, OUTPUT, 60)) == []
    assert len(list(judge(counted(base, saturated=2), limits, OUTPUT, 60))) == 1
    assert len(list(judge(counted(base, sign_flips=1), limits, OUTPUT, 60))) == 1


def test_frames_without_a_label_take_no_part_in_the_task() -> None:
    reference, labels = world()
    some = labels.copy()
    some[::2] = np.nan
    found = measure(reference + 0.01, reference, some, DRIVES, PICTURES, OUTPUT)
    expected = paired_bootstrap_mean((np.abs(reference + 0.01 - some) - np.abs(reference - some))[1::2], DRIVES[1::2])
    assert found.mae_increase is not None and found.mae_increase.mean == pytest.approx(expected.mean)


def test_the_dead_band_and_the_ends_of_a_range_are_where_they_are_said_to_be() -> None:
    edge = np.array([0.02, 0.0201, 0.5, 0.0])
    found = measure(-edge, edge, edge, ("a",) * 4, PICTURES, steering_output(scale=10.0))
    assert found.figures["sign_flips"] == 2
    assert (found.max_error, found.mean_error) == pytest.approx((10.0, 2 * 5.401 / 4 * 1.0), rel=0.01)
    assert found.p99_error == pytest.approx(np.quantile(2 * edge * 10, 0.99))
    # A range of its own: full lock is at its ends, not at -1 and 1.
    narrow = steering_output(scale=10.0, low=-0.5, high=0.5)
    at_lock = np.clip(np.linspace(-1, 1, 41), -0.5, 0.5)
    assert measure(at_lock, at_lock, at_lock, ("a",) * 41, PICTURES, narrow).figures["saturated"] == 0
    assert (
        measure(at_lock, at_lock, at_lock, ("a",) * 41, PICTURES, steering_output(scale=10.0)).figures["saturated"]
        == 20
    )


def test_drives_without_labels_are_judged_without_the_task() -> None:
    reference, _ = world()
    found = measure(reference, reference, np.full(400, np.nan), DRIVES, PICTURES, OUTPUT)
    assert found.mae_increase is None
    assert list(judge(found, limits_of(max_error=0, mae_increase=0), OUTPUT, 400)) == []
