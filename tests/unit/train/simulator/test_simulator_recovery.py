"""Why recordings need kicks, and why offline error does not replace the closed loop.

A linear model from pixels to steering drives the plain worlds well when its recordings show the way back to the middle.
Without them it fits its own frames better, and gets lost.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_train.closed_loop.evaluation import Command, DriverKind, evaluation_seeds, run_closed_loop
from sepilot_train.closed_loop.recorder import record
from sepilot_train.simulator.builtin import BuiltinSimulator

DRIVES, FRAMES = 12, 200
WORLDS, STEPS = 8, 300


class LinearDriver:
    """Ridge regression on a thumbnail of the road, in closed form: no chance in it, no training time."""

    kind = DriverKind.FILE

    def __init__(self, name: str, thumbnails: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        self.name = name
        self._mean, self._bias = thumbnails.mean(axis=0), labels.mean()
        centred = thumbnails - self._mean
        gram = centred.T @ centred + 30.0 * np.eye(centred.shape[1])
        self._weights = np.linalg.solve(gram, centred.T @ (labels - self._bias))

    def answer(self, thumbnails: NDArray[np.float64]) -> NDArray[np.float64]:
        answers: NDArray[np.float64] = (thumbnails - self._mean) @ self._weights + self._bias
        return answers

    def command(self, frame: NDArray[np.uint8]) -> Command:
        return Command(steering=float(self.answer(thumbnail(frame))))


def thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The lower 60 % of a frame as one row of numbers in [0, 1]."""
    small = cv2.resize(frame[len(frame) * 2 // 5 :], (32, 18), interpolation=cv2.INTER_AREA)
    return small.astype(np.float64).reshape(-1) / 255


def recorded(out: Path, kicks: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Thumbnails and labels of new drives in plain worlds, read back from their tubs in order of driving."""
    record(BuiltinSimulator(randomize=False), out, drives=DRIVES, frames=FRAMES, kicks=kicks)
    thumbnails, labels = [], []
    for tub in sorted(out.iterdir()):
        for line in (tub / "catalog_0.catalog").read_text().splitlines():
            row = json.loads(line)
            thumbnails.append(thumbnail(cv2.imread(str(tub / "images" / row["cam/image_array"]))))
            labels.append(row["user/angle"])
    return np.array(thumbnails), np.array(labels)


def held_out_error(thumbnails: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Mean absolute error on the last quarter of the drives of a model fitted to the others."""
    split = len(labels) * 3 // 4
    driver = LinearDriver("offline", thumbnails[:split], labels[:split])
    return float(np.abs(driver.answer(thumbnails[split:]) - labels[split:]).mean())


@pytest.mark.slow
def test_without_kicks_the_error_is_lower_and_the_worlds_are_lost(tmp_path: Path) -> None:
    data = {name: recorded(tmp_path / name, kicks=name == "kicked") for name in ("kicked", "steady")}
    assert held_out_error(*data["steady"]) < held_out_error(*data["kicked"]) < 0.06
    drivers = [LinearDriver(name, *data[name]) for name in data]
    kicked, steady = run_closed_loop(BuiltinSimulator(randomize=False), drivers, evaluation_seeds(WORLDS), STEPS)
    assert kicked.survived == WORLDS
    assert kicked.mean_cte_m < 0.04
    assert steady.survived <= WORLDS - 2
    assert steady.interventions >= 4
