"""The size by a file's header is that of what is decoded, or points and boxes would lie elsewhere."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.base.image_size import image_size
from sepilot_runtime.base.images import IMAGE_SUFFIXES, read_image

PICTURE = np.random.default_rng(0).integers(0, 255, (10, 20, 3), np.uint8)


def exif(orientation: int, order: str) -> bytes:
    """TIFF data of two entries, the second of which is the orientation."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2)
    entries = ((0x10F, 2, 1, 0), (0x112, 3, 1, orientation))
    return head + b"".join(struct.pack(f"{order}HHIHH", *entry, 0) for entry in entries) + struct.pack(f"{order}I", 0)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_format(suffix: str, tmp_path: Path) -> None:
    for name, picture in (("colour", PICTURE), ("gray", PICTURE[..., 0])):
        if (suffix, name) in ((".pgm", "colour"), (".ppm", "gray")):
            continue
        path = tmp_path / f"{name}{suffix}"
        cv2.imwrite(str(path), picture)
        assert image_size(path) == (10, 20) == read_image(path).shape[:2]


@pytest.mark.parametrize("order", "<>")
def test_a_camera_held_upright(order: str, tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    for orientation in range(10):
        block = b"Exif\0\0" + exif(orientation, order)
        path = tmp_path / f"{orientation}.jpg"
        path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])
        assert image_size(path) == read_image(path).shape[:2]
    assert image_size(tmp_path / "6.jpg") == (20, 10)
    png = cv2.imencode(".png", PICTURE)[1].tobytes()
    chunk = b"eXIf" + exif(6, order)
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path = tmp_path / "turned.png"
    path.write_bytes(png[:33] + chunk + png[33:])
    assert image_size(path) == read_image(path).shape[:2]


def test_what_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="missing image"):
        image_size(tmp_path / "a.png")
    for content in (b"", b"hello", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\xff\xd8\xff\xe1\x00\x00", b"\x89PNG\r\n"):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(FrameError):
            image_size(tmp_path / "a.png")
