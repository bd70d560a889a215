"""From what a camera sends to the image of a frame, without work that nobody needs.

Video formats hold brightness (luma) apart from colour. A model that sees gray needs the luma alone: of NV12 and GREY it
is taken as it lies there, of YUYV it is every second byte, and no colour is converted. The luma of NV12 and YUYV has 16
for black and 235 for white (ITU-R BT.601), which is how OpenCV reads it too when it makes BGR of it; JPEG and GREY have
0 and 255.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.base.images import decode_image
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.contract.preprocess import LimitedLuma, full_range
from sepilot_runtime.contract.window import crop_box
from sepilot_runtime.source.camera_request import PixelFormat

__all__ = ["Buffers", "Retrieving", "Take", "color_of", "jpeg_reduction", "taker_of"]

Image = NDArray[np.uint8]


class Retrieving(Protocol):
    """The part of `cv2.VideoCapture` that hands out what was grabbed."""

    def retrieve(self, image: Any = None) -> tuple[bool, Any]: ...


Take = Callable[[Retrieving], Image]
"""The image of the frame that was grabbed last, as in `Frame.image`. Raises FrameError where it has none."""


class Buffers:
    """Memory for images, used again as soon as nobody holds the image any more.

    Fresh memory for every frame costs page faults, a fixed pair of buffers would change under whoever still looks at an
    older frame. Here the reference count says which is free: views and slices of an image count too.
    """

    def __init__(self, most: int = 8) -> None:
        """
        Args:
            most: kept; where more images are held at a time, the others are garbage in the usual way.
        """
        self._most = most
        self._kept: list[Image] = [np.empty(0, np.uint8)]
        # What an image that only this list holds counts, by the very expression that asks: Python versions differ.
        self._idle = self._references(0)
        self._kept.clear()

    def free(self) -> Image | None:
        """A buffer to write the next image into, or None where OpenCV is to make one."""
        for index in range(len(self._kept)):
            if self._references(index) == self._idle:
                return self._kept[index]
        return None

    def keep(self, image: Image) -> None:
        """Use an image that came in memory of its own again later; those of another shape are forgotten."""
        if self._kept and self._kept[0].shape != image.shape:
            self._kept.clear()
        if len(self._kept) < self._most:
            self._kept.append(image)

    def _references(self, index: int) -> int:
        return sys.getrefcount(self._kept[index])


def taker_of(format: PixelFormat, picture: Picture | None, width: int, height: int) -> Take:
    """How to take frames of `format`, of which a `picture` will be made; None for whole frames in colour.

    Args:
        format: AUTO for BGR as OpenCV makes it. NV12, YUYV and GREY give luma.
        width, height: of the frames.
    """
    if format is PixelFormat.MJPG:
        return _jpeg_taker(picture, width, height)
    return _raw_taker(format)


def _raw_taker(format: PixelFormat) -> Take:
    """BGR, or the luma of GREY, of NV12 (its upper two thirds) and of YUYV (its first channel), without a copy."""
    buffers = Buffers()

    def take(capture: Retrieving) -> Image:
        buffer = buffers.free()
        ok, image = capture.retrieve(buffer)
        if not ok or image is None:
            raise FrameError("no picture in a frame")
        if image is not buffer:
            buffers.keep(image)
        raw = np.asarray(image, np.uint8)
        # A driver that converts all the same gives BGR, which has another shape.
        if format is PixelFormat.NV12 and raw.ndim == 2:
            return raw.view(LimitedLuma)[: raw.shape[0] * 2 // 3]
        if format is PixelFormat.YUYV and raw.ndim == 3 and raw.shape[2] == 2:
            return raw.view(LimitedLuma)[:, :, 0]
        return raw

    return take


_GRAY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_COLOR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def _jpeg_taker(picture: Picture | None, width: int, height: int) -> Take:
    """MJPG: each frame is a JPEG file in a row of bytes, sometimes with padding behind it."""
    flags = (_GRAY if picture and picture.color == "gray" else _COLOR)[jpeg_reduction(picture, width, height)]

    def take(capture: Retrieving) -> Image:
        ok, raw = capture.retrieve()
        if not ok or raw is None:
            raise FrameError("no picture in a frame")
        if raw.ndim == 3 and raw.shape[2] == 3:  # Decoded all the same.
            return np.asarray(raw, np.uint8)
        return decode_image(raw.tobytes(), "camera", flags)

    return take


def jpeg_reduction(picture: Picture | None, width: int, height: int) -> int:
    """8, 4, 2 or 1: the most by which a JPEG may be decoded smaller so that the crop is no smaller than the picture.

    A JPEG decoder reduces each 8x8 block by leaving out its high frequencies, which saves their arithmetic.
    """
    if picture is None:
        return 1
    for factor in (8, 4, 2):
        top, bottom, left, right = crop_box(-(-height // factor), -(-width // factor), picture)
        if bottom - top >= picture.height and right - left >= picture.width:
            return factor
    return 1


def color_of(image: Image) -> Image:
    """The image of a frame, as in `Frame.image`, for people and recordings: (H, W, 3) uint8 BGR.

    Luma becomes gray in memory of its own; an image that has colour is given as it is.
    """
    if image.ndim == 3:
        return image
    gray = full_range(image) if isinstance(image, LimitedLuma) else image
    return np.asarray(cv2.merge([gray, gray, gray]), np.uint8)
