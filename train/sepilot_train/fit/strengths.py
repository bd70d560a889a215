"""What a recipe says of augmentation, and the uniform numbers from which each kind takes its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_train.base.ranges import require_in

__all__ = ["UNIFORM_COUNT", "Augmentation", "draw_uniforms", "stated", "uniform_count"]

#: Uniform numbers per picture: one column per use below, on or off, so that switching one kind leaves the others.
UNIFORM_COUNT = 16
MIRROR, SHIFT_X, SHIFT_Y, BRIGHTNESS, CONTRAST, GAMMA = range(6)
SHADOW, SHADOW_ANGLE, SHADOW_PLACE, SHADOW_WIDTH, SHADOW_DARKNESS = range(6, 11)
BLUR, BLUR_WIDTH, NOISE, NOISE_PLANE = range(11, 15)

#: So many more where a kind that came later is on: trainings without one keep the numbers that they had.
_FURTHER = 16
ROTATE, ZOOM, SHEAR, FLIP_VERTICAL, SATURATION, HUE = range(16, 22)
CUTOUT, CUTOUT_X, CUTOUT_Y, MIXUP = range(22, 26)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Strengths; 0 switches a kind off. Pixel values are meant in [0, 1].

    A picture is mirrored, then zoomed, sheared, rotated, and shifted. What comes into view repeats the edge.

    Attributes:
        mirror: probability of flipping left and right, which negates the labels of outputs that turn.
        shift_x: largest sideways shift, as a fraction of the width.
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
        rotate_deg: largest rotation about the picture's middle, either way.
        zoom: sizes reach from 1 / (1 + zoom) to 1 + zoom, about the middle.
        shear_deg: largest angle by which upright lines lean, either way.
        flip_vertical: probability of flipping top and bottom.
        saturation: largest relative change of the distance from gray; nothing changes in gray pictures.
        hue_deg: largest turn of the color circle, either way; nothing changes in gray pictures.
        cutout: probability of a mid-gray square. Its middle lies anywhere, so a part of it may lie outside.
        cutout_size: the square's side, as a fraction of the picture's smaller side.
        mixup: largest share of another picture of the batch that is mixed in, and of its labels; each share up to
            that is as likely. 0.5 is the Beta(1, 1) distribution of the mixup paper (arXiv 1710.09412).
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
    rotate_deg: float = 0.0
    zoom: float = 0.0
    shear_deg: float = 0.0
    flip_vertical: float = 0.0
    saturation: float = 0.0
    hue_deg: float = 0.0
    cutout: float = 0.0
    cutout_size: float = 0.5
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            require_in(name, getattr(self, name), low, high)


_RANGES = (
    ("mirror", 0, 1),
    ("shift_x", 0, 1),
    # The sign is that of the wheel's angle; a shift by the whole width is never meant as more than a few full locks.
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
    ("rotate_deg", 0, 180),
    ("zoom", 0, 1),
    ("shear_deg", 0, 60),
    ("flip_vertical", 0, 1),
    ("saturation", 0, 1),
    ("hue_deg", 0, 180),
    ("cutout", 0, 1),
    ("cutout_size", 0, 1),
    # Beyond, the other picture is the one that is looked at.
    ("mixup", 0, 0.5),
)

_LATER_KINDS = ("rotate_deg", "zoom", "shear_deg", "flip_vertical", "saturation", "hue_deg", "cutout", "mixup")
_LATER = (*_LATER_KINDS, "cutout_size")


def stated(settings: Augmentation) -> dict[str, Any]:
    """All strengths but those that came later and say nothing: sums and checkpoints of before stay valid."""
    usual = asdict(Augmentation())
    return {name: value for name, value in asdict(settings).items() if name not in _LATER or value != usual[name]}


def uniform_count(settings: Augmentation) -> int:
    """How many uniform numbers a picture takes."""
    return UNIFORM_COUNT + (_FURTHER if any(getattr(settings, name) for name in _LATER_KINDS) else 0)


def draw_uniforms(random: np.random.Generator, shape: tuple[int, ...], settings: Augmentation) -> NDArray[np.float32]:
    """(*shape, uniform_count(settings)) in [0, 1). The first columns are the same, whatever is on."""
    drawn = random.random((*shape, UNIFORM_COUNT), dtype=np.float32)
    if further := uniform_count(settings) - UNIFORM_COUNT:
        drawn = np.concatenate([drawn, random.random((*shape, further), dtype=np.float32)], axis=-1)
    return drawn
