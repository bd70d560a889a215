"""The overlay of a model that does not steer: its answers beside what the camera sees, and the places in it.

The frame stays free of words. What is said stands in a panel on its right, a card for each output: the answer, how sure
it is, what it could be as well and what was recorded. Boxes and points are drawn into the frame.
"""

from __future__ import annotations

import numpy as np

from sepilot_runtime.base.latency import RollingLatency
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.window import window_of
from sepilot_runtime.drive.said import Said, said_of
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.pilot import Pilot, Prediction
from sepilot_runtime.source.labels import label_of
from sepilot_runtime.source.protocol import Frame
from sepilot_runtime.view import drawing
from sepilot_runtime.view.drawing import ALARM, INK, MODEL_COLOR, QUIET, RECORDED_COLOR, SOFT, Canvas
from sepilot_runtime.view.stage import CANVAS_HEIGHT, draw_seen, draw_state, duration, enlarged

__all__ = ["ShownOverlay"]

PANEL, MARGIN = 400, 28
NARROWEST, WIDEST = 480, 1200
"""Of the frame's part of the canvas."""

GROUND = (38, 31, 26)
GROOVE = (84, 76, 70)
CARD_TOP, CARD_GAP = 352, 14
ROW = 26
MOST_RIVALS = 2


class ShownOverlay:
    """Draws one step after the other."""

    def __init__(self, pilot: Pilot, *, title: str) -> None:
        """
        Args:
            title: the model's name.
        """
        self._pilot = pilot
        self._title = title
        threads = f"{pilot.engine.threads} thread{'s' if pilot.engine.threads > 1 else ''}"
        self._subtitle = f"{pilot.contract.provenance.precision} · {pilot.engine.name} · {threads}"
        self._tasks = [task_of(output) for output in pilot.contract.outputs]
        self._latency = RollingLatency()

    def draw(self, step: Step) -> Canvas:
        """The canvas for a step with frame and prediction: (720, width, 3) uint8 BGR; its width follows the frame's."""
        frame, prediction = step.frame, step.prediction
        if frame is None or prediction is None:
            raise ValueError("a step with a frame and a prediction expected")
        self._latency.add(step.total_us)
        view = enlarged(frame.image, narrowest=NARROWEST, widest=WIDEST)
        self._draw_places(view, frame, prediction)
        if not step.state.well:
            draw_state(view, step)
        panel = np.empty((CANVAS_HEIGHT, PANEL, 3), np.uint8)
        panel[:] = GROUND
        self._draw_head(panel, frame)
        draw_seen(panel, self._pilot.picture_of(frame.image), (MARGIN - 2, 156), left=True)
        top = CARD_TOP
        for said in said_of(frame, prediction, self._pilot.contract.picture):
            top += self._draw_card(panel, top, said, prediction) + CARD_GAP
        return np.concatenate([view, panel], axis=1)

    def _draw_places(self, view: Canvas, frame: Frame, prediction: Prediction) -> None:
        """The view is another frame of the same, only larger."""
        height, width = frame.image.shape[:2]
        scale = min(CANVAS_HEIGHT / height, WIDEST / width)
        wide, high = round(width * scale), round(height * scale)
        x, y = (view.shape[1] - wide) // 2, (CANVAS_HEIGHT - high) // 2
        shown = view[y : y + high, x : x + wide]
        left, top, *size = window_of(height, width, self._pilot.contract.picture)
        window = (left * scale, top * scale, size[0] * scale, size[1] * scale)
        for task in self._tasks:
            if task.has_places:
                name = task.output.name
                value = task.in_frame(task.decode(prediction.said(name)[0]), window)
                task.draw_on(shown, value, label_of(frame, task.output))

    def _draw_head(self, panel: Canvas, frame: Frame) -> None:
        room = PANEL - 2 * MARGIN
        _fitted(panel, self._title, (MARGIN, 54), room, size=30, weight=650)
        _fitted(panel, self._subtitle, (MARGIN, 82), room, size=17, color=SOFT)
        median_us = self._latency.median_us()
        x = float(MARGIN)
        for value, name in (
            (duration(median_us), "frame to answer"), (f"{frame.time_s:.1f}", "s"),
        ):  # fmt: skip
            drawing.text(panel, value, (x, 120), size=18, weight=600)
            x += drawing.text_width(value, size=18, weight=600) + 6
            drawing.text(panel, name, (x, 120), size=15, color=SOFT)
            x += drawing.text_width(name, size=15) + 18

    def _draw_card(self, panel: Canvas, top: int, said: Said, prediction: Prediction) -> int:
        """One output; its height. One for which there is no room is left out."""
        task, name = said.task, said.task.output.name
        rivals = task.ranked(prediction.said(name))[1 : 1 + MOST_RIVALS]
        row = top + (74 if task.has_places else 92)  # Places are seen in the frame.
        height = row - top + 4 + ROW * len(rivals) + (ROW + 6) * (said.recorded is not None)
        if top + height > CANVAS_HEIGHT - 8:
            return 0
        x, room = MARGIN + 8, PANEL - 2 * MARGIN - 16
        drawing.card(panel, (MARGIN - 8, top, PANEL - 2 * MARGIN + 16, height), radius=12, color=INK, opacity=0.9)
        drawing.text(panel, name, (x, top + 24), size=14, color=QUIET)
        _fitted(panel, said.words, (x, top + 58), room, size=28, weight=650)
        if not task.has_places:
            task.draw(panel, prediction.values[name], (x, top + 72, room, 8), MODEL_COLOR)
        for words, share in rivals:
            _draw_rival(panel, words, share, (x, row), room)
            row += ROW
        if said.recorded is not None:
            color, weight = (ALARM, 600) if said.wrong else (RECORDED_COLOR, 400)
            _fitted(panel, f"recorded: {said.recorded}", (x, row + 22), room, size=17, weight=weight, color=color)
        if said.wrong:
            corners = (MARGIN - 8, top), (PANEL - MARGIN + 7, top + height - 1)
            cv2.rectangle(panel, *corners, ALARM, 2, cv2.LINE_AA)
        return height


def _draw_rival(panel: Canvas, words: str, share: float, at: tuple[int, int], room: int) -> None:
    """What else it could be, with a thin bar."""
    x, row = at
    begin, end = x + room // 2, x + room - 44
    _fitted(panel, words, (x, row + 17), begin - x - 10, size=15, color=SOFT)
    drawing.text(panel, f"{share:.0%}", (x + room, row + 17), size=15, color=QUIET, align="right")
    cv2.line(panel, (begin, row + 12), (end, row + 12), GROOVE, 1, cv2.LINE_AA)
    cv2.line(panel, (begin, row + 12), (begin + round(share * (end - begin)), row + 12), QUIET, 3)


def _fitted(
    canvas: Canvas,
    words: str,
    at: tuple[float, float],
    room: float,
    *,
    size: float,
    weight: int = 400,
    color: drawing.Color = drawing.WHITE,
) -> None:
    """Words that take no more than `room` pixels: smaller at first, then cut off."""
    least = 0.6 * size
    while size > least and drawing.text_width(words, size=size, weight=weight) > room:
        size -= 1
    while len(words) > 2 and drawing.text_width(words, size=size, weight=weight) > room:
        words = f"{words[:-2]}…"
    drawing.text(canvas, words, at, size=size, weight=weight, color=color)
