"""What stands on every overlay: the frame on a canvas of one height, the picture that the model sees, the state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.drive.step import Step
from sepilot_runtime.source.pixel_formats import color_of
from sepilot_runtime.view import drawing
from sepilot_runtime.view.drawing import ALARM, INK, QUIET, WARNING, Canvas

__all__ = ["CANVAS_HEIGHT", "draw_seen", "draw_state", "duration", "enlarged"]

CANVAS_HEIGHT = 720


def enlarged(frame: NDArray[np.uint8], *, narrowest: int, widest: int) -> Canvas:
    """The frame on a canvas of 720 rows; very wide and very narrow ones get bars."""
    if frame.ndim == 2:
        frame = color_of(frame)
    height, width = frame.shape[:2]
    scale = min(CANVAS_HEIGHT / height, widest / width)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    # At six times the size Lanczos cannot be told from cubic, and takes 25 times as long.
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    picture = cv2.resize(frame, size, interpolation=method)
    # Video encoders want even sizes.
    canvas_width = max(narrowest, size[0] + size[0] % 2)
    if (size[1], size[0]) == (CANVAS_HEIGHT, canvas_width):
        return picture.astype(np.uint8, copy=False)
    canvas = np.zeros((CANVAS_HEIGHT, canvas_width, 3), np.uint8)
    x, y = (canvas_width - size[0]) // 2, (CANVAS_HEIGHT - size[1]) // 2
    canvas[y : y + size[1], x : x + size[0]] = picture
    return canvas


def draw_seen(canvas: Canvas, seen: NDArray[np.uint8], corner: tuple[int, int], *, left: bool = False) -> None:
    """The picture (h, w, c) that the model sees, on a card; its upper right corner, or `left` one, is at x, y."""
    height, width, channels = seen.shape
    scale = min(208 / width, 150 / height)
    size = (round(width * scale), round(height * scale))
    shown = cv2.resize(seen, size, interpolation=cv2.INTER_NEAREST)
    if channels == 1:
        shown = cv2.cvtColor(shown, cv2.COLOR_GRAY2BGR)
    kind = "gray" if channels == 1 else "colour"
    words = f"model sees {width}×{height} {kind}"
    # Of a narrow picture on the right the words are cut off with the canvas rather than the road by a wide card.
    wide = max(size[0], round(drawing.text_width(words, size=14)) + 4) if left else size[0]
    x, y = corner[0] - (0 if left else size[0]), corner[1]
    drawing.card(canvas, (x - 6, y - 6, wide + 12, size[1] + 36), radius=10, color=INK, opacity=0.62)
    canvas[y : y + size[1], x : x + size[0]] = shown
    drawing.text(canvas, words, (x + 2, y + size[1] + 20), size=14, color=QUIET)


def draw_state(canvas: Canvas, step: Step) -> None:
    """A label in the middle: the car does not get what the model says, or not all of it."""
    words = f"{step.state.value}: {step.reason}" if step.reason else step.state.value
    width = round(drawing.text_width(words, size=26, weight=650))
    x, y = (canvas.shape[1] - width) // 2, 150
    color = WARNING if step.state.answers else ALARM
    drawing.card(canvas, (x - 18, y - 32, width + 36, 48), radius=12, color=INK, opacity=0.72)
    drawing.text(canvas, words, (x, y), size=26, weight=650, color=color)


def duration(us: float) -> str:
    """Microseconds for people."""
    return f"{us:.0f} µs" if us < 1000 else f"{us / 1000:.1f} ms"
