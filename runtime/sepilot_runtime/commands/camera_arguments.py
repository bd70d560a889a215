"""Flags that say what to ask a camera for."""

from __future__ import annotations

import argparse

from sepilot_runtime.commands.arguments import Part, number
from sepilot_runtime.source.camera_request import CameraRequest, PixelFormat

__all__ = ["CAMERA", "add_camera_arguments", "camera_request"]


def add_camera_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --camera-size, --camera-rate-hz and --camera-format, which `camera_request` reads."""
    group = parser.add_argument_group("camera", "what to ask it for; the start line says what it gives")
    group.add_argument("--camera-size", type=_size, metavar="WxH", help="for example 640x480 (default: the driver's)")
    group.add_argument(
        "--camera-rate-hz",
        type=number(0, 1000, " Hz", above=True),
        metavar="HZ",
        help="frames per second (default: the driver's)",
    )
    group.add_argument(
        "--camera-format",
        type=PixelFormat,
        choices=list(PixelFormat),
        default=PixelFormat.AUTO,
        metavar="FORMAT",
        help="auto, nv12, grey, yuyv or mjpg; auto takes the cheapest that is fast enough (default)",
    )


def camera_request(arguments: argparse.Namespace) -> CameraRequest:
    """The request that the flags of `add_camera_arguments` make, for whole frames in colour."""
    width, height = arguments.camera_size or (0, 0)
    rate_hz = arguments.camera_rate_hz or 0.0
    return CameraRequest(width=width, height=height, rate_hz=rate_hz, format=arguments.camera_format)


def _size(text: str) -> tuple[int, int]:
    width, found, height = text.lower().partition("x")
    numbers = found and width.isdecimal() and height.isdecimal()
    if not numbers or not (1 <= int(width) <= 8192 and 1 <= int(height) <= 8192):
        raise argparse.ArgumentTypeError(f"WIDTHxHEIGHT in pixels expected, such as 640x480, found {text!r}")
    return int(width), int(height)


CAMERA: Part = (add_camera_arguments, camera_request)
