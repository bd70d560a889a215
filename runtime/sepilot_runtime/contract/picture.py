"""What a model sees, and how it gets it: the parts of the contract that preprocessing goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from sepilot_runtime.base.caps import FRAME_PIXELS, PICTURE_PIXELS, SIDE_PIXELS
from sepilot_runtime.base.errors import ContractError

__all__ = ["FrameInput", "Picture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What the model sees: frame -> crop -> bilinear resize -> gray (or not) -> value range.

    Attributes:
        name: the model's input tensor.
        height, width: of the picture in pixels.
        color: "gray" (one channel, BT.601 luma) or "bgr" (three).
        crop_top, crop_bottom, crop_left, crop_right: fractions of the frame that are cut off, each in [0, 1).
        fit: "stretch" the crop to the picture, or "letterbox": as large as it fits in with its proportions kept, in the
            middle, with gray bars (114 of 255) on two sides.
        source: colour order of the frames that come in; OpenCV's.
        resize: of the cropped frame, bilinear either way. "exact": between positions in 32nds of a pixel, in whole
            numbers: the same bytes on every processor and OpenCV. "linear": OpenCV's INTER_LINEAR, which its builds
            round differently by a gray level; what files from before there was a choice have.
        scale, offset: the float input is `uint8 * scale + offset`; the int8 input is the same number quantized with
            scale 1/255 and zero point -128, which is exact: `uint8 - 128`.
        layout: of the input tensor; the batch is always 1.
    """

    kind: ClassVar[Literal["picture"]] = "picture"

    height: int
    width: int
    color: Literal["gray", "bgr"] = "gray"
    crop_top: float = 0.0
    crop_bottom: float = 0.0
    crop_left: float = 0.0
    crop_right: float = 0.0
    name: str = "image"
    source: Literal["bgr"] = "bgr"
    resize: Literal["exact", "linear"] = "exact"
    scale: float = 1.0 / 255.0
    offset: float = 0.0
    layout: Literal["NHWC"] = "NHWC"
    fit: Literal["stretch", "letterbox"] = "stretch"

    def __post_init__(self) -> None:
        _require_size("picture", self.height, self.width, PICTURE_PIXELS)
        for name in ("crop_top", "crop_bottom", "crop_left", "crop_right"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ContractError(f"picture.{name}: must be in [0, 1), found {getattr(self, name)}")
        if self.crop_top + self.crop_bottom >= 1.0 or self.crop_left + self.crop_right >= 1.0:
            raise ContractError("picture: the crop leaves nothing of the frame")
        if not (math.isclose(self.scale, 1.0 / 255.0, rel_tol=1e-9) and self.offset == 0.0):
            raise ContractError(
                f"picture: value range must be scale 1/255 and offset 0, found {self.scale} and {self.offset}"
            )

    @property
    def channels(self) -> int:
        return 1 if self.color == "gray" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameInput:
    """The input of a file that makes the picture by itself: a camera frame of one size.

    Attributes:
        height, width: of the frame in pixels.
        name: the model's input tensor, uint8 (1, height, width, 3).
        source, layout: as in `Picture`.
    """

    height: int
    width: int
    name: str = "frame"
    source: Literal["bgr"] = "bgr"
    layout: Literal["NHWC"] = "NHWC"

    def __post_init__(self) -> None:
        _require_size("frame", self.height, self.width, FRAME_PIXELS)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3)."""
        return self.height, self.width, 3


def _require_size(what: str, height: int, width: int, most: int) -> None:
    if not (1 <= height <= SIDE_PIXELS and 1 <= width <= SIDE_PIXELS and height * width <= most):
        raise ContractError(
            f"{what}: height and width of 1 to {SIDE_PIXELS}, {most} pixels at most, expected, found {height}x{width}"
        )
