"""A live source gives the newest frame and its age, and comes back from whatever the camera does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from fake_capture import (
    FakeCamera,
    black,
    exception,
    fail,
    frames,
    freeze,
    hang,
    resized,
    unplug,
)
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.source import camera as cameras
from sepilot_runtime.source.camera import CameraSource, back_off_s, open_camera
from sepilot_runtime.source.capture import Connection, Mode
from sepilot_runtime.source.opening import open_source
from sepilot_runtime.source.protocol import Frame


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(cameras, "LONGEST_WAIT_S", 0.004)
    monkeypatch.setattr(cameras, "RELEASE_S", 0.2)


def source_over(camera: FakeCamera) -> CameraSource:
    return open_camera("0", open_capture=camera.open)


def number_of(frame: Frame | None) -> int:
    assert frame is not None, "no frame came"
    return int(frame.image.reshape(-1)[0])


def played(camera: FakeCamera, source: CameraSource, acts: int) -> list[Frame]:
    """The frames that came of so many acts of a stepped camera."""
    got = []
    for _ in range(acts):
        camera.step()
        frame = source.newest(0.0)
        if frame is not None:
            got.append(frame)
    return got


def wait_until(condition: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


# --- Newest only ----------------------------------------------------------------------------------------------------


def test_the_newest_frame_is_given_once_and_the_others_are_counted() -> None:
    camera = FakeCamera(script=[frames(9)], stepped=True)
    with source_over(camera) as source:
        camera.step(5)
        newest = source.newest(1.0)
        assert newest is not None and newest.id == 4 and number_of(newest) == 4
        assert source.lost == {"dropped": 4}
        assert source.newest(0.01) is None
        camera.step(1)
        assert number_of(source.newest(1.0)) == 5
        assert source.lost == {"dropped": 4}
        camera.release_hangs()
    assert camera.released == 1


def test_waiting_ends_when_a_frame_comes() -> None:
    camera = FakeCamera(script=[frames(3)], stepped=True)
    with source_over(camera) as source:
        later = threading.Timer(0.03, camera.step)
        later.start()
        start = time.monotonic()
        assert number_of(source.newest(60.0)) == 0
        assert time.monotonic() - start < 30
        later.join()
        camera.release_hangs()


def test_a_frame_carries_the_time_of_its_arrival() -> None:
    camera = FakeCamera(script=[frames(4)], stepped=True)
    with source_over(camera) as source:
        start_ns = time.monotonic_ns()
        got = played(camera, source, 3)
        camera.release_hangs()
    stamps = [frame.arrived_ns for frame in got]
    assert len(stamps) == 3 and stamps == sorted(stamps)
    assert start_ns <= stamps[0] and stamps[-1] <= time.monotonic_ns()
    assert got[2].time_s - got[0].time_s == pytest.approx((stamps[2] - stamps[0]) / 1e9)


def test_iterating_gives_newest_frames_and_ends_in_a_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera(script=[frames(9)], stepped=True)
    with source_over(camera) as source:
        images: Iterator[Frame] = iter(source)
        camera.step(2)
        assert number_of(next(images)) == 1
        camera.step(1)
        assert number_of(next(images)) == 2
        monkeypatch.setattr(cameras, "PATIENCE_S", 0.05)
        with pytest.raises(DriveError, match=r"camera 0: no frame for 0\.05 s.*unplugged"):
            next(images)
        camera.release_hangs()


# --- What a camera does on a bad day --------------------------------------------------------------------------------


def test_a_camera_that_was_never_there_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    for spec in ("97", "/dev/video97"):
        with pytest.raises(DriveError, match=f"camera {spec}: cannot be opened"):
            open_source(spec)
    assert capfd.readouterr().err == ""


def test_unplugged_and_back() -> None:
    camera = FakeCamera(script=[frames(2), unplug(tries=3), frames(2)], stepped=True)
    with source_over(camera) as source:
        camera.step(2)
        assert source.connected
        before = source.newest(1.0)
        camera.asks.acquire()
        camera.turns.release()
        wait_until(lambda: not source.connected)
        assert source.newest(0.0) is None
        # Three tries fail, the fourth opens; the reader then asks for a frame again.
        camera.step(1)
        after = source.newest(1.0)
        assert source.connected and before is not None and after is not None
        assert after.id == before.id + 1
        assert (camera.opened, camera.released) == (2, 5 - 1)
        assert source.lost["reconnects"] == 1
        camera.release_hangs()


@pytest.mark.parametrize("error", [ValueError, MemoryError, OSError, SystemError])
def test_the_reader_outlives_every_exception(error: type[Exception]) -> None:
    camera = FakeCamera(script=[frames(1), exception(error), frames(1), fail(), frames(1)], stepped=True)
    with source_over(camera) as source:
        assert [frame.id for frame in played(camera, source, 5)] == [0, 1, 2]
        assert source.lost == {f"driver error {error.__name__}": 1, "reconnects": 2}
        camera.release_hangs()
    assert camera.opened == camera.released == 3


def test_an_opening_that_raises_is_tried_again() -> None:
    camera = FakeCamera(script=[frames(1), fail(), frames(1)], stepped=True)
    source = source_over(camera)
    connect, calls = source._connect, [0]

    def sometimes() -> Connection:
        calls[0] += 1
        if calls[0] < 3:
            raise RuntimeError("driver not loaded yet")
        return connect()

    source._connect = sometimes
    with source:
        assert len(played(camera, source, 3)) == 2
        assert source.lost == {"driver error RuntimeError": 2, "reconnects": 1}
        camera.release_hangs()


def test_a_camera_that_hangs_is_noticed_and_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera(script=[frames(1), hang(), frames(1)])
    with source_over(camera) as source:
        assert number_of(source.newest(5.0)) == 0
        monkeypatch.setattr(cameras, "STALLED_S", 0.02)
        assert source.newest(0.05) is None
        assert not source.connected
        camera.release_hangs()
        assert number_of(source.newest(5.0)) == 1
        monkeypatch.setattr(cameras, "STALLED_S", 60.0)
        assert source.connected
        camera.release_hangs()


def test_closing_does_not_wait_for_a_camera_that_hangs() -> None:
    camera = FakeCamera(script=[frames(1), hang()])
    with source_over(camera) as source:
        assert number_of(source.newest(5.0)) == 0
        start = time.monotonic()
    assert time.monotonic() - start < 30
    assert source._thread.is_alive() and source._thread.daemon and not camera.released
    # Should the driver ever return, the reader gives the device back and ends.
    camera.release_hangs()
    source._thread.join(60)
    assert not source._thread.is_alive() and camera.released == 1


def test_closing_does_not_wait_for_a_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "FIRST_WAIT_S", 120.0)
    monkeypatch.setattr(cameras, "LONGEST_WAIT_S", 120.0)
    start = time.monotonic()
    with source_over(FakeCamera(script=[unplug(tries=99)])) as source:
        wait_until(lambda: not source.connected)
    assert time.monotonic() - start < 60 and not source._thread.is_alive()


def test_frames_of_any_kind_are_passed_on_for_the_loop_to_judge() -> None:
    camera = FakeCamera(script=[frames(1), freeze(1), black(1), resized(1, 32, 24), frames(1)], stepped=True)
    with source_over(camera) as source:
        got = [frame.image for frame in played(camera, source, 5)]
        camera.release_hangs()
    assert np.array_equal(got[0], got[1])
    assert not got[2].any()
    assert [image.shape for image in got[2:]] == [(48, 64, 3), (24, 32, 3), (48, 64, 3)]


def test_a_camera_that_comes_back_with_another_format_is_not_taken() -> None:
    camera = FakeCamera(script=[frames(1), fail(), frames(1)], stepped=True)
    with source_over(camera) as source:
        assert len(played(camera, source, 1)) == 1
        camera.formats = {"MJPG": 30.0}
        camera.asks.acquire()
        camera.turns.release()
        wait_until(lambda: "it had YUYV" in source.trouble)
        assert source.newest(0.02) is None and not source.connected
        camera.formats = {"YUYV": 30.0}
        assert len(played(camera, source, 1)) == 1
        camera.release_hangs()


def test_back_off_doubles_up_to_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [back_off_s(n) for n in range(7)] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert back_off_s(100_000) == 5.0


# --- Memory ---------------------------------------------------------------------------------------------------------


def test_a_frame_that_is_held_never_changes() -> None:
    camera = FakeCamera(script=[frames(60)], stepped=True)
    held: list[Frame] = []
    with source_over(camera) as source:
        for index in range(40):
            camera.step(1)
            frame = source.newest(1.0)
            assert frame is not None
            if index % 3 == 0:
                held.append(frame)
            # A part of an image keeps all of it.
            rows = frame.image[10:20]
        camera.release_hangs()
    assert [number_of(frame) for frame in held] == list(range(0, 40, 3))
    assert len({frame.image.ctypes.data for frame in held}) == len(held)
    assert np.array_equal(rows, np.random.default_rng(39).integers(40, 200, (48, 64, 3), np.uint8)[10:20])


def test_frames_that_are_let_go_lend_their_memory_to_the_next() -> None:
    camera = FakeCamera(script=[frames(200)], stepped=True)
    with source_over(camera) as source:
        for _ in range(100):
            camera.step(1)
            assert source.newest(1.0) is not None
        camera.release_hangs()
    assert camera.count >= 100
    assert camera.allocated <= 4


def test_reconnecting_for_ever_leaves_no_threads_and_no_captures() -> None:
    camera = FakeCamera(script=[[*frames(1), *unplug(tries=1)] * 50], rate_hz=2000)
    threads = threading.active_count()
    with source_over(camera) as source:
        wait_until(camera.ended.is_set)
        assert threading.active_count() == threads + 1
        assert source.lost["reconnects"] == 50
        camera.release_hangs()
    assert threading.active_count() == threads
    assert camera.released == camera.opened + 50  # The tries that found no camera as well.


# --- Age ------------------------------------------------------------------------------------------------------------


class Stamps:
    """A capture that gives the stamps that it is told, in milliseconds."""

    def __init__(self, *stamps_ms: float) -> None:
        self._stamps = iter(stamps_ms)
        self._now = 0.0

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        self._now = next(self._stamps)
        return True

    def retrieve(self, image: object = None) -> tuple[bool, object]:
        return False, None

    def get(self, propId: int) -> float:
        return self._now

    def set(self, propId: int, value: float) -> bool:
        return True

    def release(self) -> None:
        pass


def arrivals(stamps_ms: list[float], grabbed_ms: list[float], *, stamped: bool = True) -> list[float]:
    mode = Mode(fourcc="YUYV", width=64, height=48, rate_hz=30.0)
    connection = Connection(Stamps(*stamps_ms), lambda c: np.empty(0, np.uint8), mode, stamped=stamped)
    found = []
    for now_ms in grabbed_ms:
        assert connection.grab()
        found.append(connection.arrival_ns(round(now_ms * 1e6)) / 1e6)
    return found


def test_a_frame_that_waited_in_the_queue_is_as_old_as_its_stamp_says() -> None:
    # A transfer of 20 ms for each; then this process stood still for two seconds with two frames in the queue.
    stamps = [1000.0, 1033.0, 1066.0, 1100.0, 3090.0]
    grabbed = [1020.0, 1053.0, 3100.0, 3100.1, 3110.0]
    assert arrivals(stamps, grabbed) == pytest.approx([1020, 1053, 1086, 1120, 3110], abs=0.5)


@pytest.mark.parametrize("stamps", [[0.0] * 3, [1.7e12, 1.7e12 + 33, 1.7e12 + 66], [0.0, 33.0, 66.0]])
def test_stamps_on_another_clock_are_not_believed(stamps: list[float]) -> None:
    grabbed = [50_000.0, 50_033.0, 50_066.0]
    assert arrivals(stamps, grabbed) == pytest.approx(grabbed)
    assert arrivals([50_000.0] * 3, grabbed, stamped=False) == pytest.approx(grabbed)


def ages(shift_ms: Callable[[int], float], count: int = 200) -> list[float]:
    """How old frames at 40 Hz, each 5 ms on its way, seem to be where the stamps' clock is off by `shift_ms(frame)`."""
    grabbed = [50_000.0 + 25 * i for i in range(count)]
    found = arrivals([now - 5 + shift_ms(i) for i, now in enumerate(grabbed)], grabbed)
    return [now - arrived for now, arrived in zip(grabbed, found, strict=True)]


@pytest.mark.parametrize("shift_ms", [2000.0, 40.0, 1e7])
def test_one_stamp_from_the_future_makes_no_frame_old(shift_ms: float) -> None:
    assert max(ages(lambda i: shift_ms if i == 50 else 0.0)) < 0.5


@pytest.mark.parametrize("shift_ms", [2000.0, -300.0, -2000.0, 1e7, -40_000.0])
def test_a_clock_of_stamps_that_was_set_is_believed_within_a_second(shift_ms: float) -> None:
    found = ages(lambda i: shift_ms if i >= 50 else 0.0)
    assert max(found[:50]) < 0.5 and max(found[50 + 40 :]) < 0.5
    assert max(found[50:90]) == pytest.approx(max(0.0, -shift_ms), abs=0.5), "until then it may be an old frame"
    # It goes on telling which frames waited in the queue.
    assert ages(lambda i: (shift_ms if i >= 50 else 0.0) - (300.0 if i == 150 else 0.0))[150] == pytest.approx(
        300, abs=1
    )


def test_a_clock_that_jumps_for_a_moment_and_back_is_believed_within_a_second() -> None:
    found = ages(lambda i: 2000.0 if 50 <= i < 120 else 0.0, 300)
    assert max(found[:120]) < 0.5 and max(found[160:]) < 0.5


def test_a_clock_that_drifts_makes_no_frame_old() -> None:
    """By 100 parts in a million, for an hour."""
    for drift in (1e-4, -1e-4):
        assert max(ages(lambda i, d=drift: 25 * i * d, 40 * 3600)) < 1  # type: ignore[misc]


def test_old_buffers_in_turn_are_old_for_ever_by_their_stamps() -> None:
    """Four buffers that the driver hands out again and again, each with the stamp that it once had."""
    found = ages(lambda i: 0.0 if i < 50 else -25.0 * (i - 46 - i % 4), 400)
    assert min(found[60:]) > 150


def test_a_driver_that_repeats_one_frame_for_ever_is_a_lost_camera() -> None:
    mode = Mode(fourcc="YUYV", width=64, height=48, rate_hz=30.0)
    connection = Connection(Stamps(*[1000.0] * 50), lambda c: np.empty(0, np.uint8), mode, stamped=True)
    assert [connection.grab() for _ in range(12)].count(True) == 10
