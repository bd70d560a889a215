"""The picture of a benchmark: a row per file with its stages, on a logarithmic scale of time.

Drawn with OpenCV, which the car has; a plotting library it has not.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.base.files import atomic_file
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.bench.tables import Report
from sepilot_runtime.view.drawing import Color, text, text_width

__all__ = ["draw_chart", "write_chart"]

WIDTH, MARGIN, ROW, LABEL, MEDIAN, TOP, BOTTOM = 1280, 40, 54, 330, 90, 130, 110
PAPER: Color = (28, 24, 22)
GRID: Color = (64, 58, 54)
INK: Color = (240, 236, 232)
FAINT: Color = (160, 152, 146)
PREPROCESS: Color = (214, 160, 66)
INFER: Color = (70, 150, 240)
TOTAL: Color = (120, 200, 100)
OTHER: Color = (150, 142, 136)
FLOOR: Color = (235, 235, 235)


def write_chart(path: Path, report: Report) -> None:
    """Draw the report into a new .png file.

    Raises:
        OutputError: it cannot be written.
    """
    done, data = cv2.imencode(".png", draw_chart(report))
    if not done:
        raise OutputError(f"{path}: OpenCV cannot encode the picture")
    with atomic_file(path) as part:
        part.write_bytes(data.tobytes())


def draw_chart(report: Report) -> NDArray[np.uint8]:
    """(H, 1280, 3) BGR."""
    rows = report.results
    canvas = np.empty((TOP + ROW * len(rows) + BOTTOM, WIDTH, 3), np.uint8)
    canvas[:] = PAPER
    shown = [v for r in rows for v in (r.preprocess.p50_us, r.infer.p50_us)]
    shown += [floor for index in range(len(rows)) if (floor := report.floor_us(index))]
    scale = _Scale(max(min(shown), 0.1) / 1.3, max(r.total.p99_us for r in rows) * 1.1)
    _heading(canvas, report)
    _grid(canvas, scale, len(rows))
    for index, row in enumerate(rows):
        _marks(canvas, scale, report, index)
        y = TOP + index * ROW
        name = f"{report.names[row.path]}{f', {row.threads} threads' * (row.threads > 1)}"
        fits = (LABEL - MARGIN) / max(text_width(name, size=17, weight=600), 1)
        text(canvas, name, (MARGIN, y + 24), size=17 * min(1, fits), color=INK, weight=600)
        text(canvas, f"{row.engine}, {row.precision}", (MARGIN, y + 42), size=13, color=FAINT)
    _legend(canvas)
    return canvas


class _Scale:
    """Microseconds to columns."""

    def __init__(self, low_us: float, high_us: float) -> None:
        self.low_us, self.high_us = low_us, high_us

    def x(self, us: float) -> int:
        share = math.log(max(us, self.low_us) / self.low_us) / math.log(self.high_us / self.low_us)
        return round(LABEL + share * (WIDTH - MARGIN - MEDIAN - LABEL))

    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low_us)), math.ceil(math.log10(self.high_us)) + 1)
        values = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
        return [value for value in values if self.low_us <= value <= self.high_us]


def _heading(canvas: NDArray[np.uint8], report: Report) -> None:
    settings = report.settings
    text(canvas, "Frame in memory to angle", (MARGIN, 46), size=30, color=INK, weight=600)
    size = f"{settings['frame_width']}x{settings['frame_height']}"
    visits = f"{settings['rounds']} rounds x {settings['calls']} calls, interleaved"
    text(canvas, f"{report.before.cpu}; {size}, {visits}", (MARGIN, 74), size=16, color=FAINT)


def _grid(canvas: NDArray[np.uint8], scale: _Scale, rows: int) -> None:
    text(canvas, "median", (WIDTH - MARGIN, TOP - 16), size=14, color=FAINT, align="right")
    bottom, last = TOP + ROW * rows, -100
    for value in scale.ticks():
        x = scale.x(value)
        cv2.line(canvas, (x, TOP - 8), (x, bottom), GRID, 1)
        if x - last > 70:
            words = f"{value:g} µs" if value < 1000 else f"{value / 1000:g} ms"
            text(canvas, words, (x, TOP - 16), size=14, color=FAINT, align="middle")
            last = x


def _marks(canvas: NDArray[np.uint8], scale: _Scale, report: Report, index: int) -> None:
    """Dots, not bars: on a logarithmic scale a bar's length means nothing."""
    row, y = report.results[index], TOP + index * ROW + ROW // 2
    total = row.total
    left, right = scale.x(total.min_us), scale.x(total.p99_us)
    color = OTHER if row.reference else TOTAL
    cv2.line(canvas, (left, y), (right, y), color, 3, cv2.LINE_AA)
    cv2.line(canvas, (right, y - 7), (right, y + 7), color, 2, cv2.LINE_AA)
    if floor := report.floor_us(index):
        x = scale.x(floor)
        cv2.line(canvas, (x, y - 14), (x, y + 14), FLOOR, 2)
    for stage, radius, ink in ((row.preprocess, 6, PREPROCESS), (row.infer, 6, INFER), (total, 9, color)):
        cv2.circle(canvas, (scale.x(stage.p50_us), y), radius, ink, cv2.FILLED, cv2.LINE_AA)
    words = f"{total.p50_us:.0f} µs" if total.p50_us < 1000 else f"{total.p50_us / 1000:.1f} ms"
    text(canvas, words, (WIDTH - MARGIN, y + 6), size=16, color=INK, weight=600, align="right")


def _legend(canvas: NDArray[np.uint8]) -> None:
    y, x = canvas.shape[0] - 62, MARGIN
    for color, words in (
        (PREPROCESS, "preprocess"),
        (INFER, "infer"),
        (TOTAL, "all: median, least to 99 %"),
        (OTHER, "to compare with"),
        (FLOOR, "arithmetic floor"),
    ):
        cv2.circle(canvas, (x + 7, y - 4), 7, color, cv2.FILLED, cv2.LINE_AA)
        text(canvas, words, (x + 22, y + 2), size=15, color=INK)
        x += 50 + round(text_width(words, size=15))
    words = (
        "Logarithmic scale. Floor: the model's multiplications at the rate of a float32 matrix product on one thread."
    )
    text(canvas, words, (MARGIN, y + 32), size=13, color=FAINT)
