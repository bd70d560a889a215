"""The size of an image file by its header, as `read_image` would give it: turned where its EXIF data say so."""

from __future__ import annotations

import re
import struct
from io import BufferedReader
from pathlib import Path

from sepilot_runtime.base.caps import IMAGE_BYTES
from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.base.images import read_image
from sepilot_runtime.base.reading import open_regular

__all__ = ["image_size"]

HEAD_BYTES = 1 << 16

_NETPBM = re.compile(rb"P[2356]\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)\s")

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}
"""Markers that hold a size, and those that nothing belongs to."""

_ORIENTATION = 0x112
_TURNED = frozenset(range(5, 9))
"""Orientations by which rows become columns."""


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels of what `read_image` gives; a picture that is damaged behind its header has one, too.

    Raises:
        FrameError: missing, unreadable, or not an image.
    """
    try:
        with open_regular(path, IMAGE_BYTES) as file:
            head = file.read(HEAD_BYTES)
            size = _jpeg(file) if head.startswith(b"\xff\xd8") else _other(head)
    except FileNotFoundError as e:
        raise FrameError("missing image", str(path)) from e
    except OSError as e:
        raise FrameError("unreadable image", f"{path}: {e.strerror or e}") from e
    if size is None or not all(size):
        height, width = read_image(path).shape[:2]
        return height, width
    return size


def _other(head: bytes) -> tuple[int, int] | None:
    """Of a PNG, BMP or PNM file; None for what only decoding tells."""
    if head.startswith(b"\x89PNG") and len(head) >= 24 and b"eXIf" not in head:
        width, height = struct.unpack(">II", head[16:24])
        return height, width
    if head.startswith(b"BM") and len(head) >= 26 and head[14] >= 40:
        width, height = struct.unpack("<ii", head[18:26])
        return abs(height), width  # A negative height: rows from the top.
    if found := _NETPBM.match(head):
        return int(found[2]), int(found[1])
    return None


def _jpeg(file: BufferedReader) -> tuple[int, int] | None:
    file.seek(2)
    turned = False
    while len(start := file.read(2)) == 2 and start[0] == 0xFF:
        marker = start[1]
        if marker == 0xFF:  # Padding before a marker.
            file.seek(-1, 1)
            continue
        if marker in _JPEG_BARE:
            continue
        length = int.from_bytes(file.read(2), "big")
        if marker in _JPEG_SIZES:
            block = file.read(5)
            if len(block) < 5:
                return None
            height, width = struct.unpack(">HH", block[1:])
            return (width, height) if turned else (height, width)
        if length < 2 or marker == 0xDA:
            return None
        block = file.read(length - 2)
        if marker == 0xE1 and block.startswith(b"Exif\0\0"):
            turned = _orientation(block[6:]) in _TURNED
    return None


def _orientation(tiff: bytes) -> int:
    """Of EXIF data; 1, upright, where they do not say."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:
        pass
    return 1
