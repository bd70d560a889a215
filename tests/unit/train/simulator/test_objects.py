"""Things in the worlds: boxes fit what is painted, the nearer hides the farther, what is seen depends on the seed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sepilot_runtime.cli import main
from sepilot_train.simulator.builtin import BuiltinSimulator
from sepilot_train.simulator.painter import Pose, Seen, Sun, paint
from sepilot_train.simulator.signs import SIGNS
from sepilot_train.simulator.staging import OBJECT_MOUNT, stage
from sepilot_train.simulator.things import CLASSES, Thing, car, cone, sign

SUN = Sun(toward=(0.0, 0.0, 1.0), ambient=0.7)
"""From straight above, so that shadows lie below the things."""


@pytest.fixture(scope="module")
def simulator() -> BuiltinSimulator:
    simulator = BuiltinSimulator(mount=OBJECT_MOUNT, randomize=False)
    simulator.reset(0)
    return simulator


def painted(simulator: BuiltinSimulator, things: Sequence[Thing], pose: Pose) -> tuple[np.ndarray, list[Seen]]:
    """On a gray scene of no colour that a thing has; without shadows, by hiding them under the same gray."""
    frame = np.full((240, 320, 3), (250, 0, 250), np.uint8)
    seen = paint(frame, simulator.camera, simulator.world, things, pose, SUN)
    return frame, seen


def ahead_of(pose: Pose, ahead: float, right: float) -> tuple[float, float]:
    x, y, yaw = pose
    return x + ahead * math.cos(yaw) - right * math.sin(yaw), y + ahead * math.sin(yaw) + right * math.cos(yaw)


def made(name: str, at: tuple[float, float], yaw: float, seed: int) -> Thing:
    rng = np.random.default_rng(seed)
    if name == "car":
        return car(*at, yaw, rng)
    return cone(*at, rng) if name == "cone" else sign(name, *at, yaw, rng)[0]


def changed(frame: np.ndarray) -> tuple[int, int, int, int]:
    """Of the pixels that a thing covers by a third or more: shadows change the brightness of magenta, not its hue."""
    scaled = frame.astype(float) / np.maximum(frame.max(axis=2, keepdims=True), 1)
    hue = np.abs(scaled - (1, 0, 1)).max(axis=2)
    rows, columns = (np.flatnonzero((hue > 0.2).any(axis=axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def fits(box: Sequence[float], frame: np.ndarray) -> bool:
    return max(abs(a - b) for a, b in zip(box, changed(frame), strict=True)) <= 1


@pytest.mark.parametrize("name", CLASSES)
def test_box_holds_the_pixels_that_the_thing_changes(simulator: BuiltinSimulator, name: str) -> None:
    pose = (0.3, -0.2, 0.7)
    for seed, (ahead, right) in enumerate([(0.8, 0.1), (1.3, -0.6), (2.2, 0.9), (0.9, 0.95)]):
        thing = made(name, ahead_of(pose, ahead, right), pose[2] + math.pi + 0.2 * seed, seed)
        frame, (seen,) = painted(simulator, [thing], pose)
        assert fits(seen.box, frame)
        shifted = [seen.box[0] + 2, seen.box[1], seen.box[2] + 2, seen.box[3]]
        assert not fits(shifted, frame)


def test_the_nearer_hides_the_farther(simulator: BuiltinSimulator) -> None:
    pose = (0.0, 0.0, 0.0)
    far = made("cone", ahead_of(pose, 2.0, 0.0), 0.0, 1)
    near = made("car", ahead_of(pose, 1.0, 0.0), 0.0, 1)
    _, alone = painted(simulator, [far], pose)
    assert alone[0].visible == pytest.approx(1, abs=0.01)
    for order in ([far, near], [near, far]):
        _, seen = painted(simulator, order, pose)
        by_name = {one.name: one for one in seen}
        assert by_name["car"].visible == pytest.approx(1, abs=0.01)
        assert "cone" not in by_name or by_name["cone"].visible < 0.5
    _, seen = painted(simulator, [dataclasses.replace(near, x_m=3.0), far], pose)
    assert {one.name: one.visible for one in seen}["cone"] == pytest.approx(1, abs=0.01)


def test_what_is_outside_of_the_picture_is_cut_off(simulator: BuiltinSimulator) -> None:
    pose = (0.0, 0.0, 0.0)
    _, (seen,) = painted(simulator, [made("car", (0.9, 0.95), 0.0, 0)], pose)
    assert seen.box[2] == 320
    assert 0.05 < seen.visible < 0.95
    assert not painted(simulator, [made("car", (-1.0, 0.0), 0.0, 0)], pose)[1]


def test_a_sign_is_read_from_its_front_alone(simulator: BuiltinSimulator) -> None:
    pose = (0.0, 0.0, 0.0)
    assert not painted(simulator, [made("stop", (1.0, 0.0), 0.0, 0)], pose)[1]
    for name, way in (("turn-left", -1), ("turn-right", 1)):
        frame, (seen,) = painted(simulator, [made(name, (1.0, 0.0), math.pi, 0)], pose)
        (left, top), (right, bottom) = seen.points["top-left"], seen.points["bottom-right"]
        assert (left, top, right, bottom) == pytest.approx(seen.box, abs=1.5)
        # The arrow's shaft stands where it comes from, its head where it leads.
        shaft = frame[round(top + 0.65 * (bottom - top)), round(left) : round(right)].astype(int)
        white = np.flatnonzero((shaft[:, 2] > 150) & (shaft[:, 1] > 150))[2:-2]
        assert np.sign(len(shaft) / 2 - white.mean()) == way


def test_equal_seeds_give_equal_pictures_and_others_others() -> None:
    first, again, other = ([*stage(seed, 3)] for seed in (4, 4, 5))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.picture, b.picture)
        assert [one.box for one in a.seen] == [one.box for one in b.seen]
        assert a.target == b.target
    assert not np.array_equal(first[0].picture, other[0].picture)
    assert set(SIGNS) < set(CLASSES)


@pytest.mark.parametrize("words", [["--objects", "--drives", "3"], ["--objects", "--no-kicks"], ["--count", "30"]])
def test_what_says_nothing_is_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", *words, "--out", str(tmp_path / "out")]) == 2
    assert "is for recording with" in capsys.readouterr().err and not (tmp_path / "out").exists()
