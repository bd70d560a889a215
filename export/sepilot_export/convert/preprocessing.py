"""Preprocessing as part of a model file: from the camera's frame, uint8 BGR of one size, to the picture in [0, 1].

Crop, bilinear resize and gray as `sepilot_runtime.contract.preprocess` has them from OpenCV, and not just nearly so.
The "exact" resize has 5-bit weights and one rounding at the end, all of it whole numbers that float32 holds: every
pixel comes out the same. "linear" is OpenCV's INTER_LINEAR (11-bit weights, two rounding steps on the way), of which
one product is not exact: against OpenCV 5.0 on x86-64 every pixel of 9,587 real frames came out the same at 64x96, in
LiteRT, ONNX Runtime and OpenVINO; at 66x100, one in a million was a gray level off. A plain bilinear resize, rounded,
is a gray level off in 9 % of the pixels.

Only a gather, small matrix products and elementwise operations occur, which every converter and interpreter knows; a
resize operation is slower in LiteRT (the whole frame goes through a cast) and needs transposes in ONNX.

Source of the arithmetic: OpenCV, modules/imgproc/src/resize.cpp (`resizeGeneric`, `VResizeLinear` for bytes), imgwarp
(`remapBilinear` for bytes) and color_yuv (`RGB2Gray` for bytes).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import onnx_file, tflite
from sepilot_runtime.contract.contract import FrameInput, Picture
from sepilot_runtime.contract.preprocess import STEPS, bilinear_places, gray_first
from sepilot_runtime.contract.window import crop_box

__all__ = ["Arithmetic", "Taps", "picture_graph", "taps", "to_onnx", "to_tflite"]

GRAY = np.array([3735, 19235, 9798], np.float32) / 32768
"""Blue, green and red in OpenCV's gray; BT.601 in 15 bits. They add up to exactly 1."""

MOST_WEIGHTS = 1 << 14
"""A matrix product interpolates whole groups of pixels at once where its matrix is no larger than this."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Taps:
    """For each place of the result along one axis, the two places that it lies between and their weights (n,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    first_weight: NDArray[np.int64]
    second_weight: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Of one of the two resizes, in whole numbers.

    Attributes:
        one: the weight that stands for 1.0.
        rounds: what lies behind the point is cut off after each of the two steps, and not just at the end.
        column_unit, row_unit: by which the weights are divided, so that the result is four times a gray level.
    """

    one: int
    rounds: bool
    column_unit: int
    row_unit: int


ARITHMETIC = {
    "exact": Arithmetic(one=STEPS, rounds=False, column_unit=1, row_unit=STEPS * STEPS // 4),
    "linear": Arithmetic(one=2048, rounds=True, column_unit=16, row_unit=65536),
}
"""By `Picture.resize`."""


def taps(size: int, result: int, resize: str, *, rows: bool) -> Taps:
    """Interpolation from `size` to `result` pixels, pixel centres at one half, as a `Picture.resize` has it."""
    if resize == "linear":
        return _linear_taps(size, result, rows=rows)
    place, share = bilinear_places(size, result)
    return Taps(first=place, second=np.minimum(place + 1, size - 1), first_weight=STEPS - share, second_weight=share)


def _linear_taps(size: int, result: int, *, rows: bool) -> Taps:
    """As `cv2.resize` computes INTER_LINEAR.

    Beyond the outermost centres a column counts alone, and a row twice: with both weights, each rounded by itself.
    """
    weight_one = ARITHMETIC["linear"].one
    # 1 / (result / size) is not always size / result in the last bit, and OpenCV takes the former.
    scale = 1.0 / (result / size)
    position = ((np.arange(result) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(position).astype(np.int64)
    share = position - before.astype(np.float32)
    if not rows:
        share[(before < 0) | (before >= size - 1)] = 0
        before = np.clip(before, 0, size - 1)
    one = np.float32(1)
    return Taps(
        first=np.clip(before, 0, size - 1),
        second=np.clip(before + 1, 0, size - 1),
        first_weight=np.rint((one - share) * weight_one).astype(np.int64),
        second_weight=np.rint(share * weight_one).astype(np.int64),
    )


def picture_graph(picture: Picture, frame: FrameInput) -> Callable[[Any], Any]:
    """The TensorFlow function from a frame (1, H, W, 3) uint8 to the picture (1, h, w, c) float32 in [0, 1]."""
    import tensorflow as tf

    top, bottom, left, right = crop_box(frame.height, frame.width, picture)
    arithmetic = ARITHMETIC[picture.resize]
    kept = tf.floor if arithmetic.rounds else tf.identity
    early = gray_first(bottom - top, right - left, picture)
    rows = taps(bottom - top, picture.height, picture.resize, rows=True)
    taken = np.concatenate([rows.first, rows.second]).astype(np.int32)
    weights = np.concatenate([rows.first_weight, rows.second_weight]) / arithmetic.row_unit
    row_weights = weights.astype(np.float32)[:, np.newaxis]
    columns = _columns(right - left, picture, channels=1 if early else 3)
    height = picture.height

    def make(image: Any) -> Any:
        lines = tf.reshape(image, (frame.height, frame.width * 3))
        if early:
            cut = lines[top:bottom, 3 * left : 3 * right]
            lines = tf.gather(tf.reshape(_gray(tf.cast(cut, tf.float32)), (bottom - top, -1)), taken, axis=0)
        else:
            lines = tf.gather(lines, top + taken, axis=0)
            if right - left < frame.width:
                lines = lines[:, 3 * left : 3 * right]
        lines = kept(kept(columns(lines)) * row_weights)
        pixels = tf.floor((lines[:height] + lines[height:] + 2.0) * 0.25)
        if picture.color == "gray" and not early:
            pixels = _gray(pixels)
        return tf.reshape(pixels * np.float32(picture.scale), (1, *picture.shape))

    return make


def _gray(pixels: Any) -> Any:
    """Of whole numbers (lines, 3 * pixels) float32, one for each pixel, in the same order."""
    import tensorflow as tf

    count = math.prod(pixels.shape) // 3
    at_once = max(n for n in range(1, 17) if count % n == 0)
    weights = np.kron(np.eye(at_once, dtype=np.float32), GRAY[:, np.newaxis])
    # As the weights add up to 1, a half before them is a half after them.
    return tf.floor(tf.matmul(tf.reshape(pixels + 0.5, (-1, 3 * at_once)), weights))


def _columns(size: int, picture: Picture, channels: int) -> Callable[[Any], Any]:
    """Interpolation along lines: (n, size * channels) to (n, width * channels) float32, in `column_unit`s."""
    import tensorflow as tf

    result, unit = picture.width, ARITHMETIC[picture.resize].column_unit
    found = taps(size, result, picture.resize, rows=False)
    groups = _groups(found, size, result)
    taken, made = size // groups, result // groups

    def product(lines: Any) -> Any:
        matrix = np.kron(_matrix(found, size, result, groups)[0] / unit, np.eye(channels)).astype(np.float32)
        parts = tf.reshape(tf.cast(lines, tf.float32), (-1, channels * taken))
        return tf.reshape(tf.matmul(parts, matrix), (-1, channels * result))

    def gather(lines: Any) -> Any:
        pixels = tf.reshape(lines, (-1, size, channels))
        weighed = [
            tf.cast(tf.gather(pixels, place.astype(np.int32), axis=1), tf.float32)
            * (weight / unit).astype(np.float32)[np.newaxis, :, np.newaxis]
            for place, weight in ((found.first, found.first_weight), (found.second, found.second_weight))
        ]
        return tf.reshape(weighed[0] + weighed[1], (-1, channels * result))

    return product if channels * channels * taken * made <= MOST_WEIGHTS else gather


def _groups(found: Taps, size: int, result: int) -> int:
    """The most groups of neighbouring pixels that need nothing of each other and are interpolated alike."""
    place = np.arange(result)
    for groups in range(math.gcd(size, result), 1, -1):
        if size % groups or result % groups:
            continue
        own = place // (result // groups)
        inside = (found.first // (size // groups) == own) & (found.second // (size // groups) == own)
        if inside.all() and np.ptp(_matrix(found, size, result, groups), axis=0).max() == 0:
            return groups
    return 1


def _matrix(found: Taps, size: int, result: int, groups: int) -> NDArray[np.float32]:
    """For each group the weights from its pixels to its results, (groups, taken, made)."""
    taken, made = size // groups, result // groups
    weights = np.zeros((groups, taken, made), np.float32)
    group, column = np.divmod(np.arange(result), made)
    np.add.at(weights, (group, found.first - group * taken, column), found.first_weight)
    np.add.at(weights, (group, found.second - group * taken, column), found.second_weight)
    return weights


def to_tflite(graph: Callable[[Any], Any], picture: Picture, frame: FrameInput) -> bytes:
    """A graph of `picture_graph` as a TFLite file with the signature frame -> picture."""
    return tflite.from_function(lambda **frames: {picture.name: graph(frames[frame.name])}, {frame.name: _spec(frame)})


def to_onnx(graph: Callable[[Any], Any], picture: Picture, frame: FrameInput) -> bytes:
    """A graph of `picture_graph` as an ONNX file, frame -> picture."""
    return onnx_file.from_function(lambda image: {picture.name: graph(image)}, [_spec(frame)])


def _spec(frame: FrameInput) -> Any:
    import tensorflow as tf

    return tf.TensorSpec((1, *frame.shape), tf.uint8, name=frame.name)
