"""Opening a camera: ask for a mode, read back what the driver made of it, and decide how frames are taken.

A driver may refuse a format, round a size, or halve the rate, and says nothing unless it is asked. OpenCV asks for
640x480 and takes the first format that it knows, which through USB 2 is often a slow one at larger sizes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.opencv import cv2, silenced
from sepilot_runtime.source.camera_request import CameraRequest, PixelFormat
from sepilot_runtime.source.pixel_formats import Image, Take, jpeg_reduction, taker_of
from sepilot_runtime.source.protocol import DEFAULT_RATE_HZ
from sepilot_runtime.source.stamps import Delays, is_our_clock

__all__ = ["Capture", "Connection", "Mode", "OpenCapture", "camera_opener", "connect_camera", "read_mode"]

FOURCC: dict[PixelFormat, str] = {
    format: format.value.upper() for format in PixelFormat if format is not PixelFormat.AUTO
}

QUEUED_BUFFERS = 2
"""One that the driver fills while the other is copied. With one it would lose every second frame, with OpenCV's four a
reader that was held up would find three old frames before the new one."""

MOST_REPEATS = 10
"""Frames with one and the same stamp in a row: some drivers go on giving the last one when the camera is unplugged."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def isOpened(self) -> bool: ...
    def grab(self) -> bool: ...
    def retrieve(self, image: Any = None) -> tuple[bool, Any]: ...
    def get(self, propId: int) -> float: ...
    def set(self, propId: int, value: float) -> bool: ...
    def release(self) -> None: ...


OpenCapture = Callable[[], Capture]
"""Opens a device; the capture may turn out not to be open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """What a capture says that it sends.

    Attributes:
        fourcc: of the pixel format, in upper case; "" where it does not say.
        rate_hz: 0 where it does not say.
    """

    fourcc: str
    width: int
    height: int
    rate_hz: float

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.fourcc or '?'} at {self.rate_hz:g} Hz"


class Connection:
    """An open capture and how its frames are taken. One thread uses it.

    Attributes:
        mode: as read back.
        format, note: for `SourceInfo`.
    """

    def __init__(
        self,
        capture: Capture,
        take: Take,
        mode: Mode,
        *,
        format: str = "",
        note: str = "",
        stamped: bool = False,
    ) -> None:
        """
        Args:
            stamped: CAP_PROP_POS_MSEC may be the monotonic time at which the driver got the frame.
        """
        self.mode, self.format, self.note = mode, format, note
        self._capture, self._take, self._stamped = capture, take, stamped
        self._stamp_ms = 0.0
        self._repeats = 0
        self._delays: Delays | None = None

    def grab(self) -> bool:
        """Wait for the next frame. False where the camera has gone."""
        if not self._capture.grab():
            return False
        if self._stamped:
            stamp_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            self._repeats = self._repeats + 1 if stamp_ms == self._stamp_ms and stamp_ms > 0 else 0
            self._stamp_ms = stamp_ms
        return self._repeats < MOST_REPEATS

    def arrival_ns(self, now_ns: int) -> int:
        """When the frame that was grabbed at `now_ns` (monotonic) arrived.

        A frame that waited in the driver's queue, because this process was stopped or had no core, is as old as its
        stamp says: it is dated back by what it took longer than the quickest one.
        """
        if not self._stamped or self._stamp_ms <= 0:
            return now_ns
        stamp_ns = round(self._stamp_ms * 1e6)
        if self._delays is None:
            self._stamped = is_our_clock(stamp_ns, now_ns)
            self._delays = Delays(stamp_ns, now_ns)
        return now_ns - self._delays.beyond_least(stamp_ns, now_ns) if self._stamped else now_ns

    def take(self) -> Image:
        """The image that was grabbed, in memory that nobody else holds. Raises FrameError where there is none."""
        return self._take(self._capture)

    def release(self) -> None:
        """Give the device back."""
        self._capture.release()


def camera_opener(where: str) -> OpenCapture:
    """Opens a camera index ("0") or device ("/dev/video0")."""
    # Other systems' OpenCV knows no Video4Linux and picks what it has.
    backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY

    def open_capture() -> Capture:
        with silenced():
            capture = cv2.VideoCapture(int(where) if where.isdigit() else where, backend)
        return cast(Capture, capture)

    return open_capture


def connect_camera(name: str, open_capture: OpenCapture, request: CameraRequest) -> Connection:
    """Open a camera and settle on a mode, as close to `request` as it can.

    Args:
        name: for messages: "camera 0".

    Raises:
        DriveError: it cannot be opened.
    """
    capture = open_capture()
    if not capture.isOpened():
        capture.release()
        raise DriveError(f"{name}: cannot be opened; is it connected, and does no other program use it?")
    with silenced():
        capture.set(cv2.CAP_PROP_BUFFERSIZE, QUEUED_BUFFERS)
        format, mode = _settle(capture, request)
        raw = format is not PixelFormat.AUTO
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0.0 if raw else 1.0)
    return Connection(
        capture,
        taker_of(format, request.picture, mode.width, mode.height),
        mode,
        format=_words(format, mode, request),
        note=_note(mode, request),
        stamped=True,
    )


def read_mode(capture: Capture) -> Mode:
    """What a capture says that it sends."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    fourcc = code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ").upper()
    rate_hz = capture.get(cv2.CAP_PROP_FPS)
    return Mode(
        fourcc=fourcc if fourcc.isprintable() else "",
        width=max(0, int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))),
        height=max(0, int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))),
        rate_hz=round(rate_hz, 3) if 0 < rate_hz < 1000 else 0.0,
    )


def _settle(capture: Capture, request: CameraRequest) -> tuple[PixelFormat, Mode]:
    """Set the first format that reaches what was asked for, else the one that comes nearest.

    Returns:
        How the frames are taken (AUTO: as BGR from OpenCV) and the mode.
    """
    # Trying a format must not change what "as it was" means.
    codes: dict[PixelFormat, float] = {
        format: float(cv2.VideoWriter.fourcc(*fourcc)) for format, fourcc in FOURCC.items()
    }
    codes[PixelFormat.AUTO] = capture.get(cv2.CAP_PROP_FOURCC)
    tried = []
    for wanted in _candidates(request):
        mode = _ask(capture, codes[wanted], request)
        if wanted in FOURCC and mode.fourcc != FOURCC[wanted]:
            continue
        tried.append((wanted, mode))
        if _nearness(mode, request) == (True, True):
            return _taken_as(wanted, request), mode
    if not tried:
        return PixelFormat.AUTO, _ask(capture, codes[PixelFormat.AUTO], request)
    best = max(tried, key=lambda found: (*_nearness(found[1], request), found[1].rate_hz))[0]
    return _taken_as(best, request), _ask(capture, codes[best], request)


def _candidates(request: CameraRequest) -> tuple[PixelFormat, ...]:
    if request.format is not PixelFormat.AUTO:
        return (request.format,)
    if _wants_luma(request):
        # By what a frame costs: nothing, nothing, a copy, a decoder.
        return PixelFormat.NV12, PixelFormat.GREY, PixelFormat.YUYV, PixelFormat.MJPG, PixelFormat.AUTO
    return PixelFormat.AUTO, PixelFormat.MJPG


def _wants_luma(request: CameraRequest) -> bool:
    return request.picture is not None and request.picture.color == "gray"


def _taken_as(format: PixelFormat, request: CameraRequest) -> PixelFormat:
    """Raw where that saves something; a JPEG always, as only its bytes say whether it is whole."""
    return format if format is PixelFormat.MJPG or _wants_luma(request) else PixelFormat.AUTO


def _ask(capture: Capture, code: float, request: CameraRequest) -> Mode:
    # The format comes first: sizes and rates depend on it.
    if code > 0:
        capture.set(cv2.CAP_PROP_FOURCC, code)
    if request.width and request.height:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, float(request.width))
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, float(request.height))
    if request.rate_hz:
        capture.set(cv2.CAP_PROP_FPS, float(request.rate_hz))
    return read_mode(capture)


def _nearness(mode: Mode, request: CameraRequest) -> tuple[bool, bool]:
    """Does it have the size, and the rate?"""
    size = not request.width or (mode.width, mode.height) == (request.width, request.height)
    # A driver's 29.97 is the 30 that was asked for; one that does not say may be as fast as any.
    rate = not mode.rate_hz or mode.rate_hz >= 0.9 * (request.rate_hz or DEFAULT_RATE_HZ)
    return size, rate


def _words(format: PixelFormat, mode: Mode, request: CameraRequest) -> str:
    if format is PixelFormat.MJPG:
        factor = jpeg_reduction(request.picture, mode.width, mode.height)
        gray = "gray" if _wants_luma(request) else "colour"
        return f"MJPG, decoded in {gray}" + (f" at 1/{factor} of its size" if factor > 1 else "")
    if format is PixelFormat.AUTO:
        return mode.fourcc
    return f"{mode.fourcc}, luma only"


def _note(mode: Mode, request: CameraRequest) -> str:
    size, _ = _nearness(mode, request)
    missed = [] if size else [f"{request.width}x{request.height}"]
    if request.rate_hz and mode.rate_hz and not 0.9 <= mode.rate_hz / request.rate_hz <= 1.1:
        missed.append(f"{request.rate_hz:g} Hz")
    if request.format is not PixelFormat.AUTO and mode.fourcc != FOURCC[request.format]:
        missed.append(FOURCC[request.format])
    return f"the camera does not give {', '.join(missed)}" if missed else ""
