"""Cameras: a reader thread that keeps the newest frame only.

Drivers queue several frames and OpenCV hands out the oldest; whoever reads slower than the camera writes then steers by
the past, a little more with each frame. Here a thread empties the queue and what nobody took is dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from sepilot_runtime.errors import DriveError
from sepilot_runtime.opencv import cv2, silenced
from sepilot_runtime.sources import DEFAULT_RATE_HZ, Frame, SourceInfo

__all__ = ["CameraSource", "Capture", "open_camera"]


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def read(self) -> tuple[bool, Any]: ...
    def get(self, propId: int) -> float: ...
    def release(self) -> None: ...


def open_camera(index: int) -> CameraSource:
    """Open a camera by its index, with the driver's default size and rate.

    Raises:
        DriveError: there is no such camera, or another program holds it.
    """
    with silenced():
        capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise DriveError(f"camera {index}: cannot be opened; is it connected, and does no other program use it?")
    # One buffer where the driver honours it; the thread does the rest.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return CameraSource(f"camera {index}", capture)


class CameraSource:
    """The newest frame of a camera, each at most once.

    Attributes:
        info: size and rate as the driver reports them after opening.
        lost: "dropped" counts frames that a newer one replaced before anyone took them.
    """

    def __init__(
        self,
        where: str,
        capture: Capture,
        *,
        timeout_s: float = 2.0,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        self.info = SourceInfo(
            where=where,
            kind="camera",
            live=True,
            width=int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            height=int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            rate_hz=rate_hz if 0 < rate_hz < 1000 else DEFAULT_RATE_HZ,
            frames=None,
        )
        self.lost: Counter[str] = Counter()
        self._capture = capture
        self._timeout_s = timeout_s
        self._clock_ns = clock_ns
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._ended = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="camera reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # A driver that hangs in `read` must not hang the program; the thread is a daemon and ends with it.
        self._thread.join(timeout=self._timeout_s)
        if not self._thread.is_alive():
            self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        """
        Raises:
            DriveError: no frame came for `timeout_s`, or the camera went away.
        """
        while True:
            with self._changed:
                arrived = self._changed.wait_for(lambda: self._newest or self._ended, self._timeout_s)
                frame, self._newest = self._newest, None
            if frame is not None:
                yield frame
            elif arrived:
                raise DriveError(f"{self.info.where}: stopped giving frames; was it unplugged?")
            else:
                raise DriveError(f"{self.info.where}: no frame for {self._timeout_s:g} s")

    def _read(self) -> None:
        start_ns = self._clock_ns()
        index = 0
        while not self._stop.is_set():
            ok, image = self._capture.read()
            arrived_ns = self._clock_ns()
            if not ok:
                break
            frame = Frame(
                id=index,
                time_s=(arrived_ns - start_ns) / 1e9,
                image=np.asarray(image, np.uint8),
                arrived_ns=arrived_ns,
            )
            index += 1
            with self._changed:
                if self._newest is not None:
                    self.lost["dropped"] += 1
                self._newest = frame
                self._changed.notify()
        with self._changed:
            self._ended = True
            self._changed.notify()
