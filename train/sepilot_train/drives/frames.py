"""Where the pixels come from: image files, or one video file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.errors import DriveError, FrameError
from sepilot_runtime.opencv import cv2

__all__ = ["ImageFrames", "VideoFrames"]


class ImageFrames:
    """One image file per row. May be read by several threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, row: int) -> NDArray[np.uint8]:
        path = self._paths[row]
        try:
            data = path.read_bytes()
        except FileNotFoundError as e:
            raise FrameError("image is missing", str(path)) from e
        except OSError as e:
            raise FrameError("image cannot be read", f"{path}: {e.strerror or e}") from e
        # The decoder fills the rest of a truncated JPEG with gray and reports success.
        if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-64:]:
            raise FrameError("image is truncated", str(path))
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if frame is None:
            raise FrameError("image does not decode", str(path))
        return frame.astype(np.uint8, copy=False)

    def stamp(self) -> bytes:
        digest = hashlib.sha256()
        for path in self._paths:
            digest.update(_stamp(path))
        return digest.digest()


class VideoFrames:
    """The frames of a video file, fastest in their order; `numbers` are those that the rows stand for, from 0."""

    def __init__(self, path: Path, numbers: Sequence[int]) -> None:
        self._path = path
        self._numbers = list(numbers)
        self._capture: cv2.VideoCapture | None = None
        self._next = 0
        # A capture has one position; two readers would take each other's frames.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, row: int) -> NDArray[np.uint8]:
        number = self._numbers[row]
        with self._lock:
            if self._capture is None or number < self._next:
                self._capture = open_video(self._path)
                self._next = 0
            # Seeking is inexact in many containers; going there frame by frame is not.
            while self._next < number:
                self._next += 1
                if not self._capture.grab():
                    raise FrameError("video ends early", f"{self._path}: frame {number}")
            ok, frame = self._capture.read()
            self._next += 1
        if not ok or frame is None:
            raise FrameError("frame does not decode", f"{self._path}: frame {number}")
        return np.asarray(frame, np.uint8)

    def stamp(self) -> bytes:
        return hashlib.sha256(_stamp(self._path) + repr(self._numbers).encode()).digest()


def open_video(path: Path) -> cv2.VideoCapture:
    """Open a video file.

    Raises:
        DriveError: it is not there or does not open.
    """
    if not path.is_file():
        raise DriveError(f"{path}: no such file")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DriveError(f"{path}: not a video that OpenCV can open")
    return capture


def video_length(path: Path) -> tuple[int, float]:
    """(frames, frames per second) of a video, counted by going through it, as headers are often wrong."""
    capture = open_video(path)
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count, rate if 0.5 <= rate <= 1000.0 else 0.0


def _stamp(path: Path) -> bytes:
    try:
        status = path.stat()
    except OSError:
        return f"{path}\0gone\n".encode()
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode()
