"""The calibration frames: tails, no evaluation frame, a manifest that can be held against the drives."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from sepilot_export.quantize.calibration import MINIMUM, Selection
from sepilot_export.quantize.calibration import select as select_of
from sepilot_export.quantize.calibration_manifest import manifest
from sepilot_runtime.base.errors import RunError, UsageError
from sepilot_runtime.contract.contract import Scalar
from sepilot_train.base.frame_set import FrameSet

STEERING, THROTTLE = Scalar(name="steering"), Scalar(name="throttle", low=0.0)


def drive(count: int = 400) -> tuple[FrameSet, np.ndarray]:
    rng = np.random.default_rng(3)
    predictions = rng.normal(0, 0.2, count).astype(np.float32)
    labels = np.clip(predictions + rng.normal(0, 0.1, count), -1, 1).astype(np.float32)
    pictures = rng.integers(60, 160, (count, 6, 10, 1), np.uint8)
    pictures[17], pictures[18] = 0, 255
    labels[23] = -1.0
    names = tuple(f"{i}.jpg" for i in range(count))
    return FrameSet(pictures=pictures, drives=("a",) * count, names=names, labels={"steering": labels}), predictions


def select(training: FrameSet, predictions: np.ndarray, **options: Any) -> Selection:
    return select_of(training, {"steering": predictions}, [STEERING], **options)


def test_the_tails_are_in() -> None:
    training, predictions = drive()
    chosen = select(training, predictions, count=60, seed=0)
    index = chosen.index.tolist()
    assert len(set(index)) == 60
    order = np.argsort(predictions)
    assert set(order[:7].tolist()) | set(order[-7:].tolist()) <= set(index)
    assert {17, 18, 23} <= set(index)
    assert predictions[chosen.index].min() == predictions.min()
    assert chosen.reasons.count("random") >= 20
    # Any part of it is like the whole: neither half lacks the tails.
    for half in (chosen.index[::2], chosen.index[1::2]):
        assert np.ptp(predictions[half]) > 0.8 * np.ptp(predictions)


def test_the_tails_of_every_output_are_in() -> None:
    training, steering = drive()
    throttle = np.random.default_rng(5).uniform(0.1, 0.5, 400).astype(np.float32)
    training = dataclasses.replace(training, labels={**training.labels, "throttle": throttle})
    predictions = {"throttle": throttle, "steering": steering}
    chosen = select_of(training, predictions, [STEERING, THROTTLE], count=100, seed=0)
    for answers in predictions.values():
        order = np.argsort(answers)
        assert set(order[:6].tolist()) | set(order[-6:].tolist()) <= set(chosen.index.tolist())
    assert {"lowest prediction of steering", "highest prediction of throttle"} <= set(chosen.reasons)
    assert chosen.reasons.count("random") >= 40
    found = manifest(training, predictions, [STEERING, THROTTLE], chosen, 0)
    assert found.outputs["throttle"].edges[0] == 0.0 and sum(found.outputs["throttle"].training) == 400
    frame = found.frames[0]
    place = training.names.index(frame.name)
    assert frame.labels["throttle"] == pytest.approx(throttle[place], abs=1e-6)


def test_a_seed_repeats_the_choice_and_another_one_changes_it() -> None:
    training, predictions = drive()
    first, again, other = (select(training, predictions, count=60, seed=s).index for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(np.sort(first), np.sort(other))


def test_small_drives_give_all_their_frames() -> None:
    training, predictions = drive(40)
    assert sorted(select(training, predictions, count=300, seed=0).index.tolist()) == list(range(40))


def test_evaluation_frames_are_refused() -> None:
    training, predictions = drive()
    with pytest.raises(RunError, match=r"frame 5\.jpg of drive a is also an evaluation frame"):
        select(training, predictions, count=60, seed=0, held_out={("a", "5.jpg"), ("b", "6.jpg")})


def test_too_few_frames_are_refused() -> None:
    training, predictions = drive()
    with pytest.raises(UsageError, match="--calibration-frames"):
        select(training, predictions, count=MINIMUM - 1, seed=0)
    with pytest.raises(RunError, match="training frames expected, found 8"):
        select(*short(8), count=60, seed=0)


def short(count: int) -> tuple[FrameSet, np.ndarray]:
    training, predictions = drive(30)
    return training.take(range(count)), predictions[:count]


def test_the_manifest_says_which_frames_and_why() -> None:
    training, predictions = drive()
    chosen = select(training, predictions, count=60, seed=4)
    found = manifest(training, {"steering": predictions}, [STEERING], chosen, 4)
    assert found.count == len(found.frames) == 60
    assert {f.name for f in found.frames} == {training.names[i] for i in chosen.index}
    assert found.sha256_of_pictures == hashlib.sha256(training.pictures[chosen.index].tobytes()).hexdigest()
    coverage = found.outputs["steering"]
    assert sum(coverage.chosen) == 60 and sum(coverage.training) == 400
    # The tails are in, so both cover the same range.
    assert coverage.chosen_range == coverage.training_range
