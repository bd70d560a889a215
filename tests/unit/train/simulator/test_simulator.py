"""The built-in simulator: sides, geometry, repeatability, an expert that stays and a control that does not."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from sepilot_runtime.base.errors import UsageError
from sepilot_train.simulator import EVALUATION_SEED, open_simulator
from sepilot_train.simulator.builtin import BuiltinSimulator
from sepilot_train.simulator.camera import Camera, Mount, Optics
from sepilot_train.simulator.car import Car, CarBody
from sepilot_train.simulator.ground import offsets
from sepilot_train.simulator.protocol import USUAL_THROTTLE
from sepilot_train.simulator.track import make_track
from sepilot_train.simulator.world import make_world

LENSES = [1.0, 0.7, 0.4, 0.05]


@pytest.fixture(scope="module")
def plain() -> BuiltinSimulator:
    """World 0 without randomization: dark road, green verge."""
    simulator = BuiltinSimulator(randomize=False)
    simulator.reset(0)
    return simulator


def test_track_is_closed_smooth_and_consistent() -> None:
    for seed in range(20):
        track = make_track(np.random.default_rng([seed, 1]))
        ahead = np.roll(track.points_m, -1, axis=0) - track.points_m
        assert np.hypot(*ahead.T) == pytest.approx(track.spacing_m, rel=0.01)
        direction = np.arctan2(ahead[:, 1], ahead[:, 0])
        assert _wrapped(direction - track.heading_rad) == pytest.approx(0, abs=0.01)
        turn = _wrapped(np.roll(track.heading_rad, -1) - track.heading_rad)
        assert turn == pytest.approx(track.curvature_per_m * track.spacing_m, abs=5e-4)
        assert abs(track.curvature_per_m.sum() * track.spacing_m) == pytest.approx(2 * math.pi, rel=1e-3)


def test_both_directions_of_travel_are_drawn() -> None:
    senses = {np.sign(make_track(np.random.default_rng([seed, 1])).curvature_per_m.mean()) for seed in range(12)}
    assert senses == {-1.0, 1.0}


def test_offset_is_positive_to_the_right() -> None:
    track = make_track(np.random.default_rng(5))
    heading = track.heading_rad[100]
    # East is x, south is y: to the right of east is south.
    right = np.array([math.cos(heading + math.pi / 2), math.sin(heading + math.pi / 2)])
    x, y = track.points_m[100] + 0.2 * right
    assert track.nearest(x, y, around=80) == pytest.approx(100, abs=1)
    assert track.offset_m(x, y, 100) == pytest.approx(0.2, abs=1e-9)


def test_painted_offsets_agree_with_the_track() -> None:
    track = make_track(np.random.default_rng(6))
    origin = track.points_m.min(axis=0) - 1.0
    width, height = np.ceil((track.points_m.max(axis=0) + 1.0 - origin) / 0.02).astype(int)
    offset, sample = offsets(track, origin, 0.02, (int(width), int(height)))
    rng = np.random.default_rng(0)
    near = np.argwhere(np.abs(offset) < 0.6)
    for row, column in near[rng.integers(len(near), size=200)]:
        x, y = origin + np.array([column, row]) * 0.02
        away = np.hypot(*(track.points_m - (x, y)).T)
        i = int(away.argmin())
        assert abs(track.steps_between(i, int(sample[row, column]))) < 20
        assert offset[row, column] == pytest.approx(track.offset_m(x, y, i), abs=0.005)


def test_steering_right_turns_right_on_the_circle_of_the_bicycle() -> None:
    body = CarBody()
    car = Car(body=body)
    for _ in range(20):
        car.advance(1.0, 0.05)
    before = car.yaw_rad
    car.advance(1.0, 0.05)
    radius = body.wheelbase_m / math.tan(math.radians(body.full_scale_deg))
    assert car.yaw_rad - before == pytest.approx(body.speed_mps * 0.05 / radius, rel=1e-3)
    car.place(0, 0, 0)
    car.advance(1.0, 0.1)
    assert car.x_m > 0
    assert car.y_m > 0, "heading east, right is south, which is +y"


def test_steering_lags_and_is_clipped() -> None:
    car, beyond = Car(body=CarBody()), Car(body=CarBody())
    car.advance(1.0, CarBody().lag_s)
    beyond.advance(7.0, CarBody().lag_s)
    assert car.wheel_rad == pytest.approx(math.radians(26) * (1 - math.exp(-1)))
    assert beyond.wheel_rad == car.wheel_rad


def test_the_speed_follows_the_throttle_and_is_the_usual_one_without() -> None:
    simulator = BuiltinSimulator(randomize=False)
    _, state = simulator.reset(0)
    speeds = [simulator.step(simulator.expert())[1].speed_mps for _ in range(5)]
    assert set(speeds) == {state.speed_mps} == {simulator.speed_mps}
    for throttle, wanted in ((USUAL_THROTTLE / 2, 0.5), (0.0, 0.0), (2 * USUAL_THROTTLE, 2.0)):
        reached = [simulator.step(simulator.expert(), throttle)[1].speed_mps for _ in range(60)]
        assert reached[-1] == pytest.approx(wanted * simulator.speed_mps, abs=0.01)
        assert abs(reached[0] - reached[-1]) > 0.3, "a car has mass"
    simulator.reset(0)
    assert simulator.step(0.0)[1].speed_mps == simulator.speed_mps


def test_the_expert_slows_for_bends_and_stays_on_the_line() -> None:
    simulator = BuiltinSimulator(randomize=False)
    _, state = simulator.reset(3)
    bends, straights, speeds = [], [], []
    for _ in range(400):
        throttle = simulator.expert_throttle()
        assert 0.1 < throttle <= USUAL_THROTTLE
        (bends if abs(state.curvature_per_m) > 0.6 else straights).append(throttle)
        _, state = simulator.step(simulator.expert(), throttle)
        speeds.append(state.speed_mps)
        assert abs(state.cte_m) < 0.1
    assert np.mean(bends) < np.mean(straights) - 0.03 and max(straights) == USUAL_THROTTLE
    assert min(speeds) < 0.75 * simulator.speed_mps < max(speeds)


@pytest.mark.parametrize("lens", LENSES)
def test_projection_is_the_inverse_of_the_ground_rays(lens: float) -> None:
    mount = Mount(lens=lens, roll_deg=3.0, pitch_deg=17.0, height_m=0.25)
    camera = Camera(mount, Optics(), make_world(0, False), np.random.default_rng(0))
    v, u = np.nonzero(camera.sees_ground)
    ground = camera.ground_m[v, u].astype(np.float64)
    pixels, seen = camera.project(np.column_stack([ground, np.zeros(len(ground))]))
    close = ground[:, 0] < 6
    assert seen.all()
    assert pixels[close] == pytest.approx(np.column_stack([u, v])[close], abs=0.01)


@pytest.mark.parametrize("lens", LENSES)
def test_field_of_view_reaches_the_edges(lens: float) -> None:
    mount = Mount(lens=lens, field_of_view_deg=120, pitch_deg=0)
    camera = Camera(mount, Optics(), make_world(0, False), np.random.default_rng(0))
    side = np.array([[math.cos(math.radians(60)) + mount.forward_m, math.sin(math.radians(60)), mount.height_m]])
    assert camera.project(side)[0][0] == pytest.approx([159.5, 59.5])


def test_pinhole_agrees_with_similar_triangles() -> None:
    mount = Mount(lens=1.0, pitch_deg=0, field_of_view_deg=90)
    camera = Camera(mount, Optics(), make_world(0, False), np.random.default_rng(0))
    pixels, _ = camera.project(np.array([[2 + mount.forward_m, 0.5, 0.0]]))
    assert pixels[0] == pytest.approx([79.5 + 80 * 0.25, 59.5 + 80 * mount.height_m / 2])


@pytest.mark.parametrize("aside_m", [-0.3, 0.3])
def test_right_of_the_centre_the_line_is_seen_to_the_left(plain: BuiltinSimulator, aside_m: float) -> None:
    track = plain.world.track
    straight = int(np.abs(track.curvature_per_m).argmin())
    x, y = track.points_m[straight] + aside_m * track.normals[straight]
    frame = plain.camera.render(x, y, float(track.heading_rad[straight]))
    rows = frame[80:].astype(int)
    yellow = (rows[..., 2] > 130) & (rows[..., 0] < 110)
    assert yellow.sum() > 20
    assert (np.nonzero(yellow)[1].mean() - 79.5) * aside_m < 0


def test_line_is_drawn_where_projection_says(plain: BuiltinSimulator) -> None:
    """The painted edge line, seen through the whole chain, lies on the pixels of its place on the map."""
    track, i = plain.world.track, 300
    x, y = (float(v) for v in track.points_m[i])
    yaw = float(track.heading_rad[i])
    frame = plain.camera.render(x, y, yaw).min(axis=2)
    along = (i + np.arange(50, 120, 5)) % len(track.points_m)
    bright = {}
    for inside_m in (0.06, 0.2):
        for side in (-1, 1):
            away = track.points_m[along] + side * (track.half_width_m - inside_m) * track.normals[along] - (x, y)
            ahead, right = away @ (math.cos(yaw), math.sin(yaw)), away @ (-math.sin(yaw), math.cos(yaw))
            pixels, seen = plain.camera.project(np.column_stack([ahead, right, np.zeros(len(away))]))
            shown = seen & (pixels > 2).all(axis=1) & (pixels[:, 0] < 157) & (pixels[:, 1] < 117)
            u, v = np.round(pixels[shown]).astype(int).T
            bright[inside_m, side] = frame[v, u]
            assert len(u) >= 4
    for side in (-1, 1):
        assert bright[0.06, side].min() > bright[0.2, side].max() + 15


def test_curve_to_the_right_has_positive_truths() -> None:
    simulator = BuiltinSimulator()
    for seed in range(3):
        _, state = simulator.reset(seed)
        assert state.cte_m == pytest.approx(0, abs=1e-6)
        assert state.heading_rad == pytest.approx(0, abs=1e-6)
        _, right = simulator.step(1.0)
        for _ in range(3):
            _, right = simulator.step(1.0)
        assert right.heading_rad > 0
        assert right.cte_m > 0
        assert right.progress_m > 0
        assert simulator.expert() < 0, "to the right of the line the expert steers left"


def test_equal_seeds_give_equal_drives_and_others_do_not() -> None:
    one, other = BuiltinSimulator(), BuiltinSimulator()
    other.reset(8)
    for seed in (7, 8):
        first = [one.reset(seed), *(one.step(one.expert()) for _ in range(5))]
        make_world.cache_clear()
        second = [other.reset(seed), *(other.step(other.expert()) for _ in range(5))]
        for (frame, state), (again, state_again) in zip(first, second, strict=True):
            assert state == state_again
            assert np.array_equal(frame, again)
    assert not np.array_equal(one.reset(7)[0], one.reset(8)[0])


def test_randomization_changes_the_looks_and_not_the_track() -> None:
    plain, varied = make_world(3, False), make_world(3, True)
    assert np.array_equal(plain.track.points_m, varied.track.points_m)
    assert not np.array_equal(plain.ground[-1], varied.ground[-1])


def test_frames_are_pictures() -> None:
    """Not constant, not black or white, and each drive moves."""
    simulator = BuiltinSimulator()
    for seed in range(6):
        first, _ = simulator.reset(seed)
        assert first.shape == (120, 160, 3)
        assert first.dtype == np.uint8
        for _ in range(10):
            frame, _ = simulator.step(simulator.expert())
        assert frame.std() > 12
        assert 20 < frame.mean() < 235
        assert np.abs(frame.astype(int) - first).mean() > 3


def test_expert_stays_on_the_road() -> None:
    simulator = BuiltinSimulator()
    for seed in (0, 1, 2, EVALUATION_SEED, EVALUATION_SEED + 1):
        simulator.reset(seed)
        states = [simulator.step(simulator.expert())[1] for _ in range(300)]
        assert max(abs(state.cte_m) for state in states) < 0.06
        assert states[-1].progress_m == pytest.approx(300 * 0.05 * simulator.speed_mps, rel=0.03)
        assert states[-1].laps == pytest.approx(states[-1].progress_m / simulator.world.track.length_m)


def test_steering_zero_leaves_the_road_and_recentre_brings_it_back() -> None:
    simulator = BuiltinSimulator()
    for seed in range(4):
        simulator.reset(seed)
        left = False
        for _ in range(300):
            _, state = simulator.step(0.0)
            assert state.off_road == (abs(state.cte_m) > simulator.world.track.half_width_m)
            if state.off_road:
                left = True
                break
        assert left
        _, back = simulator.recentre()
        assert not back.off_road
        assert back.cte_m == pytest.approx(0, abs=1e-6)
        assert back.progress_m == state.progress_m
        assert max(abs(simulator.step(simulator.expert())[1].cte_m) for _ in range(40)) < 0.06


def test_unknown_simulator_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"carla.*builtin, carracing, panda3d"):
        open_simulator("carla")


def test_builtin_needs_numpy_and_opencv_only() -> None:
    code = (
        "import sys; from sepilot_train.simulator import open_simulator; s = open_simulator('builtin'); s.reset(0);"
        "heavy = {'keras', 'tensorflow', 'gymnasium', 'panda3d', 'matplotlib', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + math.pi) % (2 * math.pi) - math.pi
