"""Pictures of frames that are the same everywhere, as checksums. Run as a program it prints them as JSON."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.preprocess import LimitedLuma, Preprocessor

SIZES = [(480, 640), (240, 320), (120, 160), (541, 963), (121, 163), (30, 40), (3, 5), (1, 1)]
PICTURES = [
    (64, 96, (0.25, 0.0, 0.0, 0.0)),
    (66, 200, (0.0, 0.1, 0.0, 0.0)),
    (60, 80, (0.0, 0.0, 0.07, 0.2)),
    (37, 41, (0.3, 0.1, 0.1, 0.1)),
    (331, 400, (0.0, 0.0, 0.0, 0.0)),
]
"""Height, width and crop (top, bottom, left, right)."""


def noise(height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3): sharp on the left, smooth on the right, by whole-number arithmetic alone."""
    number = np.arange(height * width * 3, dtype=np.uint32) * np.uint32(2654435761)
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        number = (number ^ (number >> np.uint32(shift))) * np.uint32(factor)
    frame = (number >> np.uint32(24)).astype(np.uint8).reshape(height, width, 3)
    smooth = frame[:: max(height // 8, 1), :: max(width // 8, 1)].repeat(-(-height // 8), 0).repeat(-(-width // 8), 1)
    half = width // 2
    frame[:, half:] = smooth[:height, half:width] // 2 + frame[:, half:] // 16
    return frame


def frames(height: int, width: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Kind and frame, as cameras and decoders give them."""
    colour = noise(height, width)
    yield "bgr", colour
    yield "gray", np.ascontiguousarray(colour[:, :, 1])
    yield "nv12", np.ascontiguousarray(colour[:, :, 2]).view(LimitedLuma)
    yield "yuyv", np.ascontiguousarray(colour[:, :, :2]).view(LimitedLuma)[:, :, 0]


def checksums(resize: Literal["exact", "linear"]) -> dict[str, int]:
    """CRC-32 over the pictures of all sizes, by kind of frame and colour of picture."""
    found: dict[str, int] = {}
    for height, width, (top, bottom, left, right) in PICTURES:
        for color in ("gray", "bgr"):
            picture = Picture(
                height=height, width=width, color=color, resize=resize,
                crop_top=top, crop_bottom=bottom, crop_left=left, crop_right=right,
            )  # fmt: skip
            preprocessor = Preprocessor(picture)
            for size in SIZES:
                for kind, frame in frames(*size):
                    if frame.ndim == 3 or color == "gray":
                        name = f"{kind} to {color}"
                        found[name] = zlib.crc32(preprocessor.picture_of(frame).tobytes(), found.get(name, 0))
    return found


if __name__ == "__main__":
    print(json.dumps({resize: checksums(resize) for resize in ("exact", "linear")}))
