"""Anti-aliased text and translucent shapes on BGR canvases, in place, and the colours (BGR) of everything drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2

__all__ = [
    "ALARM",
    "INK",
    "LEFT_COLOR",
    "MODEL_COLOR",
    "PAPER",
    "QUIET",
    "RECORDED_COLOR",
    "RIGHT_COLOR",
    "SECOND_COLOR",
    "SOFT",
    "WARNING",
    "WHITE",
    "Canvas",
    "Color",
    "blend",
    "card",
    "paste",
    "polyline",
    "sprite_layers",
    "text",
    "text_width",
]

Canvas = NDArray[np.uint8]
Color = tuple[int, int, int]

PAPER = INK = (26, 20, 16)
WHITE, SOFT, QUIET = (255, 255, 255), (226, 222, 218), (176, 170, 164)
"""Words, from loud to quiet."""

MODEL_COLOR, SECOND_COLOR, RECORDED_COLOR = (60, 176, 255), (240, 190, 40), (242, 242, 242)
"""Who says something: the model or file A, file B, the driver."""

LEFT_COLOR, RIGHT_COLOR = (255, 140, 50), (40, 140, 255)
WARNING, ALARM = (60, 200, 255), (90, 90, 255)

SUBPIXEL_BITS = 4
"""Fractional bits of the coordinates given to OpenCV."""

# OpenCV 5 brings a proportional TrueType face; before, there are only the stroke fonts and ASCII.
_FACES: dict[str, Any] = {"sans": cv2.FontFace("sans")} if hasattr(cv2, "FontFace") else {}
_ASCII = str.maketrans({"°": "", "µ": "u", "·": "-", "×": "x", "−": "-"})


def text(
    canvas: Canvas,
    words: str,
    at: tuple[float, float],
    *,
    size: float,
    color: Color = WHITE,
    weight: int = 400,
    align: str = "left",
) -> None:
    """Write `words` with a soft shadow.

    Args:
        at: x and y of the baseline; x is the left end, middle or right end by `align`.
        size: height in pixels, about 1.4 times that of a capital.
        weight: 400 is regular, 600 semibold.
    """
    shift = {"left": 0.0, "middle": 0.5, "right": 1.0}[align]
    x, y = round(at[0] - shift * text_width(words, size=size, weight=weight)), round(at[1])
    offset = max(1, round(size / 22))
    for dx, ink in ((offset, (12, 10, 8)), (0, color)):
        if _FACES:
            cv2.putText(canvas, words, (x + dx, y + dx), ink, _FACES["sans"], round(size), weight)
        else:
            scale, stroke = size / 30, 2 if weight >= 600 else 1
            cv2.putText(
                canvas,
                words.translate(_ASCII),
                (x + dx, y + dx),
                cv2.FONT_HERSHEY_SIMPLEX,
                scale,
                ink,
                stroke,
                cv2.LINE_AA,
            )


def text_width(words: str, *, size: float, weight: int = 400) -> float:
    """Pixels that `text` takes."""
    if _FACES:
        # The rectangle covers the ink; spaces at the ends count for nothing.
        return float(cv2.getTextSize((0, 0), words, (0, 0), _FACES["sans"], round(size), weight)[2])
    (width, _), _ = cv2.getTextSize(words.translate(_ASCII), cv2.FONT_HERSHEY_SIMPLEX, size / 30, 1)
    return float(width)


def blend(canvas: Canvas, color: Color, mask: NDArray[np.uint8]) -> None:
    """Paint `color` onto a part of a canvas (h, w, 3) through `mask` (h, w); 255 covers fully."""
    paint = np.empty_like(canvas)
    paint[:] = color
    _mix(canvas, paint, mask)


def paste(canvas: Canvas, picture: Canvas, mask: NDArray[np.uint8], at: tuple[int, int]) -> None:
    """Lay `picture` (h, w, 3) onto a canvas through `mask` (h, w), its upper left corner at x, y; all of it inside."""
    x, y = at
    height, width = mask.shape
    _mix(canvas[y : y + height, x : x + width], picture, mask)


def _mix(region: Canvas, paint: Canvas, mask: NDArray[np.uint8]) -> None:
    # OpenCV's saturating arithmetic takes a twentieth of the time of numpy's here.
    cover = cv2.merge([mask, mask, mask])
    rest = cv2.multiply(region, cv2.bitwise_not(cover), scale=1 / 255)
    region[:] = cv2.add(rest, cv2.multiply(paint, cover, scale=1 / 255))


def card(canvas: Canvas, box: tuple[int, int, int, int], *, radius: int, color: Color, opacity: float) -> None:
    """A translucent rectangle with round corners; `box` is x, y, width, height."""
    x, y, width, height = box
    mask = np.zeros((height, width), np.uint8)
    ink = round(255 * opacity)
    cv2.rectangle(mask, (radius, 0), (width - radius - 1, height - 1), ink, cv2.FILLED)
    cv2.rectangle(mask, (0, radius), (width - 1, height - radius - 1), ink, cv2.FILLED)
    for corner in (
        (radius, radius),
        (width - radius - 1, radius),
        (radius, height - radius - 1),
        (width - radius - 1, height - radius - 1),
    ):
        cv2.circle(mask, corner, radius, ink, cv2.FILLED, cv2.LINE_AA)
    blend(canvas[y : y + height, x : x + width], color, mask)


def polyline(
    canvas: NDArray[np.uint8],
    points: NDArray[np.floating] | Sequence[tuple[float, float]],
    color: Color | int,
    *,
    thickness: int = 1,
    closed: bool = False,
    filled: bool = False,
) -> None:
    """Lines through `points` (n, 2) of x, y in fractions of a pixel, or the area that they enclose."""
    fixed = np.rint(np.asarray(points, np.float64) * (1 << SUBPIXEL_BITS))
    fixed = np.clip(fixed, -(1 << 28), 1 << 28).astype(np.int32)
    if filled:
        cv2.fillPoly(canvas, [fixed], color, cv2.LINE_AA, SUBPIXEL_BITS)
    else:
        cv2.polylines(canvas, [fixed], closed, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def sprite_layers(size: int, oversampling: int = 4) -> tuple[Canvas, NDArray[np.uint8]]:
    """Empty picture and mask to draw a sprite on, `oversampling` times as large; shrink both with INTER_AREA."""
    side = size * oversampling
    return np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
