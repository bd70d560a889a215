"""Live sources: a reader thread that keeps the newest frame only, and connects again when the camera has gone.

Drivers queue several frames and OpenCV hands out the oldest; whoever reads slower than the camera writes then steers by
the past, a little more with each frame. Here a thread empties the queue and what nobody took is dropped and counted.

The thread outlives whatever the driver does: a read that fails, raises, or never returns leaves `newest` without a
frame, which is what the loop acts on. It tries again after 0.2 s, then after twice as long each time, up to 5 s.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Self

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.source.camera_request import CameraRequest
from sepilot_runtime.source.capture import Capture, Connection, camera_opener, connect_camera
from sepilot_runtime.source.pixel_formats import Image
from sepilot_runtime.source.protocol import DEFAULT_RATE_HZ, Frame, SourceInfo

__all__ = ["CameraSource", "back_off_s", "open_camera", "source_of"]

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
STALLED_S = 1.0
"""Without a frame for so long, a camera that did not say that it has gone counts as gone."""

PATIENCE_S = 5.0
"""Iterating ends when no frame came for so long."""

RELEASE_S = 2.0
"""Closing waits this long for a driver that does not return from a read."""

MOST_BAD = 30
"""Frames in a row that cannot be taken, after which the camera is opened anew."""


def open_camera(
    where: str, request: CameraRequest | None = None, *, open_capture: Callable[[], Capture] | None = None
) -> CameraSource:
    """Open a camera by its index ("0") or device ("/dev/video0", "/dev/v4l/by-id/…").

    Policy: the newest frame, each at most once. Asks for the size, rate and format of `request` and says in `info` what
    it got. Luma alone where the picture is gray and the camera sends NV12, YUYV or GREY; JPEGs decoded no larger than
    the picture takes. Connects again in the background, in the format that it had.

    Args:
        open_capture: in place of OpenCV's own, for tests.

    Raises:
        DriveError: there is no such camera, or another program holds it.
    """
    name, opener, asked = f"camera {where}", open_capture or camera_opener(where), request or CameraRequest()
    return source_of(name, "camera", lambda: connect_camera(name, opener, asked))


def source_of(name: str, kind: str, connect: Callable[[], Connection]) -> CameraSource:
    """A live source from whatever connects: called now, and again whenever the connection was lost.

    Raises:
        DriveError: it cannot connect.
    """
    first = connect()
    mode = first.mode
    info = SourceInfo(
        where=name,
        kind=kind,
        live=True,
        width=mode.width,
        height=mode.height,
        rate_hz=mode.rate_hz or DEFAULT_RATE_HZ,
        frames=None,
        format=first.format,
        note=first.note,
    )
    return CameraSource(info, first, connect)


def back_off_s(failures: int) -> float:
    """How long to wait before the next try after so many in a row that failed."""
    return min(FIRST_WAIT_S * 2.0 ** min(failures, 30), LONGEST_WAIT_S)


class CameraSource:
    """The newest frame of a live source, each at most once.

    A context manager: the thread reads from entering to leaving. Leaving does not wait for a driver that hangs.

    Attributes:
        info: what the camera gives, as read back after opening.
        lost: "dropped" counts frames that a newer one replaced before anyone took them, "reconnects" how often it was
            opened anew; other reasons are those of frames that could not be taken, and of errors in the driver.
        trouble: the last thing that went wrong, for people; "" where nothing did.
    """

    def __init__(self, info: SourceInfo, first: Connection, connect: Callable[[], Connection]) -> None:
        """
        Args:
            connect: opens it anew; DriveError where that fails.
        """
        self.info = info
        self._lost: Counter[str] = Counter()
        self.trouble = ""
        self._first, self._connect = first, connect
        self._failures = 0
        self._up = True
        self._count = 0
        self._start_ns = self._last_ns = time.monotonic_ns()
        self._newest: Frame | None = None
        self._guard = threading.Lock()
        # Free while there is a frame to take. A bare lock, as waiting for a Condition makes objects for every frame.
        self._arrived = threading.Lock()
        self._arrived.acquire()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{info.where} reader", daemon=True)

    @property
    def lost(self) -> Counter[str]:
        """As it is now: a copy, since the reader goes on counting."""
        return Counter(self._lost)

    @property
    def connected(self) -> bool:
        """False while it tries to come back, and while the driver gives nothing."""
        return self._up and time.monotonic_ns() - self._last_ns < STALLED_S * 1e9

    def __enter__(self) -> Self:
        self._start_ns = self._last_ns = time.monotonic_ns()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        # A driver that hangs in a read must not hang the program; the thread is a daemon and ends with it. Only the
        # thread itself gives the device back: doing so under a read that goes on crashes some drivers.
        self._thread.join(timeout=RELEASE_S)

    def newest(self, timeout_s: float) -> Frame | None:
        """A frame that was not taken before, waiting for it at most `timeout_s`; None when none came."""
        if not self._arrived.acquire(timeout=max(0.0, timeout_s)):
            return None
        with self._guard:
            frame, self._newest = self._newest, None
        return frame

    def __iter__(self) -> Iterator[Frame]:
        """
        Raises:
            DriveError: no frame came for some seconds.
        """
        while True:
            frame = self.newest(PATIENCE_S)
            if frame is None:
                why = f" ({self.trouble})" if self.trouble else ""
                raise DriveError(f"{self.info.where}: no frame for {PATIENCE_S:g} s{why}; was it unplugged?")
            yield frame

    def _run(self) -> None:
        connection: Connection | None = self._first
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = self._connect_again()
                else:
                    lost, connection = connection, None
                    self._read(lost)
            except Exception as e:  # noqa: BLE001
                # Whatever a driver raises, this thread goes on: without it the car would never see again.
                self._lost[f"driver error {type(e).__name__}"] += 1
                self.trouble = str(e)
        if connection is not None:
            connection.release()

    def _connect_again(self) -> Connection | None:
        if self._stop.wait(back_off_s(self._failures)):
            return None
        self._failures += 1
        try:
            connection = self._connect()
        except DriveError as e:
            self.trouble = str(e)
            return None
        if connection.format != self.info.format:
            connection.release()
            self.trouble = f"it came back with {connection.format}, it had {self.info.format}"
            return None
        self._lost["reconnects"] += 1
        self._up, self._last_ns = True, time.monotonic_ns()
        return connection

    def _read(self, connection: Connection) -> None:
        """Publish frames until the connection is lost or the source is closed."""
        bad = 0
        try:
            while not self._stop.is_set() and bad < MOST_BAD:
                if not connection.grab():
                    self.trouble = "the camera stopped giving frames"
                    break
                arrived_ns = connection.arrival_ns(time.monotonic_ns())
                try:
                    # Not kept in a variable: a buffer that is held here cannot be used for the next frame.
                    self._publish(connection.take(), arrived_ns)
                except FrameError as e:
                    self._lost[e.reason] += 1
                    self.trouble = str(e)
                    bad += 1
                else:
                    bad = self._failures = 0
        finally:
            self._up = False
            connection.release()

    def _publish(self, image: Image, arrived_ns: int) -> None:
        frame = Frame(
            id=self._count,
            time_s=(arrived_ns - self._start_ns) / 1e9,
            image=image,
            arrived_ns=arrived_ns,
        )
        self._count += 1
        self._last_ns = arrived_ns
        with self._guard:
            replaced, self._newest = self._newest, frame
            if replaced is None:
                self._arrived.release()
            else:
                self._lost["dropped"] += 1
