"""What to ask a camera for. Nothing heavy is imported here, so that `--help` answers at once."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sepilot_runtime.contract.picture import Picture

__all__ = ["CameraRequest", "PixelFormat"]


class PixelFormat(enum.StrEnum):
    """How a camera sends its pixels, by the names of Video4Linux.

    NV12, YUYV and GREY hold the luma as it is; MJPG is compressed, which costs decoding time and lets large frames
    through USB 2.
    """

    AUTO = "auto"
    NV12 = "nv12"
    GREY = "grey"
    YUYV = "yuyv"
    MJPG = "mjpg"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraRequest:
    """A wish; the camera's driver decides. What it decided is in the source's `info`.

    Attributes:
        width, height: in pixels; 0 leaves the driver's own.
        rate_hz: frames per second; 0 leaves the driver's own.
        format: AUTO takes the one that costs least among those that reach size and rate.
        picture: the only thing that frames will be used for, so that a gray picture is made of luma alone and a JPEG is
            decoded no larger than it takes; None for whole frames in colour, as people and recordings want them.
    """

    width: int = 0
    height: int = 0
    rate_hz: float = 0.0
    format: PixelFormat = PixelFormat.AUTO
    picture: Picture | None = None
