"""What to ask a camera for, and the flags of the command line that say so.

Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sepilot_runtime.contract.picture import Picture

__all__ = ["CameraRequest", "PixelFormat", "add_camera_arguments", "camera_request"]


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


def add_camera_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --camera-size, --camera-rate-hz and --camera-format, which `camera_request` reads."""
    group = parser.add_argument_group("camera", "what to ask it for; the start line says what it gives")
    group.add_argument("--camera-size", type=_size, metavar="WxH", help="for example 640x480 (default: the driver's)")
    group.add_argument("--camera-rate-hz", type=_rate, metavar="HZ", help="frames per second (default: the driver's)")
    group.add_argument(
        "--camera-format",
        type=PixelFormat,
        choices=list(PixelFormat),
        default=PixelFormat.AUTO,
        metavar="FORMAT",
        help="auto, nv12, grey, yuyv or mjpg; auto takes the cheapest that is fast enough (default)",
    )


def camera_request(arguments: argparse.Namespace, picture: Picture | None = None) -> CameraRequest:
    """The request that the flags of `add_camera_arguments` make.

    Args:
        picture: see `CameraRequest`; None where frames are recorded or shown as well.
    """
    width, height = arguments.camera_size or (0, 0)
    return CameraRequest(
        width=width,
        height=height,
        rate_hz=arguments.camera_rate_hz or 0.0,
        format=arguments.camera_format,
        picture=picture,
    )


def _size(text: str) -> tuple[int, int]:
    width, found, height = text.lower().partition("x")
    numbers = found and width.isdecimal() and height.isdecimal()
    if not numbers or not (1 <= int(width) <= 8192 and 1 <= int(height) <= 8192):
        raise argparse.ArgumentTypeError(f"WIDTHxHEIGHT in pixels expected, such as 640x480, found {text!r}")
    return int(width), int(height)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"a rate between 0 and 1000 Hz expected, found {text!r}")
    return value
