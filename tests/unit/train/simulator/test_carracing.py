"""CarRacing-v3 behind the Simulator protocol: its signs, its truth and its repeatability are ours to prove."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from sepilot_runtime.base.errors import MissingExtraError
from sepilot_train.closed_loop.drivers import ConstantDriver, ExpertDriver
from sepilot_train.closed_loop.evaluation import Command, DriverKind, evaluation_seeds, run_closed_loop
from sepilot_train.simulator import open_simulator
from sepilot_train.simulator.centreline import CentreLine

HALF_ROAD_M = 40 / 6


def circle(radius_m: float, corners: int = 360, *, clockwise: bool = True) -> CentreLine:
    angle = np.linspace(0, math.tau, corners, endpoint=False) * (-1 if clockwise else 1)
    return CentreLine(radius_m * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def test_centre_line_of_a_circle() -> None:
    line = circle(50.0)
    assert line.length_m == pytest.approx(math.tau * 50, rel=1e-4)
    # Clockwise with y up is a right bend, and its inside is on the right.
    for along in np.linspace(0, line.length_m, 17):
        assert line.curvature_at(along) == pytest.approx(1 / 50, rel=0.02)
    inside, outside = line.nearest(47.0, 0.0), line.nearest(53.0, 0.0)
    assert inside.right_m == pytest.approx(3.0, abs=0.01)
    assert outside.right_m == pytest.approx(-3.0, abs=0.01)
    assert line.at(line.length_m / 4) == pytest.approx((0.0, -50.0), abs=0.2)
    assert math.cos(line.yaw_at(line.length_m / 4)) == pytest.approx(-1.0, abs=1e-3)
    assert circle(50.0, clockwise=False).curvature_at(3.0) == pytest.approx(-1 / 50, rel=0.02)


def test_progress_goes_round_and_backwards() -> None:
    line = circle(50.0)
    assert line.difference_m(1.0, line.length_m - 1.0) == pytest.approx(2.0)
    assert line.difference_m(line.length_m - 1.0, 1.0) == pytest.approx(-2.0)


def test_a_near_stretch_of_the_track_is_not_taken_for_this_one() -> None:
    # Two straights 8 m apart, driven in opposite directions.
    line = CentreLine(np.array([[0.0, 0.0], [50, 0], [100, 0], [104, 4], [100, 8], [50, 8], [0, 8], [-4, 4]]))
    here = line.nearest(50.0, 5.0, near_m=50.0)
    assert here.along_m == pytest.approx(50.0)
    assert here.right_m == pytest.approx(-5.0)
    assert line.nearest(50.0, 5.0).right_m == pytest.approx(-3.0)


gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed (extra sim)")


@pytest.mark.parametrize(("steering", "sign"), [(0.4, 1), (-0.4, -1)])
def test_positive_steering_goes_right(steering: float, sign: int) -> None:
    simulator = open_simulator("carracing")
    _, before = simulator.reset(5)
    assert before.cte_m == pytest.approx(0.0, abs=0.01)
    assert before.heading_rad == pytest.approx(0.0, abs=0.01)
    bend = before.curvature_per_m
    for _ in range(15):
        _, state = simulator.step(steering)
    assert abs(bend) < 0.01
    assert sign * state.cte_m > 0.2
    assert sign * state.heading_rad > 0.1
    assert state.progress_m == pytest.approx(15 * simulator.speed_mps / simulator.rate_hz, rel=0.1)


def test_the_picture_shows_the_road_and_hides_the_steering_wheel() -> None:
    simulator = open_simulator("carracing")
    frame, _ = simulator.reset(5)
    assert (frame.shape, frame.dtype) == ((84, 96, 3), np.uint8)
    assert frame.flags.owndata
    blue, green, red = frame[:20].reshape(-1, 3).mean(axis=0)
    assert green > blue
    assert green > red
    # The car is red: the last channel. Swapped channels would make it blue.
    car = frame[55:75, 42:54].reshape(-1, 3).astype(int)
    assert ((car[:, 2] - car[:, 0]) > 100).any()
    # No row is the black bar of the indicators, among them the steering wheel's position.
    assert frame[-1].mean() > 40


def test_equal_seeds_give_equal_drives_whatever_came_before() -> None:
    def drive(simulator, seed):  # type: ignore[no-untyped-def]
        frame, state = simulator.reset(seed)
        for _ in range(25):
            frame, state = simulator.step(simulator.expert() + 0.1)
        return frame, state

    used, fresh = open_simulator("carracing"), open_simulator("carracing")
    drive(used, 1)
    (frame, state), (same_frame, same_state) = drive(used, 2), drive(fresh, 2)
    assert state == same_state
    assert np.array_equal(frame, same_frame)
    assert drive(fresh, 3)[1] != state


def test_recentre_puts_the_car_back_and_keeps_the_progress() -> None:
    simulator = open_simulator("carracing")
    _, state = simulator.reset(7)
    for _ in range(200):
        _, state = simulator.step(1.0)
        if state.off_road:
            break
    assert state.off_road
    assert abs(state.cte_m) > HALF_ROAD_M
    _, back = simulator.recentre()
    assert not back.off_road
    assert abs(back.cte_m) < 0.01
    assert abs(back.heading_rad) < 0.01
    assert back.progress_m == pytest.approx(state.progress_m, abs=0.5)
    # It rolls at once and does not spin from what was before.
    for _ in range(25):
        _, state = simulator.step(simulator.expert())
    assert abs(state.cte_m) < 1.5
    assert state.progress_m - back.progress_m == pytest.approx(25 * simulator.speed_mps / simulator.rate_hz, rel=0.1)


def test_expert_stays_and_its_mirror_image_and_a_locked_wheel_leave() -> None:
    simulator = open_simulator("carracing")

    class Mirrored(ExpertDriver):
        name = "mirrored"
        kind = DriverKind.FILE

        def command(self, frame):  # type: ignore[no-untyped-def]
            return Command(steering=-super().command(frame).steering)

    drivers = [ExpertDriver(simulator), ConstantDriver(), Mirrored(simulator)]
    expert, straight, mirrored = run_closed_loop(simulator, drivers, evaluation_seeds(1, 3), 150)
    assert expert.survived == 1
    assert expert.max_cte_m < HALF_ROAD_M / 3
    assert straight.survived == 0
    assert mirrored.survived == 0


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sepilot\[sim\]'"):
        open_simulator("carracing")


def test_nothing_is_printed_at_start() -> None:
    code = "from sepilot_train.simulator import open_simulator as o; o('carracing').reset(1)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
