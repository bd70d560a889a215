"""OpenCV, or a clear word on why it cannot load.

`opencv-python` needs the system's libGL; a bare server or a Pi without desktop often lacks it, and the import then
fails with a linker's message that helps nobody. `opencv-python-headless` needs none and works the same here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sepilot_runtime.base.caps import IMAGE_PIXELS
from sepilot_runtime.base.errors import DriveError, SepilotError
from sepilot_runtime.base.reading import require_regular

# FFmpeg inside OpenCV writes its own lines to stderr; what matters of them is in our errors.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# OpenCV's own limit lets a small file take 3 GB.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(IMAGE_PIXELS))
# Seconds in which a camera that gives nothing ends the wait for a frame; OpenCV's own are ten.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")

try:
    import cv2
except ModuleNotFoundError as e:
    if e.name != "cv2":
        raise
    raise SepilotError("OpenCV is not installed; run: pip install opencv-python-headless") from e
except ImportError as e:
    raise SepilotError(
        f"OpenCV cannot load ({e}); either install the system library (Debian: apt install libgl1 libglib2.0-0) "
        "or run: pip uninstall -y opencv-python && pip install opencv-python-headless"
    ) from e

__all__ = ["cv2", "require_name", "silenced", "video_file"]

SILENT = 0
# Where it is depends on the version: in cv2 up to 4.12, in cv2.utils.logging from 4.13 on.
set_log_level: Callable[[int], int] = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel


def video_file(path: Path) -> cv2.VideoCapture:
    """Open a video file.

    Raises:
        DriveError: no regular file, no video, or a name that OpenCV cannot take.
    """
    try:
        require_regular(path)
    except OSError as e:
        raise DriveError(f"{path}: cannot be read: {e.strerror or e}") from e
    require_name(path, DriveError)
    with silenced():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise DriveError(f"{path}: is not a video that OpenCV can read")
    return capture


def require_name(path: Path, error: type[SepilotError]) -> None:
    """OpenCV ends the process over a name that is no UTF-8. Raises `error` instead."""
    try:
        str(path).encode()
    except UnicodeEncodeError as e:
        raise error(f"{path}: OpenCV takes no name that is not UTF-8; give it another") from e


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep OpenCV's own warnings off stderr where a failure is reported by an error of ours."""
    level = set_log_level(SILENT)
    try:
        yield
    finally:
        set_log_level(level)
