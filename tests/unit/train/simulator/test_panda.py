"""Two rasterizers that share nothing but the world must put the same road into the same pixels."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("panda3d", reason="panda3d is not installed (extra sim3d)")

from sepilot_runtime.base.errors import SepilotError
from sepilot_train.simulator import panda_scene
from sepilot_train.simulator.camera import Camera, Mount, Optics
from sepilot_train.simulator.panda import PandaCamera, PandaSimulator, open_stage
from sepilot_train.simulator.world import World, make_world

SEEDS = (1, 2, 3, 8)
PINHOLE = Mount(lens=1.0)
GROUND_FROM_ROW = 62
MEAN_DIFFERENCE = 2.0
"""Gray levels, of ground that was blurred alike. 0.5 to 1.1 was seen; sampling differs, geometry must not."""
LINE_PX = 2.0


@pytest.fixture(scope="module", autouse=True)
def _display() -> None:
    try:
        open_stage(PINHOLE.width_px, PINHOLE.height_px)
    except SepilotError as e:
        pytest.skip(str(e))


def both(world: World, mount: Mount, planted: Mount | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Our frame and Panda3D's from one pose, off the road's centre and askew."""
    place = len(world.track.points_m) // 3
    x, y = world.track.points_m[place] + 0.1 * world.track.normals[place]
    yaw = float(world.track.heading_rad[place]) + 0.15
    frames = [
        kind(mounted, Optics(), world, np.random.default_rng(0)).render(float(x), float(y), yaw)
        for kind, mounted in ((Camera, mount), (PandaCamera, planted or mount))
    ]
    return frames[0], frames[1]


def difference(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> float:
    blurred = [cv2.GaussianBlur(frame, (0, 0), 2.0)[GROUND_FROM_ROW:] for frame in (ours, theirs)]
    return float(cv2.absdiff(*blurred).mean())


def striped(world: World) -> World:
    """The same road, black with its edges as the only thing to see: where they are is geometry and nothing else."""
    track = world.track
    ground = np.full_like(world.ground[0], 20)
    for side in (-1, 1):
        edge = track.points_m + side * 0.44 * track.normals
        texels = ((edge - world.origin_m) / world.texel_m * 16).round().astype(np.int32)
        cv2.polylines(ground, [texels[:, None]], True, (240, 240, 240), 6, cv2.LINE_AA, 4)
    levels = [ground]
    for _ in world.ground[1:]:
        levels.append(cv2.pyrDown(levels[-1]))
    return dataclasses.replace(world, ground=tuple(levels), posts=(), posts_at_m=np.empty((0, 2)), haze_per_m=0.0)


def line_columns(frame: NDArray[np.uint8], row: int) -> list[float]:
    """Sub-pixel columns of the bright lines that cross a row."""
    bright = frame[row].astype(float).mean(axis=1) - 20
    runs = np.flatnonzero(np.diff(np.concatenate([[0], bright > 60, [0]])))
    spans = [(a, b) for a, b in zip(runs[::2], runs[1::2], strict=True) if a > 0 and b < frame.shape[1]]
    return [float((np.arange(a, b) * bright[a:b]).sum() / bright[a:b].sum()) for a, b in spans]


def line_error_px(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> float:
    """Largest distance between a line in one picture and the nearest in the other; at least six must be compared."""
    errors = []
    for row in range(66, 118, 4):
        found, expected = line_columns(theirs, row), line_columns(ours, row)
        errors += [min(abs(a - b) for b in expected) for a in found if expected]
    assert len(errors) >= 6
    return max(errors)


@pytest.mark.parametrize("seed", SEEDS)
def test_both_draw_the_same_picture(seed: int) -> None:
    world = make_world(seed)
    assert difference(*both(world, PINHOLE)) < MEAN_DIFFERENCE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "mount",
    [
        PINHOLE,
        dataclasses.replace(PINHOLE, roll_deg=4.0),
        dataclasses.replace(PINHOLE, height_m=0.26, pitch_deg=20.0, forward_m=0.0, field_of_view_deg=80.0),
    ],
    ids=["plain", "rolled", "other place and lens"],
)
def test_lines_stand_in_the_same_pixels(seed: int, mount: Mount) -> None:
    assert line_error_px(*both(striped(make_world(seed)), mount)) < LINE_PX


@pytest.mark.parametrize(
    "fault",
    [{"pitch_deg": 17.0}, {"roll_deg": -4.0}, {"height_m": 0.23}, {"forward_m": 0.0}, {"field_of_view_deg": 106.0}],
)
def test_a_camera_that_stands_elsewhere_is_caught(fault: dict[str, float]) -> None:
    worlds = [striped(make_world(seed)) for seed in SEEDS]
    planted = dataclasses.replace(PINHOLE, **fault)  # type: ignore[arg-type]
    assert max(line_error_px(*both(world, PINHOLE, planted)) for world in worlds) > LINE_PX


def test_a_pitch_error_shows_in_the_whole_picture() -> None:
    worlds = [make_world(seed) for seed in SEEDS]
    planted = dataclasses.replace(PINHOLE, pitch_deg=17.0)
    assert max(difference(*both(world, PINHOLE, planted)) for world in worlds) > MEAN_DIFFERENCE


@pytest.mark.parametrize("size", [(300, 300), (256, 300), (4096, 64)])
def test_a_texture_that_would_be_drawn_white_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="powers of two below 4096"):
        panda_scene._texture(np.zeros((*size, 3), np.uint8))


def test_an_empty_frame_is_an_error_and_not_a_drive() -> None:
    simulator = PandaSimulator(randomize=False)
    simulator.reset(4)
    land = panda_scene.make_scene(simulator.world).land.root
    land.hide()
    try:
        with pytest.raises(SepilotError, match="the frame is empty"):
            simulator.step(0.0)
    finally:
        land.show()


def test_it_drives_like_the_builtin_simulator() -> None:
    from sepilot_train.simulator.builtin import BuiltinSimulator

    ours, theirs = BuiltinSimulator(), PandaSimulator()
    (_, a), (frame, b) = ours.reset(12), theirs.reset(12)
    assert a == b
    assert (frame.shape, frame.dtype) == ((120, 160, 3), np.uint8)
    for _ in range(20):
        (_, a), (frame, b) = ours.step(ours.expert()), theirs.step(theirs.expert())
    assert a == b
    assert frame.std() > 10
    again = PandaSimulator()
    again.reset(12)
    for _ in range(20):
        same, _ = again.step(again.expert())
    assert np.array_equal(frame, same)
