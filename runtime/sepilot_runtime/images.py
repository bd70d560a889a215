"""Decoding image files, with a word on each that is not whole.

OpenCV fills the missing part of a truncated JPEG with gray and carries on; a model would steer by that gray.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.caps import IMAGE_BYTES
from sepilot_runtime.errors import FrameError
from sepilot_runtime.opencv import cv2
from sepilot_runtime.reading import read_regular

__all__ = ["IMAGE_SUFFIXES", "decode_image", "natural_key", "read_image"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8 BGR.

    Raises:
        FrameError: missing, unreadable, truncated, or not an image.
    """
    try:
        data = read_regular(path, IMAGE_BYTES)
    except FileNotFoundError as e:
        raise FrameError("missing image", str(path)) from e
    except OSError as e:
        raise FrameError("unreadable image", f"{path}: {e.strerror or e}") from e
    return decode_image(data, str(path))


def decode_image(data: bytes, where: str, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    """The bytes of an image file as (H, W, 3) uint8 BGR, or as OpenCV's `flags` (IMREAD_…) say.

    Raises:
        FrameError: empty, truncated, or not an image; `where` names it.
    """
    if not data:
        raise FrameError("empty image", where)
    # Inside a scan 0xFF is followed by 0x00 or a restart marker: an end marker behind the last scan is the file's own.
    if data.startswith(_JPEG_START) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        raise FrameError("truncated image", where)
    if data.startswith(_PNG_START) and _PNG_END not in data[-64:]:
        raise FrameError("truncated image", where)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # A header that promises more than IMAGE_PIXELS: OpenCV asks before it allocates.
        image = None
    if image is None:
        raise FrameError("not an image", where)
    return image.astype(np.uint8, copy=False)


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sorts `2.jpg` before `10.jpg`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
