"""Augmentation of training pictures: a deterministic function of pictures and uniform numbers.

The random numbers are drawn on the host, by numpy, from (seed, epoch). So a resumed run sees what the
uninterrupted run would have seen, and nothing depends on a backend's random generator. Everything here is
`keras.ops`: it runs inside the compiled training step, on whatever device and backend trains.

Geometry (mirror, shifts, blur) is separable, hence two small matrix products per picture: columns and rows are
resampled by matrices made from the uniforms. That is cheap on a CPU and on an accelerator alike, where a gather
per pixel is not.

What a picture asks for changes with its geometry: `motion_of` says how it was moved, and each output's kind moves its
labels by that.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_train.base.ranges import require_in
from sepilot_train.fit.outputs.protocol import Motion

__all__ = ["UNIFORM_COUNT", "Augmentation", "apply", "motion_of"]

#: Uniform numbers per picture: one column per use below, on or off, so that switching one kind leaves the others.
UNIFORM_COUNT = 16
_MIRROR, _SHIFT_X, _SHIFT_Y, _BRIGHTNESS, _CONTRAST, _GAMMA = range(6)
_SHADOW, _SHADOW_ANGLE, _SHADOW_PLACE, _SHADOW_WIDTH, _SHADOW_DARKNESS = range(6, 11)
_BLUR, _BLUR_WIDTH, _NOISE, _NOISE_PLANE = range(11, 15)

_NOISE_PLANES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Strengths; 0 switches a kind off. Pixel values are meant in [0, 1].

    Attributes:
        mirror: probability of flipping left and right, which negates the labels of outputs that turn.
        shift_x: largest sideways shift, as a fraction of the width. The edge column is repeated.
        shift_x_label: change of such labels per whole width of shift: pictures shifted right are labelled more to
            the right, as if the car had turned left by that much.
        shift_y: largest vertical shift, as a fraction of the height (pitch of the car, height of the camera).
        brightness: largest value added or taken away.
        contrast: largest relative change of the distance from mid-gray.
        gamma: exponents of the tone curve reach from 1 / (1 + gamma) to 1 + gamma. The curve is the parabola
            through (0, 0), (1, 1) and the middle point of the power law; at most 1.
        shadow: probability of a soft-edged dark band or half plane at a random angle.
        shadow_darkness: largest part of the light that a shadow takes.
        blur: probability of blur.
        blur_width: largest half width of the blur's triangle, in pixels.
        noise: largest standard deviation of the pixel noise.
    """

    mirror: float = 0.5
    shift_x: float = 0.0
    shift_x_label: float = 0.0
    shift_y: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    shadow: float = 0.0
    shadow_darkness: float = 0.6
    blur: float = 0.0
    blur_width: float = 2.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            require_in(name, getattr(self, name), low, high)


_RANGES = (
    ("mirror", 0, 1),
    ("shift_x", 0, 1),
    # The sign is that of the steering; a shift by the whole width is never meant as more than a few full locks.
    ("shift_x_label", -10, 10),
    ("shift_y", 0, 1),
    ("brightness", 0, 1),
    ("contrast", 0, 1),
    # Beyond, the parabola leaves [0, 1] and turns back on itself.
    ("gamma", 0, 1),
    ("shadow", 0, 1),
    ("shadow_darkness", 0, 1),
    ("blur", 0, 1),
    ("blur_width", 1, 100),
    ("noise", 0, 1),
)


def motion_of(uniforms: NDArray[np.float32], settings: Augmentation) -> Motion:
    """What `apply` does sideways to pictures, for the labels: uniforms (..., UNIFORM_COUNT) to arrays (...,)."""
    shift = (2 * uniforms[..., _SHIFT_X] - 1) * np.float32(settings.shift_x)
    return Motion(
        sign=np.where(uniforms[..., _MIRROR] < settings.mirror, np.float32(-1), np.float32(1)),
        turned=shift * np.float32(settings.shift_x_label),
    )


def apply(pictures: Any, uniforms: Any, settings: Augmentation) -> Any:
    """Augment a batch of pictures.

    Args:
        pictures: uint8 (batch, height, width, channels).
        uniforms: float32 (batch, UNIFORM_COUNT), each in [0, 1).
        settings: the strengths.

    Returns:
        float32 pictures in [0, 1].
    """
    from keras import ops

    # float32 pixels * (1 / 255) in this order: the same values as the runtime feeds to the model.
    x = ops.cast(pictures, "float32") * np.float32(1 / 255)
    sign = 1 - 2 * ops.cast(uniforms[:, _MIRROR] < settings.mirror, "float32")
    shift = (2 * uniforms[:, _SHIFT_X] - 1) * settings.shift_x
    x = _resample(x, uniforms, sign, shift, settings)
    changed = _recolor(x, uniforms, settings)
    return ops.clip(changed, 0.0, 1.0) if changed is not x else x


def _resample(x: Any, uniforms: Any, sign: Any, shift: Any, settings: Augmentation) -> Any:
    """Mirror, shift and blur, by one matrix product along the width and one along the height."""
    from keras import ops

    _, height, width, channels = x.shape
    spread = None
    if settings.blur:
        blurred = ops.cast(uniforms[:, _BLUR] < settings.blur, "float32")
        spread = 1 + blurred * uniforms[:, _BLUR_WIDTH] * (settings.blur_width - 1)
    if settings.mirror or settings.shift_x or settings.blur:
        # The mirror comes first, then the shift: a label is turned after its sign was changed.
        matrix = _sampling_matrix(width, shift * width, spread, sign)
        if channels == 1:
            x = ops.expand_dims(ops.matmul(x[..., 0], matrix), -1)
        else:
            lines = ops.reshape(ops.transpose(x, (0, 1, 3, 2)), (-1, height * channels, width))
            lines = ops.reshape(ops.matmul(lines, matrix), (-1, height, channels, width))
            x = ops.transpose(lines, (0, 1, 3, 2))
    if settings.shift_y or settings.blur:
        drop = (2 * uniforms[:, _SHIFT_Y] - 1) * settings.shift_y * height
        matrix = ops.transpose(_sampling_matrix(height, drop, spread, None), (0, 2, 1))
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


def _recolor(x: Any, uniforms: Any, settings: Augmentation) -> Any:
    """Light: contrast and brightness, tone curve, shadow, noise. Leaves [0, 1]; the caller clips."""
    from keras import ops

    def column(number: int) -> Any:
        return uniforms[:, number, None, None, None]

    if settings.brightness or settings.contrast:
        gain = 1 + (2 * column(_CONTRAST) - 1) * settings.contrast
        x = x * gain + (0.5 - 0.5 * gain + (2 * column(_BRIGHTNESS) - 1) * settings.brightness)
    if settings.gamma:
        exponent = (1 + settings.gamma) ** (2 * column(_GAMMA) - 1)
        bend = 4 * (0.5**exponent - 0.5)
        x = x * ((1 + bend) - bend * x)
    if settings.shadow:
        x = x * _shadow(x.shape, uniforms, settings)
    if settings.noise:
        # 32 planes of fixed noise, with either sign: a plane is picked by one half of its uniform's range.
        plane = ops.cast(column(_NOISE_PLANE)[:, 0, 0, 0] * _NOISE_PLANES, "int32")
        strength = (2 * column(_NOISE) - 1) * settings.noise
        x = x + strength * ops.take(_noise_bank(*x.shape[1:]), plane, axis=0)
    return x


def _shadow(shape: tuple[int, ...], uniforms: Any, settings: Augmentation) -> Any:
    """(batch, height, width, 1): the light that is left, 1 outside of the shadow."""
    from keras import ops

    _, height, width, _ = shape
    angle = uniforms[:, _SHADOW_ANGLE] * np.float32(np.pi)
    # Distance from the shadow's middle line, in units of the picture's width, origin in the picture's middle.
    across = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / width
    down = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / width
    place = (2 * uniforms[:, _SHADOW_PLACE] - 1) * 0.6
    half_width = 0.05 + 0.5 * uniforms[:, _SHADOW_WIDTH]
    softness = 0.04
    present = ops.cast(uniforms[:, _SHADOW] < settings.shadow, "float32")
    taken = present * uniforms[:, _SHADOW_DARKNESS] * settings.shadow_darkness
    # The light rises with the distance, from 1 - taken within to 1 outside. It is scaled while there is one number per
    # column and per row: each operation on whole pictures costs as much as a layer of a small net.
    rise = taken * (1 / softness)
    columns = rise[:, None] * (ops.cos(angle)[:, None] * across[None, :] - place[:, None])
    rows = rise[:, None] * (ops.sin(angle)[:, None] * down[None, :])
    distance = ops.abs(columns[:, None, :] + rows[:, :, None])
    light = ops.maximum(distance + (1 - rise * half_width)[:, None, None], (1 - taken)[:, None, None])
    return ops.expand_dims(ops.minimum(light, 1.0), -1)


@cache
def _noise_bank(height: int, width: int, channels: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((_NOISE_PLANES, height, width, channels), dtype=np.float32)
