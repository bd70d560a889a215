"""Where the pixels come from: image files, or one video file."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.base.images import read_image
from sepilot_runtime.base.opencv import cv2, video_file

__all__ = ["ImageFrames", "VideoFrames", "VideoInfo", "look_through"]


class ImageFrames:
    """One image file per row. May be read by several threads."""

    sequential = False

    def __init__(self, paths: Sequence[Path | str]) -> None:
        # As text, a third of the memory: there are as many as frames.
        self._paths = [str(path) for path in paths]

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, row: int) -> NDArray[np.uint8]:
        return read_image(Path(self._paths[row]))

    def sizes(self) -> NDArray[np.int64]:
        return np.array([_state(Path(path))[0] for path in self._paths], np.int64)

    def stamp(self) -> bytes:
        digest = hashlib.sha256()
        for path in map(Path, self._paths):
            digest.update(os.fsencode(f"{path.absolute()}\0{_state(path)}\n"))
        return digest.digest()


class VideoFrames:
    """Frames of a video file; `numbers` are those that the rows stand for, counted from 0."""

    sequential = True

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
                self._capture = video_file(self._path)
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

    def sizes(self) -> NDArray[np.int64]:
        return np.full(len(self), _state(self._path)[0], np.int64)

    def stamp(self) -> bytes:
        return hashlib.sha256(os.fsencode(f"{self._path.absolute()}\0{_state(self._path)}\0{self._numbers}")).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a video turned out to hold.

    Attributes:
        frames: that can be decoded.
        promised: that its header speaks of; 0 where it does not.
        rate_hz: frames per second by its header; 0 where that makes no sense.
    """

    frames: int
    promised: int
    rate_hz: float

    @property
    def missing(self) -> int:
        """Frames that the header promises and that cannot be decoded."""
        return max(0, self.promised - self.frames)


def look_through(path: Path) -> VideoInfo:
    """Count a video's frames by going through it, as headers are often wrong.

    Raises:
        DriveError: not a video, or not one frame of it can be decoded.
    """
    capture = video_file(path)
    rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
    promised = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = 0
    while capture.grab():
        frames += 1
    capture.release()
    if not frames:
        raise DriveError(f"{path}: not one frame of this video can be decoded")
    # Some containers promise a negative or an astronomic number.
    believable = 0 < promised < 1e8
    return VideoInfo(
        frames=frames,
        promised=int(promised) if believable else 0,
        rate_hz=rate_hz if 0.5 <= rate_hz <= 1000.0 else 0.0,
    )


def _state(path: Path) -> tuple[int, int]:
    """(size in bytes, time of the last change in ns), zeros for a file that is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
