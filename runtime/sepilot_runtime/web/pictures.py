"""The newest frame as JPEG: made when somebody asks, once for all who ask, and not too often."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.opencv import cv2
from sepilot_runtime.pixel_formats import color_of
from sepilot_runtime.sinks import Step
from sepilot_runtime.web.feed import WebSink

__all__ = ["Pictures", "Shot"]

MOST_PER_S = 12.0
WIDEST = 640
JPEG_QUALITY = 72


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """A frame as the page shows it. `number` counts the frames; `jpeg` is None where it is no picture."""

    number: int
    step: Step
    jpeg: bytes | None


class Pictures:
    """Encodes at most `MOST_PER_S` frames per second. For one thread."""

    def __init__(self, sink: WebSink, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._sink, self._clock_ns = sink, clock_ns
        self._shot: Shot | None = None
        self._due_ns = 0

    def newest(self) -> Shot | None:
        """The newest that may be shown by now; None before the first frame."""
        seen, now_ns = self._sink.seen, self._clock_ns()
        if seen is None or (self._shot is not None and (seen[0] == self._shot.number or now_ns < self._due_ns)):
            return self._shot
        number, step = seen
        assert step.frame is not None
        self._due_ns = now_ns + round(1e9 / MOST_PER_S)
        self._shot = Shot(number=number, step=step, jpeg=_jpeg_of(step.frame.image))
        return self._shot


def _jpeg_of(image: NDArray[np.uint8]) -> bytes | None:
    """None for a frame of a shape that no camera should send."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        return None
    image = color_of(image)
    height, width = image.shape[:2]
    if width > WIDEST:
        size = (WIDEST, max(1, round(height * WIDEST / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes() if done else None
