"""Sources: where frames come from. Files give every frame in order; a camera or a stream gives the newest only.

A frame carries its own time and the moment at which it arrived here, so that whoever acts on it can say how old it is.

| source                         | policy                                                                      |
|--------------------------------|-----------------------------------------------------------------------------|
| camera index, /dev/video0      | newest frame; says its mode; luma only, or a small JPEG, where that will do |
| rtsp://, http://, gst:PIPELINE | newest frame; the least buffering that the protocol allows                  |
| video file                     | every frame, with the time stamps of the file                               |
| image, folder of images        | every image in natural order, at Donkeycar's rate                           |
| Donkeycar tub                  | every row, with its time stamp and its recorded steering                    |

Cameras and streams connect again in the background; files are gone through once.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.errors import DriveError, FrameError
from sepilot_runtime.files import exists
from sepilot_runtime.images import IMAGE_SUFFIXES, natural_key, read_image
from sepilot_runtime.opencv import cv2, video_file

if TYPE_CHECKING:
    from sepilot_runtime.camera_request import CameraRequest

__all__ = [
    "Frame",
    "ImageSource",
    "LiveSource",
    "Source",
    "SourceAround",
    "SourceInfo",
    "VideoSource",
    "is_camera",
    "is_stream",
    "open_source",
]

DEFAULT_RATE_HZ = 20.0
"""Of images without time stamps: Donkeycar's own rate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture of the world.

    Attributes:
        id: counts up; a live source leaves out the numbers of the frames that it dropped.
        time_s: since the start of the recording, or since the source was opened.
        image: (H, W, 3) uint8 BGR; or (H, W) uint8, gray or `LimitedLuma`, where a model sees gray and the
            camera gives it so; such an image may be a view with steps between its pixels.
        arrived_ns: `time.monotonic_ns()` when it was received or decoded.
        label: recorded steering in [-1, 1], + = right, where the source has one.
    """

    id: int
    time_s: float
    image: NDArray[np.uint8]
    arrived_ns: int
    label: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What a source turned out to be, read back after opening.

    Attributes:
        kind: "camera", "stream", "video", "images" or "drive".
        live: frames come whether or not anyone is ready; only the newest counts.
        width, height: of its frames as announced, 0 where that is not known before the first.
        rate_hz: frames per second as announced or estimated.
        frames: how many there should be, None where nobody knows.
        format: what a camera sends and what is taken of it, for people: "NV12, luma only".
        note: what was asked for and not given; "" where all was.
    """

    where: str
    kind: str
    live: bool
    width: int
    height: int
    rate_hz: float
    frames: int | None
    format: str = ""
    note: str = ""

    def __str__(self) -> str:
        # "camera 0" is a name by itself, "road.mp4" is none.
        name = self.where if self.where.startswith(f"{self.kind} ") else f"{self.kind} {self.where}"
        size = f", {self.width}x{self.height}" if self.width else ""
        count = f", {self.frames} frames" if self.frames is not None else ""
        sent = f", {self.format}" if self.format else ""
        note = f" ({self.note})" if self.note else ""
        return f"{name}{size} at {self.rate_hz:g} Hz{count}{sent}{note}"


class Source(Protocol):
    """Gives frames; a context manager, as it may hold a device.

    Attributes:
        info: what it is.
        lost: how many frames did not come through, by reason: skipped as unreadable, or dropped as no longer new.
    """

    @property
    def info(self) -> SourceInfo: ...
    @property
    def lost(self) -> Mapping[str, int]: ...

    def __iter__(self) -> Iterator[Frame]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveSource(Source, Protocol):
    """A source that gives what is there now, and comes back by itself, in the background.

    Iterating gives newest frames too, and ends with DriveError where none comes for some seconds.

    Attributes:
        connected: False while it tries to come back.
    """

    @property
    def connected(self) -> bool: ...

    def newest(self, timeout_s: float) -> Frame | None:
        """A frame that was not taken before, waiting for it at most `timeout_s`; None when none came.

        Raises:
            DriveError: the device cannot come back.
        """


S = TypeVar("S", bound=Source)


class SourceAround(Generic[S]):
    """What sources that are made of another one have in common: they are opened and closed with it."""

    def __init__(self, source: S) -> None:
        self._source = source

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.__exit__(kind, error, trace)


def is_camera(spec: str) -> bool:
    """Whether what a user calls a source is a camera: an index or a device."""
    # Not every digit is a number: "²" is one.
    return (spec.isascii() and spec.isdecimal()) or spec.startswith("/dev/")


def is_stream(spec: str) -> bool:
    """Whether what a user calls a source is a stream: a URL or a pipeline."""
    return spec.startswith("gst:") or "://" in spec


def open_source(spec: str, request: CameraRequest | None = None) -> Source:
    """Open a source by what its user calls it: see the table at the head of this module.

    Args:
        request: what to ask a camera for, and which picture will be made of its frames; streams and files ignore it.

    Raises:
        DriveError: there is no such thing, it cannot be read, or it holds no frames.
    """
    if is_camera(spec):
        from sepilot_runtime.cameras import open_camera

        return open_camera(spec, request)
    if is_stream(spec):
        from sepilot_runtime.streams import open_stream

        return open_stream(spec)
    try:
        return _open_path(Path(spec))
    except OSError as e:
        # Such as a folder without permission.
        raise DriveError(f"{e.filename or spec}: cannot be read: {e.strerror or e}") from e


def _open_path(path: Path) -> Source:
    if not exists(path, DriveError):
        raise DriveError(f"{path}: no such file or folder, and neither a camera index nor a URL")
    if path.is_dir():
        if (path / "manifest.json").is_file():
            from sepilot_runtime.tubs import open_tub

            return open_tub(path)
        return _open_folder(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(str(path), "images", [path])
    return _open_video(path)


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


def _open_folder(path: Path) -> ImageSource:
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


def _open_video(path: Path) -> VideoSource:
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
