"""What `doctor` finds out about a camera, by a clock that only moves when the camera does."""

from __future__ import annotations

import pytest

from fake_capture import FakeCamera, FakeClock, fail, frames, slow
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.source.camera_probe import CameraProbe, probe_camera


class QueueingCamera(FakeCamera):
    """Has frames waiting after somebody paused, as drivers with several buffers do."""

    depth = 0
    waiting = 0

    def pause(self, seconds: float) -> None:
        self.clock.sleep(seconds)  # type: ignore[attr-defined]
        self.waiting = self.depth

    def period(self, seconds: float) -> None:
        if self.waiting:
            self.waiting -= 1
        else:
            self.clock.sleep(seconds)  # type: ignore[attr-defined]


def probed(depth: int = 0, **changes: object) -> CameraProbe:
    clock = FakeClock()
    camera = QueueingCamera(**{"script": [frames(99)], "rate_hz": 30, "clock_ns": clock, **changes})  # type: ignore[arg-type]
    camera.clock, camera.depth, camera.sleep = clock, depth, camera.period  # type: ignore[attr-defined]
    found = probe_camera("0", open_capture=camera.open, clock_ns=clock, sleep=camera.pause)
    assert camera.released == 1
    return found


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_queued_frames_are_counted(depth: int) -> None:
    assert probed(depth).queued == depth


def test_rate_and_jitter_are_measured() -> None:
    steady = probed(stamped=True)
    assert steady.measured_hz == pytest.approx(30, abs=0.01)
    assert steady.jitter_ms == 0
    assert steady.monotonic_stamps
    shaky = probed(script=[frames(10), *([*frames(4), *slow(1, 0.02)] for _ in range(20))])
    assert shaky.jitter_ms == pytest.approx(20, abs=1)
    assert shaky.measured_hz < 28 and not shaky.monotonic_stamps


def test_modes_are_asked_for_and_read_back() -> None:
    found = probed(formats={"YUYV": 30.0, "MJPG": 60.0}, sizes=((320, 240), (640, 480)), width=640, height=480)
    assert str(found.default) == "640x480 YUYV at 30 Hz"
    given = {(mode.got.fourcc, mode.asked.width): mode for mode in found.modes}
    assert set(given) == {(fourcc, width) for fourcc in ("YUYV", "MJPG") for width in (320, 640, 1280)}
    assert given["MJPG", 640].given and given["MJPG", 640].got.rate_hz == 60
    assert given["YUYV", 640].given and given["YUYV", 640].got.rate_hz == 30
    assert not given["YUYV", 1280].given


def test_a_camera_that_gives_nothing_has_no_figures() -> None:
    found = probed(script=[fail() * 9])
    assert (found.measured_hz, found.queued, found.jitter_ms, found.monotonic_stamps) == (0, 0, 0, False)
    assert found.modes


def test_a_camera_that_is_not_there_is_an_error() -> None:
    camera = FakeCamera(script=[], refused=1)
    with pytest.raises(DriveError, match="camera 0: cannot be opened"):
        probe_camera("0", open_capture=camera.open)
    assert camera.released == 1
