"""Decoding image files, with a word on each that is not whole.

OpenCV fills the missing part of a JPEG with gray and carries on, and where bytes in its middle are lost the pixels
behind them are made up; a model would steer by those. What libjpeg complains about is skipped.

Seen of real frames with one place in the compressed data damaged at random: all that were cut and closed again, 99 %
with a block of 4096 zeros or a block of another file, 65 to 75 % with fewer zeros or two blocks exchanged, 15 to 35 %
with one wrong bit or byte (most of the others have fewer than one pixel in a thousand off). The rest cannot be seen: a
JPEG has no checksum, and its code finds back into step. libjpeg speaks once a picture; outside of glibc none is heard.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.caps import IMAGE_BYTES
from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.base.jpeg_warnings import with_jpeg_warnings
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.base.reading import read_regular

__all__ = ["DECODING_VERSION", "IMAGE_SUFFIXES", "decode_image", "natural_key", "read_image"]

DECODING_VERSION = 2
"""Counts up when other files are skipped than before: what was decoded and kept is decoded again."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm"})

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"

_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_RESTARTS, _END = range(0xD0, 0xD8), 0xD9
MOST_PADDING_BYTES = 16
"""Webcams (Logitech C270, C910) put up to nine bytes in front of the restart markers of whole frames."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8 BGR.

    Raises:
        FrameError: missing, unreadable, truncated, damaged, or not an image.
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
        FrameError: empty, truncated, damaged, or not an image; `where` names it.
    """
    if not data:
        raise FrameError("empty image", where)
    # Inside a scan 0xFF is followed by 0x00 or a restart marker: an end marker behind the last scan is the file's own.
    if data.startswith(_JPEG_START) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        raise FrameError("truncated image", where)
    if data.startswith(_PNG_START) and _PNG_END not in data[-64:]:
        raise FrameError("truncated image", where)
    try:
        image, warning = with_jpeg_warnings(lambda: cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    except cv2.error:  # A header that promises more than IMAGE_PIXELS: OpenCV asks before it allocates.
        image, warning = None, ""
    if image is None:
        raise FrameError("not an image", where)
    if warning and not _harmless(warning):
        raise FrameError("damaged image", f"{where}: {warning}")
    return image.astype(np.uint8, copy=False)


def _harmless(warning: str) -> bool:
    """Bytes too many in front of a header, which no pixel is made of, or the padding of a camera."""
    if not (match := _EXTRANEOUS.match(warning)):
        return False
    count, marker = int(match[1]), int(match[2], 16)
    return marker != _END and (marker not in _RESTARTS or count <= MOST_PADDING_BYTES)


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sorts `2.jpg` before `10.jpg`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
