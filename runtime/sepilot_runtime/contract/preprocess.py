"""Frame to picture to model input: the one implementation.

Training, calibration, check and drive all come through here, so a crop cannot differ between laptop and car. Nothing
else in sepilot resizes or converts what a model sees.

The order, crop -> bilinear resize -> gray, touches the fewest pixels: on a 640x480 frame it takes a tenth of the time
of gray -> area resize. Where the crop is small and the resize "exact", gray comes first, which is cheaper there
(`gray_first`). The order is fixed because each gives slightly different pixels.

`cv2.resize` rounds INTER_LINEAR differently on aarch64, and INTER_NEAREST_EXACT samples other places from OpenCV 5 on;
INTER_LINEAR_EXACT is the same everywhere and takes two and a half times as long. `cv2.remap` with whole-number places
and weights is the same everywhere as well, and little slower than INTER_LINEAR: that is the "exact" resize.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.window import BARS, crop_box, inside_box

__all__ = [
    "PREPROCESS_VERSION",
    "LimitedLuma",
    "Preprocessor",
    "bilinear_places",
    "enlarge_frame",
    "full_range",
    "golden_copy",
    "gray_first",
    "picture_of",
    "shrink_frame",
    "write_input",
]

PREPROCESS_VERSION = 1
"""Raised whenever the pixels that come out change, so that caches made by another version are not used."""


STEPS = 32
"""The exact resize knows positions to one part in this many of a pixel."""

MOST_GRAY = 4
"""Up to this many times the picture's pixels in the crop, converting them all costs less than interpolating colours."""

MOST_PIXELS = (1 << 15) - 2
"""On a side, of what `cv2.remap` reads and writes."""


def bilinear_places(size: int, result: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where along one axis of `size` pixels the exact resize to `result` pixels looks; pixel centres lie at one half.

    Returns:
        For each of the `result` pixels the one before its centre, and how far behind that it lies in 32nds, (result,)
        each. What lies behind the outermost centres counts as on them.
    """
    centers = (2 * np.arange(result) + 1) * size * STEPS
    places = np.clip((centers + result) // (2 * result) - STEPS // 2, 0, (size - 1) * STEPS)
    return places // STEPS, places % STEPS


def gray_first(height: int, width: int, picture: Picture) -> bool:
    """Whether a crop of that size becomes gray before it is resized."""
    if picture.resize != "exact" or picture.color != "gray":
        return False
    return height * width <= MOST_GRAY * picture.height * picture.width


class LimitedLuma(np.ndarray[tuple[int, ...], np.dtype[np.uint8]]):
    """Luma in 16..235 (ITU-R BT.601), as YUV from cameras is, and not gray in 0..255.

    The type says so, wherever a frame goes: views, slices, `copy` and `empty_like` keep it, `np.asarray` drops it.
    """


class Preprocessor:
    """Frames to pictures with buffers that are allocated once.

    Not for use by two threads at a time.
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self._inner: Preprocessor | None = None
        self._boxed: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._exact = picture.resize == "exact"
        # `cv2.remap` takes less time for few long lines, whatever the picture's are.
        lines = _few_lines(picture) if self._exact else picture.height
        shape = (lines, picture.height * picture.width // lines)
        self._color: NDArray[np.uint8] = np.empty((*shape, 3), np.uint8)
        self._color_picture = self._color.reshape(picture.height, picture.width, 3)
        self._gray: NDArray[np.uint8] = np.empty(shape, np.uint8)
        self._gray_picture = self._gray.reshape(picture.height, picture.width, 1)
        self._pair: NDArray[np.uint8] = np.empty((*shape, 2), np.uint8)
        self._places: tuple[NDArray[np.int16], NDArray[np.uint16]] | None = None
        self._whole: NDArray[np.uint8] | None = None
        self._frame_shape: tuple[int, ...] = ()
        self._box = (0, 0, 0, 0)

    def picture_of(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture (height, width, channels), uint8, valid until the next call.

        Args:
            frame: (H, W, 3) uint8, BGR; or, where the picture is gray, (H, W) uint8, gray or `LimitedLuma`, which
                gives the same picture as BGR but for two gray levels.

        Raises:
            FrameError: another shape or dtype, or no pixels.
        """
        if frame.shape != self._frame_shape:
            self._prepare(frame)
        if self._inner is not None:
            self._between[:] = self._inner.picture_of(frame)
            return self._boxed
        if frame.dtype is not _UINT8 and frame.dtype != _UINT8:  # Comparing types takes longer.
            raise FrameError("wrong dtype", f"uint8 expected, found {frame.dtype}")
        top, bottom, left, right = self._box
        if frame.ndim == 2:
            self._resize_luma(frame)
            return self._gray_picture
        cut = frame[top:bottom, left:right]
        if self._whole is not None:
            self._resize(cv2.cvtColor(cut, cv2.COLOR_BGR2GRAY, dst=self._whole), self._gray)
            return self._gray_picture
        self._resize(cut, self._color)
        if self.picture.color == "bgr":
            return self._color_picture
        cv2.cvtColor(self._color, cv2.COLOR_BGR2GRAY, dst=self._gray)
        return self._gray_picture

    def _resize_luma(self, frame: NDArray[np.uint8]) -> None:
        top, bottom, left, right = self._box
        packed = _packed(frame)
        if packed is None:
            self._resize(frame[top:bottom, left:right], self._gray)
        elif self._whole is not None:
            self._resize(cv2.extractChannel(packed[top:bottom, left:right], 0, dst=self._whole), self._gray)
        else:
            self._resize(packed[top:bottom, left:right], self._pair)
            cv2.extractChannel(self._pair, 0, dst=self._gray)
        if isinstance(frame, LimitedLuma):
            cv2.LUT(self._gray, _FULL_RANGE, dst=self._gray)

    def _resize(self, cut: Any, result: NDArray[np.uint8]) -> None:
        if self._places is not None:
            # No weight but zero falls on pixels beyond the border.
            cv2.remap(cut, *self._places, cv2.INTER_LINEAR, dst=result, borderMode=cv2.BORDER_REPLICATE)
        else:
            size = (self.picture.width, self.picture.height)
            cv2.resize(cut, size, dst=result, interpolation=cv2.INTER_LINEAR)

    def _prepare(self, frame: NDArray[np.uint8]) -> None:
        luma = frame.ndim == 2 and self.picture.color == "gray"
        if not (luma or (frame.ndim == 3 and frame.shape[2] == 3)) or 0 in frame.shape:
            raise FrameError("wrong shape", f"(height, width, 3) expected, found {frame.shape}")
        top, bottom, left, right = self._box = crop_box(frame.shape[0], frame.shape[1], self.picture)
        height, width = bottom - top, right - left
        if self.picture.fit == "letterbox":
            self._prepare_letterbox(height, width)
            self._frame_shape = frame.shape
            return
        if self._exact:
            if max(height, width) > MOST_PIXELS:
                raise FrameError("wrong shape", f"at most {MOST_PIXELS} pixels a side expected, found {frame.shape}")
            self._places = _remap_places(height, width, self.picture, self._gray.shape)
        self._whole = np.empty((height, width), np.uint8) if gray_first(height, width, self.picture) else None
        self._frame_shape = frame.shape

    def _prepare_letterbox(self, crop_height: int, crop_width: int) -> None:
        picture = self.picture
        height, width = inside_box(crop_height, crop_width, picture)
        top, left = (picture.height - height) // 2, (picture.width - width) // 2
        self._inner = Preprocessor(dataclasses.replace(picture, height=height, width=width, fit="stretch"))
        self._boxed = np.full(picture.shape, BARS, np.uint8)
        self._between = self._boxed[top : top + height, left : left + width]


def _few_lines(picture: Picture) -> int:
    """The fewest lines of equal length, no longer than OpenCV allows, that hold as many pixels as a picture."""
    most = range(1, picture.height + 1)
    pixels = picture.height * picture.width
    return next(lines for lines in most if pixels % lines == 0 and pixels // lines <= MOST_PIXELS)


def _remap_places(
    height: int, width: int, picture: Picture, shape: tuple[int, ...]
) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """The maps of `cv2.remap`, of a shape with as many pixels as the picture: columns and rows, and both shares."""
    (rows, down), (columns, along) = bilinear_places(height, picture.height), bilinear_places(width, picture.width)
    places = np.empty((picture.height, picture.width, 2), np.int16)
    places[:, :, 0], places[:, :, 1] = columns, rows[:, np.newaxis]
    shares = (down[:, np.newaxis] * STEPS + along).astype(np.uint16)
    return places.reshape(*shape, 2), shares.reshape(shape)


_UINT8 = np.dtype(np.uint8)


def _packed(luma: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The (H, W, 2) array of which a luma frame is the first channel, as YUYV has it; None where it is none.

    OpenCV would copy every second byte out of the whole crop first, which takes four times as long as resizing both.
    """
    if luma.strides[1] != 2:
        return None
    base = luma.base
    if not isinstance(base, np.ndarray) or base.shape != (*luma.shape, 2) or not base.flags.c_contiguous:
        return None
    return base if luma.__array_interface__["data"] == base.__array_interface__["data"] else None


_FULL_RANGE = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
"""Luma in 16..235 to gray in 0..255."""


def full_range(luma: LimitedLuma) -> NDArray[np.uint8]:
    """Luma (H, W) as gray (H, W) uint8 in 0..255, in memory of its own."""
    return np.asarray(cv2.LUT(luma, _FULL_RANGE), np.uint8)


def picture_of(frame: NDArray[np.uint8], picture: Picture) -> NDArray[np.uint8]:
    """One frame (H, W, 3) uint8 BGR to a picture of its own memory (height, width, channels), uint8.

    Raises:
        FrameError: another shape or dtype, or no pixels.
    """
    return Preprocessor(picture).picture_of(frame).copy()


_INPUT_SCALE = np.float32(1.0 / 255.0)


def write_input(pixels: NDArray[np.uint8], tensor: NDArray[np.generic]) -> None:
    """Write a picture, or a frame for a model that takes frames, into a model's input tensor, in place.

    float32: `pixels * (1/255)`, one float32 multiplication. int8: `pixels - 128`, which is exactly the float value
    quantized with scale 1/255 and zero point -128. uint8: a copy.

    Args:
        pixels: (h, w, c) uint8.
        tensor: (1, h, w, c) of float32, int8 or uint8.

    Raises:
        FrameError: `tensor` has another dtype or shape.
    """
    if tensor.shape[1:] != pixels.shape:
        raise FrameError("wrong shape", f"the model takes {tensor.shape[1:]}, the picture is {pixels.shape}")
    target = tensor[0]
    if target.dtype == np.float32:
        np.multiply(pixels, _INPUT_SCALE, out=target, casting="unsafe")
    elif target.dtype == np.int8:
        # Flipping the top bit of the unsigned byte and reading it as signed is the subtraction of 128.
        np.bitwise_xor(pixels, np.uint8(128), out=target.view(np.uint8))
    elif target.dtype == np.uint8:
        np.copyto(target, pixels, casting="no")
    else:
        raise FrameError("wrong dtype", f"float32, int8 or uint8 input expected, the model takes {target.dtype}")


def golden_copy(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What a model file stores of a frame (H, W, 3): 40 pixels wide, 16 levels, a third as many bytes as with all 256.

    The answer of the model is to this copy; it proves the file as well as the whole frame would.
    """
    return (shrink_frame(frame, 40) // 16 * 17).astype(np.uint8)


def shrink_frame(frame: NDArray[np.uint8], max_width: int) -> NDArray[np.uint8]:
    """A small copy of a frame (H, W, 3); as it is when it is small enough."""
    if frame.shape[1] <= max_width:
        return frame.copy()
    height = max(1, round(frame.shape[0] * max_width / frame.shape[1]))
    return cv2.resize(frame, (max_width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def enlarge_frame(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A stored golden frame (h, w, 3) as a camera frame (height, width, 3).

    Each pixel is the stored one at its place, by integer arithmetic: the same everywhere.
    """
    rows = np.arange(height) * frame.shape[0] // height
    columns = np.arange(width) * frame.shape[1] // width
    enlarged: NDArray[np.uint8] = frame[rows[:, np.newaxis], columns]
    return enlarged
