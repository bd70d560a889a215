"""A real RTSP session over the loopback: the newest frame, and back again after the camera was away."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rtsp_camera import HEIGHT, WIDTH, RtspCamera
from sepilot_runtime.source.opening import open_source


@pytest.fixture
def camera() -> Iterator[RtspCamera]:
    camera = RtspCamera()
    camera.start()
    yield camera
    camera.close()


def test_the_newest_frame_of_an_rtsp_camera(camera: RtspCamera) -> None:
    with open_source(camera.url) as source:
        assert source.info.live and (source.info.width, source.info.height) == (WIDTH, HEIGHT)
        images = iter(source)
        levels = []
        for _ in range(5):
            frame = next(images)
            assert frame.image.shape == (HEIGHT, WIDTH, 3) and frame.image.std() < 2
            levels.append(int(frame.image.mean()))
            time.sleep(0.08)
    assert levels == sorted(levels) and levels[-1] - levels[0] >= 8, "older frames are left out"
    assert source.lost["dropped"] > 0
    assert camera.requests[:1] == ["OPTIONS"] and "PLAY" in camera.requests


def test_an_rtsp_camera_that_was_away_comes_back(camera: RtspCamera) -> None:
    with open_source(camera.url) as source:
        images = iter(source)
        before = next(images)
        camera.close()
        camera.start(first_level=150)
        after = next(frame for frame in images if frame.image.mean() >= 149)
    assert source.lost["reconnects"] == 1
    assert after.id > before.id and after.time_s > before.time_s
