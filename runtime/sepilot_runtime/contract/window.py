"""Which part of a frame a picture shows."""

from __future__ import annotations

from sepilot_runtime.contract.outputs.protocol import Window
from sepilot_runtime.contract.picture import Picture

__all__ = ["BARS", "crop_box", "inside_box", "window_of"]


def crop_box(frame_height: int, frame_width: int, picture: Picture) -> tuple[int, int, int, int]:
    """Rows and columns that are kept: (top, bottom, left, right), half open, never empty.

    Fractions are rounded to the nearest pixel, halves up, by integer arithmetic on the result: the same everywhere.
    """
    top = min(int(frame_height * picture.crop_top + 0.5), frame_height - 1)
    bottom = max(frame_height - int(frame_height * picture.crop_bottom + 0.5), top + 1)
    left = min(int(frame_width * picture.crop_left + 0.5), frame_width - 1)
    right = max(frame_width - int(frame_width * picture.crop_right + 0.5), left + 1)
    return top, bottom, left, right


BARS = 114
"""Gray level of the bars of a letterbox, as most detectors are trained with."""


def window_of(frame_height: int, frame_width: int, picture: Picture) -> Window:
    """Which part of a frame a picture shows; with a letterbox it reaches beyond the frame."""
    top, bottom, left, right = crop_box(frame_height, frame_width, picture)
    if picture.fit == "stretch":
        return float(left), float(top), float(right - left), float(bottom - top)
    height, width = inside_box(bottom - top, right - left, picture)
    down, along = (bottom - top) / height, (right - left) / width
    return (
        left - (picture.width - width) // 2 * along,
        top - (picture.height - height) // 2 * down,
        picture.width * along,
        picture.height * down,
    )


def inside_box(crop_height: int, crop_width: int, picture: Picture) -> tuple[int, int]:
    """(height, width) in pixels of the picture that a letterbox leaves to the crop."""
    share = min(picture.height / crop_height, picture.width / crop_width)
    return max(1, round(crop_height * share)), max(1, round(crop_width * share))
