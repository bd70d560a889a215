"""Where augmentation moves what pictures show: their pixels, and `motion_of` for the labels that are places.

Mirror, shifts and blur are separable, hence two small matrix products per picture: columns and rows are resampled by
matrices made from the uniforms. What rotates, zooms, shears or flips top and bottom is sampled once for all of it,
by a gather of four neighbours per pixel: `keras.ops.image.affine_transform` takes six times as long on JAX, and
XLA cannot compile it on TensorFlow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_train.fit.outputs.protocol import Motion
from sepilot_train.fit.strengths import (
    BLUR,
    BLUR_WIDTH,
    FLIP_VERTICAL,
    MIRROR,
    ROTATE,
    SHEAR,
    SHIFT_X,
    SHIFT_Y,
    ZOOM,
    Augmentation,
)

__all__ = ["gathers", "motion_of", "resampled"]

Linear = tuple[Any, Any, Any, Any]
"""Rows of a 2x2 matrix of pixels right and down of the middle, each (...,): ((0, 1), (2, 3))."""


def motion_of(uniforms: NDArray[np.float32], settings: Augmentation, shape: tuple[int, ...]) -> Motion:
    """What `resampled` does to pictures, for the labels.

    Args:
        uniforms: (..., uniform_count(settings)).
        shape: height and width of the pictures, in pixels; what follows is not looked at.
    """
    height, width = shape[:2]
    shift_x = (2 * uniforms[..., SHIFT_X] - 1) * np.float32(settings.shift_x)
    shift_y = (2 * uniforms[..., SHIFT_Y] - 1) * np.float32(settings.shift_y)
    sign = np.where(uniforms[..., MIRROR] < settings.mirror, np.float32(-1), np.float32(1))
    vertical, linear = np.zeros(sign.shape, bool), (sign, 0.0, 0.0, 1.0)
    if gathers(settings):
        vertical = uniforms[..., FLIP_VERTICAL] < settings.flip_vertical
        linear = _linear(uniforms, settings, np)
    matrix = np.empty((*sign.shape, 2, 3), np.float32)
    matrix[..., 0, 0], matrix[..., 0, 1] = linear[0], linear[1] * (height / width)
    matrix[..., 1, 0], matrix[..., 1, 1] = linear[2] * (width / height), linear[3]
    # About the middle, which is (0.5, 0.5) whatever the size.
    matrix[..., 2] = 0.5 - 0.5 * matrix[..., :2].sum(axis=-1)
    matrix[..., 0, 2] += shift_x
    matrix[..., 1, 2] += shift_y
    return Motion(sign=sign, turned=shift_x * np.float32(settings.shift_x_label), vertical=vertical, matrix=matrix)


def resampled(x: Any, uniforms: Any, settings: Augmentation) -> Any:
    """float32 pictures (batch, height, width, channels), moved and blurred."""
    from keras import ops

    _, height, width, channels = x.shape
    sign = 1 - 2 * ops.cast(uniforms[:, MIRROR] < settings.mirror, "float32")
    right = (2 * uniforms[:, SHIFT_X] - 1) * settings.shift_x * width
    down = (2 * uniforms[:, SHIFT_Y] - 1) * settings.shift_y * height
    sideways, upright = settings.mirror or settings.shift_x, settings.shift_y
    if gathers(settings):
        x = _sampled(x, _linear(uniforms, settings, ops), right, down)
        sign, right, down, sideways, upright = None, 0 * right, 0 * down, 0, 0
    spread = None
    if settings.blur:
        blurred = ops.cast(uniforms[:, BLUR] < settings.blur, "float32")
        spread = 1 + blurred * uniforms[:, BLUR_WIDTH] * (settings.blur_width - 1)
    if sideways or settings.blur:
        # The mirror comes first, then the shift: a label is turned after its sign was changed.
        matrix = _sampling_matrix(width, right, spread, sign)
        if channels == 1:
            x = ops.expand_dims(ops.matmul(x[..., 0], matrix), -1)
        else:
            lines = ops.reshape(ops.transpose(x, (0, 1, 3, 2)), (-1, height * channels, width))
            lines = ops.reshape(ops.matmul(lines, matrix), (-1, height, channels, width))
            x = ops.transpose(lines, (0, 1, 3, 2))
    if upright or settings.blur:
        matrix = ops.transpose(_sampling_matrix(height, down, spread, None), (0, 2, 1))
        x = ops.matmul(matrix, ops.reshape(x, (-1, height, width * channels)))
        x = ops.reshape(x, (-1, height, width, channels))
    return x


def _sampling_matrix(size: int, shift: Any, spread: Any | None, sign: Any | None) -> Any:
    """(batch, size in, size out): linear interpolation at shifted places, widened to a triangle of `spread`."""
    from keras import ops

    places = np.arange(size, dtype=np.float32)
    source = places[None, :] - shift[:, None]
    if sign is not None:
        middle = (size - 1) / 2
        source = middle + sign[:, None] * (source - middle)
    source = ops.clip(source, 0.0, size - 1.0)
    distance = ops.abs(places[None, :, None] - source[:, None, :])
    if spread is None:
        return ops.relu(1 - distance)
    weight = ops.relu(spread[:, None, None] - distance)
    return weight * (1 / ops.sum(weight, axis=1, keepdims=True))


def gathers(settings: Augmentation) -> bool:
    """Is there more to do than two matrix products can?"""
    return any((settings.rotate_deg, settings.zoom, settings.shear_deg, settings.flip_vertical))


def _linear(uniforms: Any, settings: Augmentation, math: Any) -> Linear:
    """Where pixels go but for the shifts: mirrored, then zoomed, sheared and rotated; `math`: numpy or `keras.ops`."""
    one = np.float32(1)
    across = math.where(uniforms[..., MIRROR] < settings.mirror, -one, one)
    upright = math.where(uniforms[..., FLIP_VERTICAL] < settings.flip_vertical, -one, one)
    scale = (1 + settings.zoom) ** (2 * uniforms[..., ZOOM] - 1)
    lean = math.tan((2 * uniforms[..., SHEAR] - 1) * float(np.radians(settings.shear_deg)))
    angle = (2 * uniforms[..., ROTATE] - 1) * float(np.radians(settings.rotate_deg))
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return cos * across, (cos * lean - sin) * upright, sin * across, (sin * lean + cos) * upright


def _sampled(x: Any, linear: Linear, right: Any, down: Any) -> Any:
    """Pixels moved by `linear` about the middle, then by `right` and `down` (batch,): bilinear interpolation."""
    from keras import ops

    _, height, width, channels = x.shape
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    a, b, c, d = (entry[:, None, None] for entry in linear)
    to_x = np.arange(width, dtype=np.float32) - middle_x - right[:, None, None]
    to_y = np.arange(height, dtype=np.float32)[:, None] - middle_y - down[:, None, None]
    size = a * d - b * c
    from_x = ops.clip((d * to_x - b * to_y) / size + middle_x, 0.0, width - 1.0)
    from_y = ops.clip((a * to_y - c * to_x) / size + middle_y, 0.0, height - 1.0)
    # The left upper one of four neighbours; at the right and the lower edge the one before, with no weight.
    column = ops.minimum(ops.cast(from_x, "int32"), max(width - 2, 0))
    row = ops.minimum(ops.cast(from_y, "int32"), max(height - 2, 0))
    part_x = ops.expand_dims(from_x - ops.cast(column, "float32"), -1)
    part_y = ops.expand_dims(from_y - ops.cast(row, "float32"), -1)
    picture = ops.arange(ops.shape(x)[0], dtype="int32")[:, None, None]
    at = (picture * height + row) * width + column
    pixels, beside, below = ops.reshape(x, (-1, channels)), min(width - 1, 1), min(height - 1, 1) * width
    upper, lower = (
        (1 - part_x) * ops.take(pixels, at + line, axis=0) + part_x * ops.take(pixels, at + line + beside, axis=0)
        for line in (0, below)
    )
    return (1 - part_y) * upper + part_y * lower
