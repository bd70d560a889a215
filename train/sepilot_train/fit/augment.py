"""Augmentation of training pictures: a deterministic function of pictures and uniform numbers.

The random numbers are drawn on the host, by numpy, from (seed, epoch). So a resumed run sees what the
uninterrupted run would have seen, and nothing depends on a backend's random generator. Everything here is
`keras.ops`: it runs inside the compiled training step, on whatever device and backend trains.

What a picture asks for changes with it: `motion_of` says how it was moved, and each output's kind moves its labels by
that; `shares_of` says how much of another picture's labels it gets.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_train.fit.geometry import gathers, motion_of, resampled
from sepilot_train.fit.strengths import (
    BRIGHTNESS,
    CONTRAST,
    CUTOUT,
    CUTOUT_X,
    CUTOUT_Y,
    GAMMA,
    HUE,
    MIXUP,
    NOISE,
    NOISE_PLANE,
    SATURATION,
    SHADOW,
    SHADOW_ANGLE,
    SHADOW_DARKNESS,
    SHADOW_PLACE,
    SHADOW_WIDTH,
    UNIFORM_COUNT,
    Augmentation,
    draw_uniforms,
    stated,
    uniform_count,
)

__all__ = [
    "UNIFORM_COUNT",
    "Augmentation",
    "apply",
    "draw_uniforms",
    "gathers",
    "mixed",
    "motion_of",
    "shares_of",
    "stated",
    "uniform_count",
]

_NOISE_PLANES = 32


def apply(pictures: Any, uniforms: Any, settings: Augmentation) -> Any:
    """Augment a batch of pictures.

    Args:
        pictures: uint8 (batch, height, width, channels); three channels are blue, green and red.
        uniforms: float32 (batch, uniform_count(settings)), each in [0, 1).
        settings: the strengths.

    Returns:
        float32 pictures in [0, 1].
    """
    from keras import ops

    # float32 pixels * (1 / 255) in this order: the same values as the runtime feeds to the model.
    x = ops.cast(pictures, "float32") * np.float32(1 / 255)
    x = resampled(x, uniforms, settings)
    changed = _recolor(x, uniforms, settings)
    x = ops.clip(changed, 0.0, 1.0) if changed is not x else x
    if settings.cutout:
        left = ops.cast(~_cut(x.shape, uniforms, settings), "float32")
        x = x * left + 0.5 * (1 - left)
    return mixed(x, uniforms, settings)


def mixed(pictures: Any, uniforms: Any, settings: Augmentation) -> Any:
    """Each picture of a batch with its share of the one at the same place from the batch's end."""
    from keras import ops

    if not settings.mixup:
        return pictures
    share = shares_of(uniforms, settings)[:, None, None, None]
    return (1 - share) * pictures + share * ops.flip(pictures, axis=0)


def shares_of(uniforms: Any, settings: Augmentation) -> Any:
    """float32 (..., batch): the other picture's share s. Labels of a batch become (1 - s) * labels + s * labels[::-1].

    Args:
        uniforms: float32 (..., batch, uniform_count(settings)), of numpy or of the backend.
    """
    if not settings.mixup:
        return np.zeros(uniforms.shape[:-1], np.float32)
    return uniforms[..., MIXUP] * np.float32(settings.mixup)


def _recolor(x: Any, uniforms: Any, settings: Augmentation) -> Any:
    """Light: contrast and brightness, tone curve, color, shadow, noise. Leaves [0, 1]; the caller clips."""
    from keras import ops

    def column(number: int) -> Any:
        return uniforms[:, number, None, None, None]

    if settings.brightness or settings.contrast:
        gain = 1 + (2 * column(CONTRAST) - 1) * settings.contrast
        x = x * gain + (0.5 - 0.5 * gain + (2 * column(BRIGHTNESS) - 1) * settings.brightness)
    if settings.gamma:
        exponent = (1 + settings.gamma) ** (2 * column(GAMMA) - 1)
        bend = 4 * (0.5**exponent - 0.5)
        x = x * ((1 + bend) - bend * x)
    if (settings.saturation or settings.hue_deg) and x.shape[-1] == 3:
        x = _turned_color(x, uniforms, settings)
    if settings.shadow:
        x = x * _shadow(x.shape, uniforms, settings)
    if settings.noise:
        # 32 planes of fixed noise, with either sign: a plane is picked by one half of its uniform's range.
        plane = ops.cast(column(NOISE_PLANE)[:, 0, 0, 0] * _NOISE_PLANES, "int32")
        strength = (2 * column(NOISE) - 1) * settings.noise
        x = x + strength * ops.take(_noise_bank(*x.shape[1:]), plane, axis=0)
    return x


def _turned_color(x: Any, uniforms: Any, settings: Augmentation) -> Any:
    """Hue and saturation, by one 3x3 matrix per picture that keeps the luma: SVG's `hueRotate`, for BT.601."""
    from keras import ops

    luma = np.tile(np.array([0.114, 0.587, 0.299], np.float32), (3, 1))
    chroma = np.eye(3, dtype=np.float32) - luma
    # A quarter turn about gray, brought back to the luma that there was.
    quarter = chroma @ (np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / np.sqrt(np.float32(3)))
    gain = 1 + (2 * uniforms[:, SATURATION] - 1) * settings.saturation
    angle = (2 * uniforms[:, HUE] - 1) * float(np.radians(settings.hue_deg))
    along, across = ((gain * part(angle))[:, None, None] for part in (ops.cos, ops.sin))
    matrix = luma.T + along * chroma.T + across * quarter.T
    _, height, width, _ = x.shape
    return ops.reshape(ops.matmul(ops.reshape(x, (-1, height * width, 3)), matrix), (-1, height, width, 3))


def _shadow(shape: tuple[int, ...], uniforms: Any, settings: Augmentation) -> Any:
    """(batch, height, width, 1): the light that is left, 1 outside of the shadow."""
    from keras import ops

    _, height, width, _ = shape
    angle = uniforms[:, SHADOW_ANGLE] * np.float32(np.pi)
    # Distance from the shadow's middle line, in units of the picture's width, origin in the picture's middle.
    across = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / width
    down = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / width
    place = (2 * uniforms[:, SHADOW_PLACE] - 1) * 0.6
    half_width = 0.05 + 0.5 * uniforms[:, SHADOW_WIDTH]
    softness = 0.04
    present = ops.cast(uniforms[:, SHADOW] < settings.shadow, "float32")
    taken = present * uniforms[:, SHADOW_DARKNESS] * settings.shadow_darkness
    # The light rises with the distance, from 1 - taken within to 1 outside. It is scaled while there is one number per
    # column and per row: each operation on whole pictures costs as much as a layer of a small net.
    rise = taken * (1 / softness)
    columns = rise[:, None] * (ops.cos(angle)[:, None] * across[None, :] - place[:, None])
    rows = rise[:, None] * (ops.sin(angle)[:, None] * down[None, :])
    distance = ops.abs(columns[:, None, :] + rows[:, :, None])
    light = ops.maximum(distance + (1 - rise * half_width)[:, None, None], (1 - taken)[:, None, None])
    return ops.expand_dims(ops.minimum(light, 1.0), -1)


def _cut(shape: tuple[int, ...], uniforms: Any, settings: Augmentation) -> Any:
    """bool (batch, height, width, 1): what the square hides."""
    _, height, width, _ = shape
    half = settings.cutout_size * min(height, width) / 2
    across = np.arange(width, dtype=np.float32) + 0.5 - uniforms[:, CUTOUT_X, None] * width
    down = np.arange(height, dtype=np.float32) + 0.5 - uniforms[:, CUTOUT_Y, None] * height
    inside = (abs(across) < half)[:, None, :, None] & (abs(down) < half)[:, :, None, None]
    return inside & (uniforms[:, CUTOUT] < settings.cutout)[:, None, None, None]


@cache
def _noise_bank(height: int, width: int, channels: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((_NOISE_PLANES, height, width, channels), dtype=np.float32)
