"""What a camera can do, found out by asking it: modes, queued frames, regularity. For `sepilot doctor`."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.opencv import cv2, silenced
from sepilot_runtime.source.camera_request import CameraRequest, PixelFormat
from sepilot_runtime.source.capture import Capture, Mode, OpenCapture, camera_opener, read_mode

__all__ = ["CameraProbe", "ModeProbe", "probe_camera"]

SIZES = ((320, 240), (640, 480), (1280, 720))
WARM_UP_FRAMES = 5
TIMED_FRAMES = 30
PAUSE_PERIODS = 12
"""Long enough for any queue to fill."""

MOST_QUEUED = 16
QUICK = 0.35
"""Of a frame period: a frame that comes sooner was waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeProbe:
    """One question and its answer."""

    asked: Mode
    got: Mode

    @property
    def given(self) -> bool:
        """Format and size are those that were asked for; the rate may be lower."""
        return replace(self.asked, rate_hz=self.got.rate_hz) == self.got


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraProbe:
    """What was found about one camera.

    Attributes:
        default: the mode in which it opened, and in which the figures below were taken.
        modes: every format and size that was asked for.
        queued: frames that waited after a pause; each makes a slow reader's frame older by one period.
        measured_hz: rate at which frames arrived; 0 where none did.
        jitter_ms: 95th percentile of the deviation of a frame's interval from the median interval.
        monotonic_stamps: the driver's time stamps are on the clock that ages are measured by.
    """

    default: Mode
    modes: tuple[ModeProbe, ...]
    queued: int
    measured_hz: float
    jitter_ms: float
    monotonic_stamps: bool


def probe_camera(
    where: str,
    *,
    request: CameraRequest | None = None,
    open_capture: OpenCapture | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> CameraProbe:
    """Ask a camera ("0", "/dev/video0") for its modes, and time its frames: some three seconds at 30 Hz.

    Args:
        request: whose rate is asked for in every mode; 60 Hz without.
        open_capture: in place of OpenCV's own, for tests.

    Raises:
        DriveError: it cannot be opened.
    """
    with silenced(), _opened(where, open_capture) as capture:
        default = read_mode(capture)
        stamps = _intervals(capture, clock_ns, WARM_UP_FRAMES + TIMED_FRAMES)[WARM_UP_FRAMES:]
        monotonic = _has_monotonic_stamps(capture, clock_ns)
        period_ns = statistics.median(stamps) if stamps else 0.0
        queued = _queued(capture, period_ns, clock_ns, sleep) if stamps else 0
        modes = tuple(_modes(capture, (request or CameraRequest()).rate_hz or 60.0))
    deviations = sorted(abs(step - period_ns) for step in stamps)
    return CameraProbe(
        default=default,
        modes=modes,
        queued=queued,
        measured_hz=round(1e9 / statistics.fmean(stamps), 2) if stamps else 0.0,
        jitter_ms=round(deviations[int(0.95 * (len(deviations) - 1))] / 1e6, 3) if stamps else 0.0,
        monotonic_stamps=monotonic,
    )


@contextlib.contextmanager
def _opened(where: str, open_capture: OpenCapture | None) -> Iterator[Capture]:
    capture = (open_capture or camera_opener(where))()
    try:
        if not capture.isOpened():
            raise DriveError(f"camera {where}: cannot be opened; is it connected, and does no other program use it?")
        yield capture
    finally:
        capture.release()


def _intervals(capture: Capture, clock_ns: Callable[[], int], frames: int) -> list[int]:
    """Nanoseconds between so many frames, read as fast as they come; fewer where it stops giving them."""
    steps: list[int] = []
    last_ns: int | None = None
    for _ in range(frames + 1):
        if not capture.grab():
            break
        now_ns = clock_ns()
        if last_ns is not None:
            steps.append(now_ns - last_ns)
        last_ns = now_ns
    return steps


def _has_monotonic_stamps(capture: Capture, clock_ns: Callable[[], int]) -> bool:
    delay_s = clock_ns() / 1e9 - capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
    return -0.001 < delay_s < 1


def _queued(capture: Capture, period_ns: float, clock_ns: Callable[[], int], sleep: Callable[[float], None]) -> int:
    """How many frames come at once after nobody asked for some."""
    sleep(PAUSE_PERIODS * period_ns / 1e9)
    for count in range(MOST_QUEUED):
        start_ns = clock_ns()
        if not capture.grab() or clock_ns() - start_ns > QUICK * period_ns:
            return count
    return MOST_QUEUED


def _modes(capture: Capture, rate_hz: float) -> list[ModeProbe]:
    found = []
    for format in (PixelFormat.NV12, PixelFormat.GREY, PixelFormat.YUYV, PixelFormat.MJPG):
        fourcc = format.value.upper()
        capture.set(cv2.CAP_PROP_FOURCC, float(cv2.VideoWriter.fourcc(*fourcc)))
        if read_mode(capture).fourcc != fourcc:
            continue
        for width, height in SIZES:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, float(width))
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, float(height))
            capture.set(cv2.CAP_PROP_FPS, rate_hz)
            asked = Mode(fourcc=fourcc, width=width, height=height, rate_hz=rate_hz)
            found.append(ModeProbe(asked=asked, got=read_mode(capture)))
    return found
