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

__all__ = ["VIDEO_SUFFIXES", "ImageFrames", "VideoFrames", "VideoInfo", "video_info"]

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})

INDEXED = frozenset({".mp4", ".avi", ".mov", ".m4v"})
"""Containers that count their frames when the file is closed. The others estimate, from duration and rate."""


class ImageFrames:
    """One image file per row. May be read by several threads."""

    sequential = False
    size = (0, 0)

    def __init__(self, paths: Sequence[Path | str]) -> None:
        # As text, a third of the memory: there are as many as frames.
        self._paths = [str(path) for path in paths]

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, row: int) -> NDArray[np.uint8]:
        return read_image(Path(self._paths[row]))

    def sizes(self) -> NDArray[np.int64]:
        return np.array([_state(Path(path))[0] for path in self._paths], np.int64)

    def folders(self) -> set[str]:
        """Those in which the files lie."""
        return set(map(os.path.dirname, self._paths))

    def stamp(self) -> bytes:
        digest = hashlib.sha256()
        for path in map(Path, self._paths):
            digest.update(os.fsencode(f"{path.absolute()}\0{_state(path)}\n"))
        return digest.digest()


class VideoFrames:
    """Frames of a video file; `numbers` are those that the rows stand for, counted from 0."""

    sequential = True

    def __init__(self, path: Path, numbers: Sequence[int], size: tuple[int, int] = (0, 0)) -> None:
        self.size = size
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
    """What a video holds.

    Attributes:
        frames: by its index, or as many as can be decoded where it has none. What the index promises and the file does
            not hold is a frame that cannot be read.
        rate_hz: frames per second by its header; 0 where that makes no sense.
        size: (height, width).
    """

    frames: int
    rate_hz: float
    size: tuple[int, int]


def video_info(path: Path) -> VideoInfo:
    """Look at a video's index, or go through it where it has none, or none that can be true.

    Raises:
        DriveError: not a video, or one without an index of which not one frame can be decoded.
    """
    capture = video_file(path)
    rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
    promised = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    size = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    # Some containers promise a negative or an astronomic number.
    trusted = path.suffix.lower() in INDEXED and 0 < promised <= path.stat().st_size
    frames = int(promised) if trusted else 0
    while not trusted and capture.grab():
        frames += 1
    capture.release()
    if not frames:
        raise DriveError(f"{path}: not one frame of this video can be decoded")
    return VideoInfo(frames=frames, rate_hz=rate_hz if 0.5 <= rate_hz <= 1000.0 else 0.0, size=size)


def _state(path: Path) -> tuple[int, int]:
    """(size in bytes, time of the last change in ns), zeros for a file that is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
