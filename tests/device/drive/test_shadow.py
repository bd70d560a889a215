"""A shadow tells how far it is from the active model, and costs that one next to nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import ConstantEngine
from model_factory import contract_of, frames, prediction_of, two_output_contract, write_tflite
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.contract.contract import Scalar
from sepilot_runtime.drive.shadow import Shadow
from sepilot_runtime.engine.pilot import Pilot, Prediction, load_pilot


def answer(steering: float) -> Prediction:
    return prediction_of(steering, preprocess_us=30.0, infer_us=20.0)


def offer(shadow: Shadow, frame: NDArray[np.uint8], active: Prediction) -> None:
    """One frame, and wait until it was looked at."""
    shadow.observe(frame, active)
    assert shadow._idle.wait(60), "the shadow does not answer"


def test_it_reports_the_disagreement_in_degrees() -> None:
    shadow = Shadow(Pilot(ConstantEngine(contract_of(), 0.0)))
    for index in range(200):
        offer(shadow, frames(1)[0], answer(0.2 if index == 7 else -0.1 if index % 2 else 0.0))
    report = shadow.close()
    assert (report.frames, report.skipped, report.failed) == (200, 0, 0)
    found = report.outputs["steering"]
    assert found.max == pytest.approx(5.0) and (found.beyond, found.limit) == (1, 3.0)
    assert found.mean == pytest.approx((5.0 + 99 * 2.5) / 200)
    assert found.p99 == pytest.approx(2.5, abs=0.011)
    assert report.total is not None and report.total.count == 200 and report.total.p50_us > 0
    assert report.active_total is not None and report.active_total.p50_us == pytest.approx(50, rel=0.01)
    assert str(report).startswith("200 frames: mean 1.26°, p99 2.51°; max 5.00°; 1 beyond 3°; p50 ")


def test_the_same_model_agrees_with_itself(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "m.tflite")
    active, shadow = load_pilot(path), Shadow(load_pilot(path))
    for frame in frames(10):
        prediction = active.predict(frame)
        shadow.observe(frame, prediction)
        frame[:] = 0  # The source may use its memory again.
        assert shadow._idle.wait(60)
    report = shadow.close()
    assert report.frames == 10 and report.outputs["steering"].max == report.outputs["steering"].p99 == 0.0


HELD_S = 60.0


class Slow(ConstantEngine):
    def __init__(self) -> None:
        super().__init__(contract_of(), 0.0)
        self.go = threading.Event()

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        self.go.wait(HELD_S)
        return self.answers


def test_a_slow_candidate_holds_nothing_up_and_misses_frames() -> None:
    engine = Slow()
    shadow = Shadow(Pilot(engine))
    frame = frames(1, height=480, width=640)[0]
    start = time.perf_counter()
    for _ in range(500):
        shadow.observe(frame, answer(0.0))
    assert time.perf_counter() - start < HELD_S / 2
    engine.go.set()
    report = shadow.close()
    assert report.frames == 1 and report.skipped == 499
    shadow.observe(frame, answer(0.0))
    assert shadow.report().skipped == 500
    assert "499 skipped" in str(report)


class Broken(ConstantEngine):
    def run(self) -> NoReturn:
        raise ModelFileError("m.tflite: broken")


def test_a_candidate_that_fails_is_told_and_harms_nobody() -> None:
    shadow = Shadow(Pilot(Broken(contract_of(), 0.0)))
    before = threading.active_count()
    for _ in range(3):
        offer(shadow, frames(1)[0], answer(0.0))
    report = shadow.close()
    assert (report.frames, report.failed, report.failure) == (0, 3, "m.tflite: broken")
    assert report.total is None and str(report) == "no frames; 3 failed: m.tflite: broken"
    assert threading.active_count() == before - 1


def test_a_nan_and_a_frame_of_another_size_are_counted_and_it_goes_on() -> None:
    engine = ConstantEngine(contract_of(), float("nan"))
    shadow = Shadow(Pilot(engine))
    offer(shadow, frames(1)[0], answer(0.0))
    engine.answers["steering"][0] = 0.0
    offer(shadow, frames(1, height=96, width=128)[0], answer(0.0))
    report = shadow.close()
    assert (report.frames, report.failed) == (1, 1)


def test_every_output_that_both_have_is_told() -> None:
    """The active model says the throttle too; of the candidate's brake there is nothing to be compared with."""
    brake = Scalar(name="brake", low=0.0)
    contract = contract_of(outputs=(*two_output_contract().outputs, brake), golden=0)
    shadow = Shadow(Pilot(ConstantEngine(contract, 0.25)))
    active = Pilot(ConstantEngine(two_output_contract(), 0.5)).predict(frames(1)[0])
    offer(shadow, frames(1)[0], active)
    report = shadow.close()
    assert report.outputs["steering"].max == pytest.approx(6.25) and report.outputs["throttle"].max == 0.25
    assert report.outputs["throttle"].beyond == 1 and report.outputs["brake"].max == 0.0
    assert "throttle mean 0.25, p99 0.25; max 0.25; 1 beyond 0.12" in str(report)
