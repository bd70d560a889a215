"""Writing the overlay as a video file: beside its destination, checked, then renamed."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_runtime.base.files import atomic_file, require_new, writing
from sepilot_runtime.base.opencv import cv2, require_name, silenced
from sepilot_runtime.drive.step import Step
from sepilot_runtime.view.drawing import Canvas

__all__ = ["VIDEO_CODECS", "OverlaySink", "VideoWriter", "overlay_video", "require_video_path", "require_video_suffix"]

VIDEO_CODECS = {".mp4": "mp4v", ".webm": "VP80"}
"""Encoders that every OpenCV wheel has. MPEG-4 is quick and plays in video players, VP8 plays in browsers as well."""

FRAMES_PER_SPACE_CHECK = 50
LEAST_FREE_BYTES = 1 << 20


class VideoWriter:
    """Frames of one size to a file; the first frame decides the size."""

    def __init__(self, path: Path, shown_as: Path, rate_hz: float) -> None:
        self._path, self._shown_as, self._rate_hz = path, shown_as, rate_hz
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        # Closing a video in the middle of a frame takes the process down. So it waits, however long the disk takes.
        self._lock = threading.Lock()
        self.count = 0

    def write(self, canvas: Canvas) -> None:
        """Add (h, w, 3) uint8 BGR; one of another size than the first is scaled to it.

        Raises:
            OutputError: the encoder cannot be opened, or the disk is full.
        """
        with self._lock:
            self._add(canvas)

    def _add(self, canvas: Canvas) -> None:
        if self._writer is None:
            self._size = (canvas.shape[1], canvas.shape[0])
            codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self._path.suffix])
            with silenced():
                self._writer = cv2.VideoWriter(str(self._path), cv2.CAP_FFMPEG, codec, self._rate_hz, self._size)
            if not self._writer.isOpened():
                raise OutputError(f"{self._shown_as}: this OpenCV cannot write {self._path.suffix} videos")
        elif (canvas.shape[1], canvas.shape[0]) != self._size:
            canvas = cv2.resize(canvas, self._size).astype(canvas.dtype, copy=False)
        if self.count % FRAMES_PER_SPACE_CHECK == 0:
            with writing(self._shown_as):
                free = shutil.disk_usage(self._path.parent).free
            if free < LEAST_FREE_BYTES:
                raise OutputError(f"{self._shown_as}: cannot be written: No space left on device")
        with silenced():
            self._writer.write(canvas)
        self.count += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: fewer frames arrived in it than were written; OpenCV itself keeps silent when the disk is full.
        """
        if self._writer is None:
            return
        with self._lock:
            self._writer.release()
        if (arrived := self._arrived()) < self.count:
            raise OutputError(f"{self._shown_as}: {arrived} of {self.count} frames could be written; is the disk full?")

    def _arrived(self) -> int:
        """How many frames the finished file holds."""
        with silenced():
            check = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
            count = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
        return count


class Overlay(Protocol):
    """Draws steps; it may remember those before."""

    def draw(self, step: Step) -> Canvas:
        """The canvas (h, w, 3) for a step with frame and prediction."""


class OverlaySink:
    """Draws each step and adds it to a video."""

    def __init__(self, overlay: Overlay, writer: VideoWriter) -> None:
        self._overlay, self._writer = overlay, writer

    def write(self, step: Step) -> None:
        if step.frame is not None and step.prediction is not None:
            self._writer.write(self._overlay.draw(step))

    def close(self) -> None:
        """The video is finished by whoever opened it."""


@contextlib.contextmanager
def overlay_video(path: Path, overlay: Overlay, *, rate_hz: float) -> Iterator[OverlaySink]:
    """A sink whose video appears at `path` when the block ends, however it ends, if all its frames are in it.

    Raises:
        UsageError: the suffix is not one of `VIDEO_CODECS`.
        OutputError: `path` exists or cannot be written, or there was no frame. An error of the block goes before it.
    """
    require_video_path(path)
    error: BaseException | None = None
    try:
        with atomic_file(path) as part:
            writer = VideoWriter(part, path, rate_hz)
            try:
                yield OverlaySink(overlay, writer)
            except BaseException as e:  # noqa: BLE001
                # What was seen before a drive failed is what people look at.
                error = e
            writer.close()
            if not writer.count:
                raise OutputError(f"{path}: not written, as there was no frame to draw")
    except OutputError:
        if error is None:
            raise
    if error is not None:
        raise error


def require_video_path(path: Path) -> None:
    """Refuse a path that cannot become a new video, before any work is done for it. Raises as `overlay_video`."""
    require_video_suffix(path)
    require_new(path)


def require_video_suffix(path: Path) -> None:
    """Raise UsageError for a path that names no kind of video that can be written."""
    if path.suffix not in VIDEO_CODECS:
        raise UsageError(f"{path}: an overlay ends in {' or '.join(VIDEO_CODECS)}")
    require_name(path, UsageError)
