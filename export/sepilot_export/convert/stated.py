"""What a person says about a model file that was made elsewhere (`sepilot adopt --help` shows it), and what follows.

The arithmetic of a picture stands here in numpy, for the interpreter that gives the reference. The same in front of the
file itself is another one's (`wrapping.py`), so that a mistake in either shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.stated_outputs import AnyStated, Taken, Wrong
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.contract.contract import Output, Picture, Vector
from sepilot_runtime.contract.quantization import INT8_INPUT, Affine
from sepilot_runtime.engine.bare import Tensor

__all__ = ["Plan", "StatedContract", "StatedPicture", "StatedVector", "plan_of", "tensor_input"]

RANGES: Mapping[str, tuple[float, float]] = {"0..1": (1 / 255, 0.0), "-1..1": (2 / 255, -1.0), "0..255": (1.0, 0.0)}
"""Value of a gray level: factor and offset."""

EXAMPLE = (
    "--set picture.color=rgb --set picture.range=-1..1 --set outputs.steering.unit=deg --set outputs.steering.scale=25 "
    "--set outputs.steering.positive=right, or --set outputs.class.kind=classes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPicture:
    """Empty is what the file says itself, or need not say.

    Attributes:
        tensor: the input in the file; "" for the only one of four dimensions.
        color: order of its channels.
        range: of its values; `mean` and `std` by channel, of values in 0..1, in its place.
        resize: of the crop to the picture, as in `Picture`.
    """

    tensor: str = ""
    color: Literal["", "rgb", "bgr", "gray"] = ""
    range: Literal["", "0..1", "-1..1", "0..255"] = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Literal["", "NHWC", "NCHW"] = ""
    resize: Literal["exact", "linear"] = "exact"
    crop_top: float = 0.0
    crop_bottom: float = 0.0
    crop_left: float = 0.0
    crop_right: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedVector:
    """`tensor`: in the file; `columns`: of a recording, whose numbers it takes."""

    tensor: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedContract:
    """All of it; outputs and vectors by the contract's names."""

    picture: StatedPicture = field(default_factory=StatedPicture)
    outputs: Mapping[str, AnyStated] = field(default_factory=dict)
    vectors: Mapping[str, StatedVector] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """How a file's inputs and outputs are made from the contract's.

    Attributes:
        image: the file's input that takes the picture.
        reversed: its channels are RGB, the picture's are BGR.
        factor, offset: (channels,) float64: value of a gray level, in the file's order of channels.
        channels_first: NCHW.
        taken: of each output of the contract what it is of the file's.
        fed: of each vector of the contract its tensor in the file.
    """

    image: Tensor
    reversed: bool
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]
    channels_first: bool
    picture: Picture
    outputs: tuple[Output, ...]
    vectors: tuple[Vector, ...]
    taken: Mapping[str, Taken]
    fed: Mapping[str, Tensor]

    @property
    def takes_integers(self) -> bool:
        """Plain ones, without a scale."""
        return self.image.dtype.kind in "iu" and self.image.affine is None

    @property
    def takes_pictures(self) -> bool:
        """The file's own input is what every file of ours takes."""
        kind, affine = self.image.dtype, self.image.affine or Affine(scale=1.0, zero_point=0)
        exact = np.isclose(affine.scale, INT8_INPUT.scale, rtol=1e-6) and affine.zero_point == INT8_INPUT.zero_point
        plain = np.allclose(self.factor, 1 / 255, rtol=1e-6) and not self.offset.any()
        ours = kind == np.float32 or (kind == np.int8 and exact)
        return bool(ours and plain and not self.reversed and not self.channels_first)


def plan_of(stated: StatedContract, inputs: Sequence[Tensor], outputs: Sequence[Tensor], where: str) -> Plan:
    """What a statement and the file itself say together.

    Raises:
        UsageError: something is missing or does not fit; the line says what the file has, and how to state the rest.
    """
    has = f"the file takes {'; '.join(map(str, inputs))} and gives {'; '.join(map(str, outputs))}"
    said = stated.picture

    def wrong(key: str, expected: str) -> UsageError:
        return UsageError(f"{where}: {key}: {expected} expected: {has}; for example {EXAMPLE}")

    fed = {name: _named(inputs, v.tensor, wrong, f"vectors.{name}.tensor") for name, v in stated.vectors.items()}
    left = [t for t in inputs if t not in fed.values()]
    image = _named([t for t in left if len(t.shape) == 4], said.tensor, wrong, "picture.tensor")
    if others := [t.name for t in left if t is not image]:
        raise wrong(f"vectors.NAME.tensor = {others[0]!r}", "every input but the picture as a vector")
    height, width, channels, first = _sizes(image, said.layout, wrong)
    if channels == 3 and said.color not in ("rgb", "bgr"):
        raise wrong("picture.color", "rgb or bgr")
    factor, offset = _values(said, image, channels, wrong)
    taken, made = _taken(stated.outputs, outputs, wrong)
    crops = {key: getattr(said, key) for key in ("crop_top", "crop_bottom", "crop_left", "crop_right", "resize")}
    return Plan(
        image=image,
        reversed=said.color == "rgb" and channels == 3,
        factor=factor,
        offset=offset,
        channels_first=first,
        picture=Picture(height=height, width=width, color="bgr" if channels == 3 else "gray", **crops),
        outputs=made,
        vectors=tuple(
            Vector(name=name, size=int(np.prod(fed[name].shape)), columns=vector.columns)
            for name, vector in stated.vectors.items()
        ),
        taken=taken,
        fed=fed,
    )


def _taken(
    stated: Mapping[str, AnyStated], outputs: Sequence[Tensor], wrong: Wrong
) -> tuple[dict[str, Taken], tuple[Output, ...]]:
    """Where the outputs stand in the file, and what they are in the contract."""
    if not stated:
        raise wrong("outputs.NAME", "at least one output of the car")
    taken, made = dict[str, Taken](), []
    for name, output in stated.items():
        tensor = _named(outputs, output.tensor, wrong, f"outputs.{name}.tensor")
        taken[name], its = output.made(name, tensor, wrong)
        made.append(its)
    return taken, tuple(made)


def _named(found: Sequence[Tensor], name: str, wrong: Wrong, key: str) -> Tensor:
    chosen = [t for t in found if name in ("", t.name)]
    if len(chosen) != 1:
        raise wrong(key, f"one of {', '.join(t.name for t in found) or 'none'}")
    return chosen[0]


def _sizes(image: Tensor, layout: str, wrong: Wrong) -> tuple[int, int, int, bool]:
    """Height, width, channels, and whether these come first."""
    fits = {"NHWC": image.shape[3] in (1, 3), "NCHW": image.shape[1] in (1, 3)}
    if layout:
        fits = {key: fit and key == layout for key, fit in fits.items()}
    if sum(fits.values()) != 1:
        raise wrong("picture.layout", "NHWC or NCHW with 1 or 3 channels")
    if fits["NCHW"]:
        return image.shape[2], image.shape[3], image.shape[1], True
    return image.shape[1], image.shape[2], image.shape[3], False


def _values(
    said: StatedPicture, image: Tensor, channels: int, wrong: Wrong
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factor and offset by channel: stated, or what a quantized input can hold, or bytes as they are."""
    if said.mean or said.std:
        mean, std = (np.array(v, np.float64) for v in (said.mean, said.std))
        if said.range or mean.shape != (channels,) or std.shape != (channels,) or not (std > 0).all():
            raise wrong("picture.mean, picture.std", f"{channels} values each, std above 0, no range")
        return 1 / (255 * std), -mean / std
    known = said.range or _range_of(image)
    if not known:
        raise wrong("picture.range", f"one of {', '.join(RANGES)}")
    factor, offset = RANGES[known]
    return np.full(channels, factor), np.full(channels, offset)


def _range_of(image: Tensor) -> str:
    """The one of `RANGES` that an input's type and quantization hold, "" where they hold none or any."""
    if image.dtype == np.uint8 and image.affine is None:
        return "0..255"
    if image.affine is None or image.dtype.itemsize != 1:
        return ""
    limits = np.iinfo(image.dtype)
    ends = [(limits.min - image.affine.zero_point) * image.affine.scale]
    ends.append((limits.max - image.affine.zero_point) * image.affine.scale)
    for name, (factor, offset) in RANGES.items():
        wanted = np.array([offset, 255 * factor + offset])
        if np.abs(ends - wanted).max() < 0.02 * np.ptp(wanted):
            return name
    return ""


def tensor_input(plan: Plan, pixels: NDArray[np.uint8]) -> NDArray[np.generic]:
    """A picture (h, w, c) uint8, BGR or gray, as the file's own input tensor."""
    ordered = pixels[..., ::-1] if plan.reversed else pixels
    values = ordered * plan.factor + plan.offset
    if plan.channels_first:
        values = values.transpose(2, 0, 1)
    if plan.image.affine is not None:
        return plan.image.affine.quantize(values, plan.image.dtype.type)[np.newaxis]
    whole = np.rint(values) if plan.image.dtype.kind in "iu" else values
    return whole[np.newaxis].astype(plan.image.dtype)
