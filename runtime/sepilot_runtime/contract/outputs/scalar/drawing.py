"""A number as people see it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.protocol import Box, Color
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.contract.outputs.units import amount

__all__ = ["draw_gauge", "words"]

GROOVE: Color = (96, 90, 84)
MARK: Color = (242, 242, 242)


def words(number: float, output: Scalar) -> str:
    """A number in the output's unit, with its side where it has one: "3.2° right"."""
    if output.positive != "right":
        return amount(number, output)
    if abs(number) < 5 * output.fine:
        return "straight"
    return f"{amount(abs(number), output, 1)} {'right' if number > 0 else 'left'}"


def draw_gauge(
    canvas: NDArray[np.uint8], value: float, output: Scalar, box: Box, color: Color, recorded: float | None
) -> None:
    """A bar from 0, or from the end that is nearest to it, to the value; a mark where the recording is."""
    x, y, width, height = box

    def column(number: float) -> int:
        share = (number - output.low) / (output.high - output.low)
        return x + round(float(np.clip(share, 0, 1)) * width)

    middle = y + height // 2
    cv2.line(canvas, (x, middle), (x + width, middle), GROOVE, 2, cv2.LINE_AA)
    ends = sorted((column(0.0), column(value)))
    cv2.rectangle(canvas, (ends[0], y), (max(ends[1], ends[0] + 1), y + height), color, cv2.FILLED)
    if recorded is not None:
        at = column(recorded)
        cv2.line(canvas, (at, y - 3), (at, y + height + 3), MARK, 3)
