"""Recorded frames: images and videos, every one in order."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.base.images import IMAGE_SUFFIXES, natural_key, read_image
from sepilot_runtime.base.opencv import cv2, video_file
from sepilot_runtime.source.protocol import DEFAULT_RATE_HZ, Frame, SourceInfo

if TYPE_CHECKING:
    pass

__all__ = ["ImageSource", "VideoSource", "open_folder", "open_video"]


class _FileSource:
    """What sources that read files have in common."""

    def __init__(self, info: SourceInfo) -> None:
        self.info = info
        self.lost: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to give back."""


class ImageSource(_FileSource):
    """Image files in a given order. Those that cannot be read are skipped and counted in `lost`."""

    def __init__(
        self,
        where: str,
        kind: str,
        paths: Sequence[Path],
        *,
        times_s: Sequence[float] | None = None,
        labels: Sequence[float | None] | None = None,
        rate_hz: float = DEFAULT_RATE_HZ,
    ) -> None:
        super().__init__(
            SourceInfo(where=where, kind=kind, live=False, width=0, height=0, rate_hz=rate_hz, frames=len(paths))
        )
        self._paths = paths
        self._times_s = times_s or [i / rate_hz for i in range(len(paths))]
        self._labels = labels or [None] * len(paths)

    def __iter__(self) -> Iterator[Frame]:
        """
        Raises:
            DriveError: not one of the images can be read.
        """
        given = 0
        for index, (path, time_s, label) in enumerate(zip(self._paths, self._times_s, self._labels, strict=True)):
            try:
                image = read_image(path)
            except FrameError as e:
                self.lost[e.reason] += 1
                continue
            given += 1
            yield Frame(id=index, time_s=time_s, image=image, arrived_ns=time.monotonic_ns(), label=label)
        if not given:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.lost.items())
            raise DriveError(f"{self.info.where}: not one image can be read ({reasons})")


def open_folder(path: Path) -> ImageSource:
    for folder in (path, path / "images", path / "IMG"):
        images = sorted(_images_in(folder), key=natural_key)
        if images:
            break
    else:
        raise DriveError(f"{path}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}), nor does its images folder")
    # The Udacity simulator puts three cameras into one folder; only the middle one looks where the car goes.
    center = [image for image in images if image.name.startswith("center_")]
    return ImageSource(str(path), "images", center or images)


def _images_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            files = [Path(entry.path) for entry in entries if entry.is_file()]
        return [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    except NotADirectoryError:
        return []
    except FileNotFoundError:
        return []
    except OSError as e:
        raise DriveError(f"{folder}: cannot be read: {e.strerror or e}") from e


class VideoSource(_FileSource):
    """Every frame of a video file, with the time stamps of the file."""

    def __init__(self, info: SourceInfo, capture: cv2.VideoCapture) -> None:
        super().__init__(info)
        self._capture = capture

    def __iter__(self) -> Iterator[Frame]:
        last_s, index = -1.0, 0
        while True:
            ok, image = self._capture.read()
            if not ok:
                break
            # Some containers have no usable stamps: they stand still or jump back.
            stamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            time_s = stamp_s if stamp_s > last_s else last_s + 1 / self.info.rate_hz if index else 0.0
            yield Frame(
                id=index, time_s=time_s, image=image.astype(np.uint8, copy=False), arrived_ns=time.monotonic_ns()
            )
            last_s, index = time_s, index + 1
        if not index:
            raise DriveError(f"{self.info.where}: not one frame can be decoded")
        if self.info.frames is not None and index < self.info.frames:
            self.lost["missing at the end of the video"] = self.info.frames - index

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()


def open_video(path: Path) -> VideoSource:
    capture = video_file(path)
    announced_hz = capture.get(cv2.CAP_PROP_FPS)
    frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    info = SourceInfo(
        where=str(path),
        kind="video",
        live=False,
        width=int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        height=int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        rate_hz=round(announced_hz, 3) if 0 < announced_hz < 1000 else DEFAULT_RATE_HZ,
        frames=frames if frames > 0 else None,
    )
    return VideoSource(info, capture)
