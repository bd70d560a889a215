"""A camera by script: what a driver, a cable and a bad day can do, without any of them.

`FakeCamera` is the device, which outlives the captures that open it: `open_camera` takes its `open` in place of what
OpenCV has. Its script is gone through act by act, one grab after the other. When it ends, the last grab hangs until
`release_hangs`.

    camera = FakeCamera([frames(30), unplug(tries=2), frames(5)], rate_hz=30)
    with open_camera("0", open_capture=camera.open) as source: ...
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Act", "FakeCamera", "FakeClock", "black", "exception", "fail", "frames", "freeze", "hang", "nv12_of",
    "resized", "slow", "unplug", "white", "yuyv_of",
]  # fmt: skip

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One grab.

    Attributes:
        kind: "frame" gives one; "fail" is a grab that fails; "raise" raises; "hang" blocks until `release_hangs`;
            "unplug" fails, and so do the next `tries` openings.
        look: of the frame: new noise each time, the one before once more, or one gray level.
        size: (width, height) of this frame alone; None for the camera's.
        after_s: pause before it, beside the camera's own period.
    """

    kind: Literal["frame", "fail", "raise", "hang", "unplug"] = "frame"
    look: Literal["new", "same"] | int = "new"
    size: tuple[int, int] | None = None
    after_s: float = 0.0
    tries: int = 0
    error: type[Exception] = cv2.error


def frames(count: int) -> list[Act]:
    """Good frames: no two are alike, pixel (0, 0) holds their number modulo 256."""
    return [Act()] * count


def freeze(count: int) -> list[Act]:
    """The last frame again and again."""
    return [Act(look="same")] * count


def black(count: int) -> list[Act]:
    return [Act(look=0)] * count


def white(count: int) -> list[Act]:
    return [Act(look=255)] * count


def resized(count: int, width: int, height: int) -> list[Act]:
    """Frames of another size than the camera announced."""
    return [Act(size=(width, height))] * count


def slow(count: int, after_s: float) -> list[Act]:
    """Frames that come late."""
    return [Act(after_s=after_s)] * count


def fail() -> list[Act]:
    """One grab that fails: the driver lost the camera for a moment."""
    return [Act(kind="fail")]


def exception(error: type[Exception] = cv2.error) -> list[Act]:
    """One grab that raises."""
    return [Act(kind="raise", error=error)]


def hang() -> list[Act]:
    """One grab that does not return until `release_hangs`."""
    return [Act(kind="hang")]


def unplug(tries: int = 0) -> list[Act]:
    """The cable is out; it is back in after so many tries to open it."""
    return [Act(kind="unplug", tries=tries)]


class FakeClock:
    """A clock that only moves when someone sleeps. Starts late enough to look like a machine that is up."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@dataclass(kw_only=True, eq=False)
class FakeCamera:
    """
    Attributes:
        script: lists of acts, in order.
        rate_hz: period between frames, by `sleep`; also what it announces. 0 gives them as fast as they are asked for.
        formats: FOURCC to the largest rate that it announces for 640 columns; twice the columns halve it. The first is
            the one it opens with.
        sizes: it rounds every size down to one of these; None takes any.
        stamped: it gives monotonic time stamps, as Video4Linux does.
        picture: the frame's content by its number, in place of noise.
        stepped: every frame waits for `step`, which returns when it was taken; for tests without sleeping.
        opened, released: how often it was opened and given back.
        count: frames given; `allocated`, those whose image got memory of its own.
    """

    script: Iterable[list[Act]]
    width: int = 64
    height: int = 48
    rate_hz: float = 0.0
    formats: dict[str, float] = field(default_factory=lambda: {"YUYV": 30.0})
    sizes: tuple[tuple[int, int], ...] | None = None
    stamped: bool = False
    stepped: bool = False
    picture: Callable[[int], Image] | None = None
    clock_ns: Callable[[], int] = time.monotonic_ns
    sleep: Callable[[float], None] = time.sleep
    opened: int = 0
    released: int = 0
    count: int = 0
    refused: int = 0
    allocated: int = 0

    def __post_init__(self) -> None:
        self.acts: Iterator[Act] = (act for acts in self.script for act in acts)
        self.go_on = threading.Event()
        self.ended = threading.Event()
        self.asks, self.turns = threading.Semaphore(0), threading.Semaphore(0)
        self.last: Image | None = None

    def open(self) -> _Capture:
        """What a driver does: always gives a capture, which may not be open."""
        if self.refused:
            self.refused -= 1
            return _Capture(self, opened=False)
        self.opened += 1
        return _Capture(self, opened=True)

    def release_hangs(self) -> None:
        """Let a reader that hangs go on; its grab fails."""
        self.go_on.set()
        self.turns.release()

    def step(self, count: int = 1) -> None:
        """Give so many acts of a `stepped` camera; returns when the reader has taken them and asks for the next."""
        for _ in range(count):
            assert self.asks.acquire(timeout=60), "the reader does not ask for frames"
            self.turns.release()
        assert self.asks.acquire(timeout=60), "the reader does not ask for frames"
        self.asks.release()

    def draw(self, look: str | int, size: tuple[int, int] | None) -> Image:
        width, height = size or (self.width, self.height)
        if look == "same" and self.last is not None:
            return self.last
        if isinstance(look, int):
            return np.full((height, width, 3), look, np.uint8)
        if self.picture:
            return self.picture(self.count)
        image = np.random.default_rng(self.count).integers(40, 200, (height, width, 3), np.uint8)
        image[0, 0] = self.count % 256
        return image


class _Capture:
    """The part of `cv2.VideoCapture` that sepilot uses."""

    def __init__(self, camera: FakeCamera, *, opened: bool) -> None:
        self._camera, self._open = camera, opened
        self._fourcc = next(iter(camera.formats))
        self._asked_hz = 0.0
        self._convert = True
        self._image: Image | None = None
        self._stamp_ns = 0

    def isOpened(self) -> bool:
        return self._open

    def grab(self) -> bool:
        camera = self._camera
        if camera.stepped:
            camera.asks.release()
            camera.turns.acquire()
        act = next(camera.acts, None)
        if act is None:
            camera.ended.set()
        if act is None or act.kind == "hang":
            camera.go_on.wait()
            if act is not None:
                camera.go_on.clear()
            return False
        wait_s = act.after_s + (1 / camera.rate_hz if camera.rate_hz else 0.0)
        if wait_s:
            camera.sleep(wait_s)
        if act.kind == "raise":
            raise act.error("the script says so")
        if act.kind != "frame":
            camera.refused = act.tries
            return False
        self._image = camera.last = camera.draw(act.look, act.size)
        self._stamp_ns = camera.clock_ns()
        camera.count += 1
        return True

    def retrieve(self, image: Any = None) -> tuple[bool, Any]:
        if self._image is None:
            return False, None
        sent = self._sent(self._image)
        # As OpenCV does it: into the memory that is handed in where that fits, else into new memory.
        if image is not None and image.shape == sent.shape:
            np.copyto(image, sent)
            return True, image
        self._camera.allocated += 1
        return True, sent.copy()

    def _sent(self, image: Image) -> Image:
        if self._convert:
            return image
        if self._fourcc == "NV12":
            return nv12_of(image)
        if self._fourcc == "YUYV":
            return yuyv_of(image)
        if self._fourcc == "GREY":
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].reshape(1, -1)
        # Drivers hand out their whole buffer.
        return np.pad(np.asarray(jpeg, np.uint8), ((0, 0), (0, 64)))

    def get(self, propId: int) -> float:
        camera = self._camera
        if propId == cv2.CAP_PROP_FRAME_WIDTH:
            return float(camera.width)
        if propId == cv2.CAP_PROP_FRAME_HEIGHT:
            return float(camera.height)
        if propId == cv2.CAP_PROP_FOURCC:
            return float(cv2.VideoWriter.fourcc(*self._fourcc))
        if propId == cv2.CAP_PROP_FPS:
            most = camera.formats[self._fourcc] * min(1.0, 640 / camera.width)
            return min(most, self._asked_hz or most)
        if propId == cv2.CAP_PROP_POS_MSEC:
            return self._stamp_ns / 1e6 if camera.stamped else 0.0
        return 0.0

    def set(self, propId: int, value: float) -> bool:
        camera = self._camera
        if propId == cv2.CAP_PROP_FOURCC:
            name = int(value).to_bytes(4, "little").decode("ascii")
            # OpenCV takes another format where the one that it was asked for is not there, and says that all is well.
            self._fourcc = name if name in camera.formats else next(iter(camera.formats))
        elif propId == cv2.CAP_PROP_FPS:
            self._asked_hz = value
        elif propId == cv2.CAP_PROP_CONVERT_RGB:
            self._convert = bool(value)
        elif propId == cv2.CAP_PROP_FRAME_WIDTH:
            camera.width = self._rounded(0, int(value))
        elif propId == cv2.CAP_PROP_FRAME_HEIGHT:
            camera.height = self._rounded(1, int(value))
        else:
            return False
        return True

    def _rounded(self, axis: int, value: int) -> int:
        sizes = self._camera.sizes
        if sizes is None:
            return value
        return max((size[axis] for size in sizes if size[axis] <= value), default=min(size[axis] for size in sizes))

    def release(self) -> None:
        self._open = False
        self._camera.released += 1


def nv12_of(image: Image) -> Image:
    """A BGR image (even height and width) as NV12: (H * 3 / 2, W), by OpenCV's BT.601 arithmetic."""
    height, width = image.shape[:2]
    planar = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)
    chroma = planar[height:].reshape(2, -1)
    return np.concatenate([planar[:height], chroma.T.reshape(-1, width)])


def yuyv_of(image: Image) -> Image:
    """A BGR image (even width) as YUYV: (H, W, 2)."""
    planar = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)
    height, width = image.shape[:2]
    chroma = planar[height:].reshape(2, height // 2, width // 2).repeat(2, axis=1)
    packed = np.empty((height, width, 2), np.uint8)
    packed[:, :, 0] = planar[:height]
    packed[:, 0::2, 1], packed[:, 1::2, 1] = chroma
    return packed
