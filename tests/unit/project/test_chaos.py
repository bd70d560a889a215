"""`scripts/chaos`: no fault moves the car, and it says so where one would."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import chaos as script
import cv2
import numpy as np
import pytest
from chaos_faults import KINDS
from numpy.typing import NDArray

from model_factory import contract_of, write_tflite
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.drive.frame_checks import FrameChecks
from sepilot_runtime.drive.novelty import statistics_of
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step
from sepilot_runtime.drive.supervisor import GOOD, Supervisor
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.output.pca9685 import ServoSink

FAULTS = 160
PICTURE = Picture(height=48, width=64, crop_top=0.25)
"""Large enough to tell noise from motion."""


def road(count: int) -> list[NDArray[np.uint8]]:
    """A road that winds, with posts that come nearer, under a sensor's noise."""
    rng = np.random.default_rng(5)
    ground = cv2.resize(rng.integers(60, 200, (60, 64, 3), np.uint8), (512, 480))
    made = []
    for number in range(count):
        x, y = round(192 + 180 * np.sin(number / 9)), 360 - (number * 6) % 360
        noise = rng.normal(0, 1.5, (96, 128, 3))
        made.append(np.clip(ground[y : y + 96, x : x + 128] + noise, 0, 255).astype(np.uint8))
    return made


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    return road(600)


@pytest.fixture(scope="module")
def pilot(images: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Pilot:
    pictures = np.stack([picture_of(image, PICTURE) for image in images])
    contract = dataclasses.replace(contract_of(PICTURE), statistics=statistics_of(pictures))
    path: Path = write_tflite(tmp_path_factory.mktemp("chaos") / "model.tflite", contract)
    return load_pilot(path)


def test_no_fault_moves_the_car(pilot: Pilot, images: list[NDArray[np.uint8]]) -> None:
    tally = script.chaos(pilot, images, faults=FAULTS)
    assert tally.findings == []
    assert set(tally.faults) == set(KINDS), "every kind was tried"
    assert "160 faults" in script.table(tally) or "161 faults" in script.table(tally)


def test_the_same_seed_gives_the_same_drive(pilot: Pilot, images: list[NDArray[np.uint8]]) -> None:
    one, same, other = (script.chaos(pilot, images, faults=20, seed=seed) for seed in (3, 3, 4))
    assert (one.faults, one.frames, one.slowest) == (same.faults, same.frames, same.slowest)
    assert (one.faults, one.frames) != (other.faults, other.frames)


def blind(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FrameChecks, "judge", lambda *_, **__: GOOD)


def deaf_servo(patch: pytest.MonkeyPatch) -> None:
    write = ServoSink.write
    patch.setattr(ServoSink, "write", lambda self, step: write(self, step) if step.state is State.DRIVING else None)


def crooked(patch: pytest.MonkeyPatch) -> None:
    write = ServoSink.write

    def bent(self: ServoSink, step: Step) -> None:
        write(self, step if step.state.answers else dataclasses.replace(step, steering=0.0))

    patch.setattr(ServoSink, "write", bent)


def never_back(patch: pytest.MonkeyPatch) -> None:
    judge = Supervisor.judge

    def stay(self: Supervisor, *arguments: object) -> State:
        before = self.state
        state = judge(self, *arguments)  # type: ignore[arg-type]
        if before is State.NEUTRAL:
            self.state = before
        return State.NEUTRAL if before is State.NEUTRAL else state

    patch.setattr(Supervisor, "judge", stay)


@pytest.mark.parametrize(
    ("plant", "what"),
    [(blind, "moved the car"), (deaf_servo, "moved"), (crooked, "moved"), (never_back, "did not come back")],
)
def test_a_planted_fault_is_found(
    plant: object, what: str, pilot: Pilot, images: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)  # type: ignore[operator]
    tally = script.chaos(pilot, images, faults=40)
    assert any(what in finding.what for finding in tally.findings)
    assert "findings" in script.table(tally)
