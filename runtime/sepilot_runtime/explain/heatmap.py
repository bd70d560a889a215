"""Saliency drawn onto frames: blue for what turns left (or lowers), orange for what turns right, on a frame without
colours.

What is cut off before the model sees the frame is dark.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.kinds import Output, task_of
from sepilot_runtime.contract.outputs.units import mark_of
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.contract.window import crop_box
from sepilot_runtime.explain.saliency import Influence, Saliency
from sepilot_runtime.source.labels import recorded_value
from sepilot_runtime.source.protocol import Frame
from sepilot_runtime.view import contact_sheet, drawing
from sepilot_runtime.view.drawing import LEFT_COLOR, QUIET, RECORDED_COLOR, RIGHT_COLOR, SOFT, Canvas

__all__ = ["LEFT_COLOR", "RIGHT_COLOR", "answer_words", "draw_legend", "influence_tile", "painted", "scale_of"]


STRONGEST = 0.85
"""Cover of the largest influence; the frame stays visible below."""

SOFTENING = 0.015
"""In widths of the picture."""

CUT_OFF_LIGHT = 0.35
LEAST_SCALE = 10
"""In the output's finest differences: 0.1 degrees."""


def scale_of(maps: Sequence[NDArray[np.float32]], output: Output) -> float:
    """What the ends of the colour scale mean: what one pixel in a hundred of these maps exceeds, rounded up to a
    number that is easily read."""
    strongest = max(float(np.percentile(np.abs(np.stack(maps)), 99)), LEAST_SCALE * output.fine)
    steps = [step * 10.0**power for power in range(-4, 5) for step in (1, 1.5, 2, 3, 4, 5, 6, 8)]
    return next((step for step in steps if step >= strongest - 1e-9), strongest)


def painted(frame: NDArray[np.uint8], moved: NDArray[np.float32], picture: Picture, scale: float) -> Canvas:
    """The frame (H, W, 3) uint8 BGR with the map on it, where the crop of the model lies.

    Args:
        moved: (h, w) signed, of the model's picture.
        scale: gets the full colour.
    """
    gray = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    canvas = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)
    top, bottom, left, right = crop_box(canvas.shape[0], canvas.shape[1], picture)
    kept = canvas[top:bottom, left:right].copy()
    canvas = np.asarray(cv2.convertScaleAbs(canvas, alpha=CUT_OFF_LIGHT), np.uint8)
    region = canvas[top:bottom, left:right]
    region[:] = kept
    # The steps of the patch say nothing; softened, the eye does not follow them.
    soft = cv2.GaussianBlur(moved, (0, 0), max(0.5, SOFTENING * moved.shape[1]), borderType=cv2.BORDER_REPLICATE)
    heat = cv2.resize(soft, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR) / scale
    for color, side in ((LEFT_COLOR, -heat), (RIGHT_COLOR, heat)):
        drawing.blend(region, color, (np.clip(side, 0, 1) * (255 * STRONGEST)).astype(np.uint8))
    return canvas


def draw_legend(canvas: Canvas, at: tuple[int, int], scale: float, output: Output, *, width: int = 220) -> None:
    """The colour scale with its ends; `at` is the left end of the bar's upper edge, which is 14 pixels high."""
    x, y = at
    bar = canvas[y : y + 14, x : x + width]
    bar[:] = (128, 128, 128)
    heat = np.broadcast_to(np.linspace(-1, 1, width, dtype=np.float32), (14, width))
    for color, side in ((LEFT_COLOR, -heat), (RIGHT_COLOR, heat)):
        drawing.blend(bar, color, (np.clip(side, 0, 1) * (255 * STRONGEST)).astype(np.uint8))
    low, high = (f"{scale:g}{mark_of(output)} {end}" for end in task_of(output).ends)
    drawing.text(canvas, low, (x, y + 34), size=15, color=SOFT)
    drawing.text(canvas, "0", (x + width / 2, y + 34), size=15, color=SOFT, align="middle")
    drawing.text(canvas, high, (x + width, y + 34), size=15, color=SOFT, align="right")


def answer_words(saliency: Saliency, frame: Frame) -> list[contact_sheet.Words]:
    """What the model says to the frame, and what was recorded."""
    output, task = saliency.output, task_of(saliency.output)
    prediction, label = saliency.prediction, recorded_value(frame, output)
    says = f"{output.name}: {task.words(prediction.values[output.name])}"
    words = [(says, RIGHT_COLOR if saliency.reading > 0 else LEFT_COLOR)]
    if label is not None:
        told = label if isinstance(label, str) else task.words(label)
        words.append((f"recorded {told}", RECORDED_COLOR))
    return words


def influence_tile(frame: NDArray[np.uint8], influence: Influence, picture: Picture) -> Canvas:
    """The mean map over many frames, brightest where most of the answer comes from, with the sums of its rows on the
    right and of its columns below."""
    tile = contact_sheet.fitted(frame)
    canvas = np.asarray(cv2.convertScaleAbs(cv2.cvtColor(tile, cv2.COLOR_BGR2GRAY), alpha=0.3), np.uint8)
    canvas = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR), np.uint8)
    top, bottom, left, right = crop_box(canvas.shape[0], canvas.shape[1], picture)
    largest = float(influence.moved.max()) or 1.0
    heat = cv2.resize(influence.moved, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR) / largest
    warm = cv2.applyColorMap((np.clip(heat, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    canvas[top:bottom, left:right] = cv2.addWeighted(warm, 0.85, canvas[top:bottom, left:right], 0.5, 0)
    for axis, size, across in ((1, bottom - top, right - left), (0, right - left, bottom - top)):
        sums = influence.moved.sum(axis=axis)
        lengths = np.interp(np.linspace(0, len(sums) - 1, size), np.arange(len(sums)), sums) / (float(sums.max()) or 1)
        depth = 0.22 * across * lengths
        along = np.arange(size, dtype=np.float64)
        points = (
            np.stack([right - 1 - depth, top + along], axis=1)
            if axis == 1
            else np.stack([left + along, bottom - 1 - depth], axis=1)
        )
        drawing.polyline(canvas, points, QUIET if axis == 0 else SOFT, thickness=2)
    return canvas
