"""The overlay: what the model decides, drawn onto what the camera sees.

Steering wheel and gauge, the path that the steering leads along, a scrolling trace beside the recorded steering, the
picture as the model gets it, and the latency. Frames of any size land on a canvas of 720 rows, so that the drawing
looks the same for a 160x120 camera as for a film.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.latency import RollingLatency
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.drive.actuation import STEERING
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.pilot import Pilot, Prediction
from sepilot_runtime.source.labels import label_of
from sepilot_runtime.source.protocol import Frame
from sepilot_runtime.view import drawing
from sepilot_runtime.view.drawing import (
    INK,
    MODEL_COLOR,
    QUIET,
    RECORDED_COLOR,
    SOFT,
    Canvas,
)
from sepilot_runtime.view.road_path import RoadView, ribbon
from sepilot_runtime.view.stage import CANVAS_HEIGHT, draw_seen, draw_state, duration, enlarged

__all__ = ["Overlay"]

NARROWEST, WIDEST = 840, 1600
MARGIN = 28


WHEEL_SIZE = 132
WHEEL_TURN_DEG = 110.0
"""Turn of the drawn wheel at full steering."""

TRACE_SECONDS = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    trace: tuple[int, int, int, int]
    wheel: tuple[int, int]
    angle: tuple[int, int]


class Overlay:
    """Draws one step after the other; it remembers what the trace and the running figures need."""

    def __init__(self, pilot: Pilot, *, title: str, rate_hz: float, horizon: float = 0.45) -> None:
        """
        Args:
            title: the model's name.
            rate_hz: of the frames; sets how many the trace holds.
            horizon: row of the horizon in the frame, as a fraction from the top; for drawing only.
        """
        self._pilot = pilot
        self._title = title
        threads = f"{pilot.engine.threads} thread{'s' if pilot.engine.threads > 1 else ''}"
        self._subtitle = f"{pilot.contract.provenance.precision} · {pilot.engine.name} · {threads}"
        self._horizon = horizon
        self._full_scale_deg = pilot.contract.output(STEERING).scale
        self._others = {o.name: task_of(o) for o in pilot.contract.outputs if o.name != STEERING}
        self._latency = RollingLatency()
        self._trace: deque[tuple[float, float | None]] = deque(maxlen=max(20, round(TRACE_SECONDS * rate_hz)))
        self._wheel, self._wheel_mask = _wheel_sprite(WHEEL_SIZE)
        self._scrim: NDArray[np.uint8] = np.empty(0, np.uint8)

    def draw(self, step: Step) -> Canvas:
        """The canvas for a step with frame and prediction: (720, width, 3) uint8 BGR; its width follows the frame's."""
        frame, prediction = step.frame, step.prediction
        if frame is None or prediction is None:
            raise ValueError("a step with a frame and a prediction expected")
        self._latency.add(step.total_us)
        self._trace.append((prediction.values[STEERING], frame.labels.get(STEERING)))
        canvas = enlarged(frame.image, narrowest=NARROWEST, widest=WIDEST)
        layout = _layout(canvas.shape[1])
        self._draw_scrim(canvas)
        self._draw_path(canvas, frame, prediction)
        self._draw_title(canvas, frame)
        draw_seen(canvas, self._pilot.picture_of(frame.image), (canvas.shape[1] - MARGIN, MARGIN))
        self._draw_trace(canvas, layout)
        self._draw_wheel(canvas, layout, frame, prediction)
        self._draw_angle(canvas, layout, prediction)
        self._draw_others(canvas, layout, frame, prediction)
        if not step.state.well:
            draw_state(canvas, step)
        return canvas

    def _draw_path(self, canvas: Canvas, frame: Frame, prediction: Prediction) -> None:
        view = RoadView(width=canvas.shape[1], height=canvas.shape[0], horizon=self._horizon)
        edges = ribbon(prediction.in_unit(STEERING), view)
        recorded = None
        if (label := frame.labels.get(STEERING)) is not None:
            recorded = ribbon(label * self._full_scale_deg, view).mean(axis=0)
        every = edges.reshape(-1, 2) if recorded is None else np.concatenate([edges.reshape(-1, 2), recorded])
        left, top = np.clip(np.floor(every.min(axis=0)) - 4, 0, (view.width - 1, view.height - 1)).astype(int)
        right, bottom = np.clip(np.ceil(every.max(axis=0)) + 4, (left + 1, top + 1), (view.width, view.height)).astype(
            int
        )
        region = canvas[top:bottom, left:right]
        origin = np.array([left, top], np.float64)
        # The far end dissolves instead of ending in a line.
        fade = np.clip((np.arange(top, bottom) - edges[:, -1, 1].min()) / (0.22 * view.height), 0, 1) ** 0.8
        area, lines = np.zeros(region.shape[:2], np.uint8), np.zeros(region.shape[:2], np.uint8)
        drawing.polyline(area, np.concatenate([edges[0], edges[1][::-1]]) - origin, 255, filled=True)
        for edge in edges:
            drawing.polyline(lines, edge - origin, 255, thickness=4)
        mask = np.maximum(area * (0.36 * fade)[:, None], lines * fade[:, None])
        drawing.blend(region, MODEL_COLOR, mask.astype(np.uint8))
        if recorded is not None:
            dashes = np.zeros(region.shape[:2], np.uint8)
            for start in range(0, len(recorded) - 2, 4):
                drawing.polyline(dashes, recorded[start : start + 3] - origin, 255, thickness=3)
            drawing.blend(region, RECORDED_COLOR, (dashes * fade[:, None]).astype(np.uint8))

    def _draw_scrim(self, canvas: Canvas) -> None:
        if self._scrim.shape != canvas.shape:
            rows = np.arange(CANVAS_HEIGHT)
            top = np.clip(1 - rows / 170, 0, 1) ** 1.2 * 0.66
            bottom = np.clip((rows - (CANVAS_HEIGHT - 250)) / 190, 0, 1) ** 1.3 * 0.8
            light = np.rint(255 * (1 - np.maximum(top, bottom))).astype(np.uint8)
            self._scrim = np.ascontiguousarray(np.broadcast_to(light[:, None, None], canvas.shape))
        cv2.multiply(canvas, self._scrim, dst=canvas, scale=1 / 255)

    def _draw_title(self, canvas: Canvas, frame: Frame) -> None:
        drawing.text(canvas, self._title, (MARGIN, 50), size=32, weight=650)
        drawing.text(canvas, self._subtitle, (MARGIN, 77), size=17, color=SOFT)
        median_us = self._latency.median_us()
        x = float(MARGIN)
        for value, name in (
            (duration(median_us), "frame to angle"),
            (f"{1e6 / max(median_us, 1e-3):,.0f}", "frames/s"),
            (f"{frame.time_s:.1f}", "s"),
        ):
            drawing.text(canvas, value, (x, 108), size=18, weight=600)
            x += drawing.text_width(value, size=18, weight=600) + 6
            drawing.text(canvas, name, (x, 108), size=15, color=SOFT)
            x += drawing.text_width(name, size=15) + 18

    def _draw_trace(self, canvas: Canvas, layout: _Layout) -> None:
        x, y, width, height = layout.trace
        drawing.card(canvas, (x - 12, y - 28, width + 24, height + 56), radius=12, color=INK, opacity=0.5)
        middle = y + height / 2
        for level, opacity in ((-1.0, 90), (0.0, 150), (1.0, 90)):
            row = round(middle - level * height / 2)
            line = np.full((1, width), opacity, np.uint8)
            drawing.blend(canvas[row : row + 1, x : x + width], QUIET, line)
        samples = np.array([(s, np.nan if label is None else label) for s, label in self._trace])
        step_px = width / (self._trace.maxlen or 1)
        columns = x + width - step_px * np.arange(len(samples))[::-1]
        for index, color, thickness in ((1, RECORDED_COLOR, 1), (0, MODEL_COLOR, 2)):
            values = np.clip(samples[:, index], -1, 1)
            points = np.stack([columns, middle - values * height / 2], axis=1)[~np.isnan(values)]
            if len(points) > 1:
                drawing.polyline(canvas, points, color, thickness=thickness)
            if len(points) and index == 0:
                last = points[-1]
                cv2.circle(canvas, (round(last[0]), round(last[1])), 4, color, cv2.FILLED, cv2.LINE_AA)
        drawing.text(canvas, "RIGHT", (x, y - 8), size=12, color=QUIET)
        drawing.text(canvas, "LEFT", (x, y + height + 18), size=12, color=QUIET)
        drawing.text(canvas, "model", (x + width, y - 8), size=13, color=MODEL_COLOR, weight=600, align="right")
        if not np.isnan(samples[:, 1]).all():
            drawing.text(canvas, "recorded", (x + width - 50, y - 8), size=13, color=RECORDED_COLOR, align="right")

    def _draw_wheel(self, canvas: Canvas, layout: _Layout, frame: Frame, prediction: Prediction) -> None:
        x, y = layout.wheel
        steering = prediction.values[STEERING]
        turn = cv2.getRotationMatrix2D(((WHEEL_SIZE - 1) / 2,) * 2, -WHEEL_TURN_DEG * steering, 1.0)
        wheel = cv2.warpAffine(self._wheel, turn, (WHEEL_SIZE, WHEEL_SIZE), flags=cv2.INTER_LINEAR)
        mask = cv2.warpAffine(self._wheel_mask, turn, (WHEEL_SIZE, WHEEL_SIZE), flags=cv2.INTER_LINEAR)
        drawing.paste(
            canvas, np.asarray(wheel, np.uint8), np.asarray(mask, np.uint8), (x - WHEEL_SIZE // 2, y - WHEEL_SIZE // 2)
        )
        radius = WHEEL_SIZE / 2 + 11
        drawing.polyline(canvas, _arc(x, y, radius, -1, 1), (96, 90, 84), thickness=3)
        if abs(steering) > 0.004:
            drawing.polyline(canvas, _arc(x, y, radius, 0, steering), MODEL_COLOR, thickness=5)
        if (label := frame.labels.get(STEERING)) is not None:
            inner, outer = (_arc(x, y, radius + r, label, label)[0] for r in (-6, 7))
            drawing.polyline(canvas, [inner, outer], RECORDED_COLOR, thickness=3)

    def _draw_angle(self, canvas: Canvas, layout: _Layout, prediction: Prediction) -> None:
        x, y = layout.angle
        degrees = prediction.in_unit(STEERING)
        side = "straight" if abs(degrees) < 0.05 else "right" if degrees > 0 else "left"
        drawing.text(canvas, f"{abs(degrees):.1f}°", (x, y), size=46, weight=600, align="right")
        drawing.text(canvas, side, (x, y + 28), size=19, color=MODEL_COLOR, weight=600, align="right")

    def _draw_others(self, canvas: Canvas, layout: _Layout, frame: Frame, prediction: Prediction) -> None:
        """Whatever else the model says, from the trace upwards, each as its kind is drawn."""
        x, y, width, _ = layout.trace
        for row, (name, task) in enumerate(self._others.items()):
            top = y - 70 - 44 * row
            if (value := prediction.values.get(name)) is None:
                continue
            drawn = task.decode(prediction.said(name)[0]) if task.has_places else value
            drawing.card(canvas, (x - 12, top - 8, width + 24, 40), radius=10, color=INK, opacity=0.5)
            drawing.text(canvas, name, (x, top + 18), size=14, color=QUIET)
            drawing.text(canvas, task.words(value), (x + width, top + 18), size=15, weight=600, align="right")
            box = (x + width // 3, top + 9, width // 3, 8)
            task.draw(canvas, drawn, box, MODEL_COLOR, label_of(frame, task.output))


def _layout(width: int) -> _Layout:
    """Trace on the left, angle and wheel on the right, the road free between them."""
    wheel_x = width - MARGIN - WHEEL_SIZE // 2 - 14
    return _Layout(
        trace=(MARGIN + 12, CANVAS_HEIGHT - 136, min(width // 3 - MARGIN - 24, 360), 80),
        wheel=(wheel_x, CANVAS_HEIGHT - 94),
        angle=(wheel_x - WHEEL_SIZE // 2 - 26, CANVAS_HEIGHT - 96),
    )


def _arc(x: float, y: float, radius: float, start: float, end: float) -> NDArray[np.float64]:
    """Points on the gauge from `start` to `end` in steering values; 0 is on top, 1 is `WHEEL_TURN_DEG` to the right."""
    angles = np.radians(WHEEL_TURN_DEG) * np.linspace(np.clip(start, -1, 1), np.clip(end, -1, 1), 48)
    return np.stack([x + radius * np.sin(angles), y - radius * np.cos(angles)], axis=1)


def _wheel_sprite(size: int) -> tuple[Canvas, NDArray[np.uint8]]:
    """A steering wheel, looked at from the driver's seat, with a mark on top."""
    picture, mask = drawing.sprite_layers(size)
    side = mask.shape[0]
    center = (side // 2, side // 2)
    rim = round(side * 0.43)
    for layer, rim_ink, spoke_ink in ((picture, (218, 214, 210), (188, 184, 180)), (mask, 255, 255)):
        for angle in (0.0, math.pi, math.pi / 2):
            end = (round(center[0] + rim * math.cos(angle)), round(center[1] + rim * math.sin(angle)))
            cv2.line(layer, center, end, spoke_ink, round(side * 0.075), cv2.LINE_AA)
        cv2.circle(layer, center, rim, rim_ink, round(side * 0.085), cv2.LINE_AA)
        cv2.circle(layer, center, round(side * 0.12), spoke_ink, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(picture, center, round(side * 0.07), (120, 114, 108), cv2.FILLED, cv2.LINE_AA)
    cv2.ellipse(picture, center, (rim, rim), 0, -98, -82, MODEL_COLOR, round(side * 0.085), cv2.LINE_AA)
    return (
        cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False),
        cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False),
    )
