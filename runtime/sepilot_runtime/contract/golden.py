"""Golden frames: small frames inside a contract, with the answers that the training model gave to them."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepilot_runtime.base.caps import GOLDEN_PIXELS, GOLDEN_PNG_BYTES
from sepilot_runtime.base.errors import ContractError, FrameError

__all__ = ["Golden", "golden_frame", "golden_from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A small frame with the answer that the training model gave to it.

    Attributes:
        frame_png: the BGR frame as PNG, base64; its size is asked of its header, before anybody decodes it.
        expected: output name to its numbers, as the model gives them (before any scale).
        vectors: of each vector input, by name, what was given beside the frame.
        picture_crc32: of the picture that training made of the frame; 0 when it was not recorded. Where the picture is
            resized "linear", an OpenCV of another build may round a pixel differently, which is no fault but moves the
            answer; "exact" pictures are the same everywhere.
    """

    frame_png: str
    expected: Mapping[str, tuple[float, ...]]
    vectors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    picture_crc32: int = 0

    def __post_init__(self) -> None:
        most = -(-GOLDEN_PNG_BYTES // 3) * 4
        if len(self.frame_png) > most:
            raise ContractError(f"golden.frame_png: at most {most} characters expected, found {len(self.frame_png)}")
        height, width = _png_size(self.frame_png)
        if not 0 < height * width <= GOLDEN_PIXELS:
            raise ContractError(
                f"golden.frame_png: 1 to {GOLDEN_PIXELS} pixels expected, found {height}x{width} (height x width)"
            )

    def frame_bytes(self) -> bytes:
        """The PNG file.

        Raises:
            ContractError: `frame_png` is not base64.
        """
        try:
            return base64.b64decode(self.frame_png, validate=True)
        except (binascii.Error, ValueError) as e:
            raise ContractError("golden.frame_png: not base64") from e


def golden_from(
    frame: NDArray[np.uint8],
    expected: Mapping[str, ArrayLike],
    pixels: NDArray[np.uint8] | None = None,
    vectors: Mapping[str, ArrayLike] | None = None,
) -> Golden:
    """Pack a BGR frame (h, w, 3), its expected outputs, the mark of the picture that they were given to, and vectors.

    Args:
        expected, vectors: a number, or numbers of any shape, by the output's or input's name.
    """
    from sepilot_runtime.base.opencv import cv2

    ok, png = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not ok:
        raise ContractError("golden: the frame cannot be encoded as PNG")
    return Golden(
        frame_png=base64.b64encode(png.tobytes()).decode("ascii"),
        expected={name: _numbers(values) for name, values in expected.items()},
        vectors={name: _numbers(values) for name, values in (vectors or {}).items()},
        picture_crc32=0 if pixels is None else zlib.crc32(pixels.tobytes()),
    )


ROUNDED = 256
"""An answer of more numbers is written with five decimals, far finer than any tolerance, in a third of the bytes."""


def _numbers(values: ArrayLike) -> tuple[float, ...]:
    numbers = np.asarray(values, np.float64).reshape(-1)
    return tuple((numbers.round(5) if numbers.size > ROUNDED else numbers).tolist())


def golden_frame(golden: Golden) -> NDArray[np.uint8]:
    """The BGR frame (h, w, 3), uint8.

    Raises:
        ContractError: it does not decode.
    """
    from sepilot_runtime.base.images import decode_image

    try:
        return decode_image(golden.frame_bytes(), "golden.frame_png")
    except FrameError as e:
        raise ContractError(str(e)) from e


def _png_size(text: str) -> tuple[int, int]:
    """Height and width by the header of a PNG file in base64; what else OpenCV can decode is no golden frame."""
    try:
        head = base64.b64decode(text[:32], validate=True)
    except (binascii.Error, ValueError) as e:
        raise ContractError("golden.frame_png: not base64") from e
    if len(head) < 24 or not head.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"):
        raise ContractError("golden.frame_png: not a PNG file")
    width, height = struct.unpack(">II", head[16:24])
    return height, width
