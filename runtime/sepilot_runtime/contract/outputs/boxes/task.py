"""Arithmetic of boxes: what a picture shows and where, and what a file may change about it.

`deviation` and `distance` are of the model's own numbers: of a score's sigmoid, and of a box's four numbers as far as
its slot is sure of something, so that what an empty slot says of a box counts for nothing. What it means is asked by
boxes: are those of the training model found again (`lost_boxes`), are there others (`new_boxes`), and is the answer as
right as it was (`mae_increase`, whose error is 1 - F1 of a picture: 0 for every box found and none beside, 1 for
none).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.outputs.boxes.geometry import (
    Slots,
    boxes_of,
    inside,
    matched,
    real_boxes,
    shape_iou,
    sigmoid,
)
from sepilot_runtime.contract.outputs.boxes.output import MOST_CANDIDATES, Boxes
from sepilot_runtime.contract.outputs.increase import increase, increase_fault, increase_remark
from sepilot_runtime.contract.outputs.protocol import Array, Box, Color, Evidence, GateRule, Tail, Window

__all__ = ["RIGHT", "BoxesTask", "Found"]

Values = NDArray[np.float64]

RIGHT = 0.5
"""Intersection over union from which on a box is the one of the label; `SAME`, of another model's answer."""

SAME = 0.75

NOTHING = -10.0
"""A score of no class at all."""

LIMITS: Mapping[str, Mapping[str, float]] = {
    "max_error": {"float32": 1e-3, "float16": 5e-2, "dynamic": 0.5, "int8": 0.6, "int8-float-head": 0.6},
    "mae_increase": {"float32": 1e-5, "float16": 1e-3, "dynamic": 1e-2, "int8": 1e-2, "int8-float-head": 1e-2},
    "lost_boxes": {"float32": 1e-3, "float16": 5e-3, "dynamic": 2e-2, "int8": 2e-2, "int8-float-head": 2e-2},
    "new_boxes": {"float32": 1e-3, "float16": 1e-2, "dynamic": 3e-2, "int8": 3e-2, "int8-float-head": 3e-2},
}
"""By gate and precision. A box that is as sure as `confidence` comes and goes with a step of int8 and harms nobody."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What one answer says, from the surest down.

    Attributes:
        places: of the classes (k,).
        confidence: (k,).
        boxes: (k, 4) left, top, width and height in fractions of the picture.
    """

    places: NDArray[np.int64]
    confidence: Values
    boxes: Values


class BoxesTask:
    has_places = True
    ends = ("less sure", "surer")
    span = (0.0, 1.0)
    contrary_means = ""

    def __init__(self, output: Boxes) -> None:
        self.output = output
        self._slots = Slots.of(output)
        self._numbers = 4 * output.slots

    def decode(self, raw: NDArray[np.float32]) -> list[dict[str, Any]]:
        """Of each thing, from the surest down, {"class": name, "confidence", "box": [left, top, width, height]}.

        Boxes are in fractions of the picture, and may reach beyond it.
        """
        found = self.found(raw)
        return [
            {"class": self.output.names[place], "confidence": sure, "box": box}
            for place, sure, box in zip(
                found.places.tolist(), found.confidence.tolist(), found.boxes.tolist(), strict=True
            )
        ]

    def found(self, raw: Array, confidence: float = 0.0, most: int = 0) -> Found:
        """What an answer (numbers,) says.

        Each slot says its surest class. Of what is sure enough the surest are compared class by class, and of two that
        overlap the less sure goes.

        Args:
            confidence, most: in place of the output's `confidence` and `max_boxes`; 0 leaves them.
        """
        flat = raw.reshape(-1)
        scores = flat[self._numbers :].reshape(self.output.slots, -1)
        least = confidence or self.output.confidence
        best = scores.max(axis=1)
        # The sigmoid of thousands of scores takes longer than all that follows.
        slots = np.flatnonzero(best >= math.log(least / (1 - least)))
        order = slots[np.argsort(-best[slots], kind="stable")[:MOST_CANDIDATES]]
        places, sure = scores[order].argmax(axis=1), sigmoid(best[order])
        boxes = self._slots.decode(flat[: self._numbers].reshape(-1, 4)[order], order)
        if len(order) > 1:
            left = cv2.dnn.NMSBoxesBatched(boxes.tolist(), sure.tolist(), places.tolist(), 0.0, self.output.iou)
            kept = np.sort(np.asarray(left, np.int64).reshape(-1))[: most or self.output.max_boxes]
            places, sure, boxes = places[kept], sure[kept], boxes[kept]
        return Found(places=places, confidence=sure, boxes=boxes)

    def in_frame(self, value: Any, window: Window) -> Any:
        """With boxes in pixels, cut at the edges of the window and of the frame as far as the window tells them."""
        left, top, width, height = window
        moved = []
        for thing in value:
            x, y, wide, high = thing["box"]
            x0, x1 = (max(left + width * min(max(e, 0.0), 1.0), 0.0) for e in (x, x + wide))
            y0, y1 = (max(top + height * min(max(e, 0.0), 1.0), 0.0) for e in (y, y + high))
            if x1 > x0 and y1 > y0:
                moved.append({**thing, "box": [x0, y0, x1 - x0, y1 - y0]})
        return moved

    def labels(self, recorded: Array, names: Sequence[str], windows: Values) -> NDArray[np.float32]:
        """(n, most, 5) as recordings have them, in fractions of the picture and with the places of the own classes.

        Boxes of other classes are none; those outside of the picture neither (`geometry.inside`).
        """
        own = {name: place for place, name in enumerate(self.output.names)}
        table = np.array([*(own.get(name, np.nan) for name in names or self.output.names), np.nan])
        found = np.array(recorded, np.float64)
        place = found[..., 0]
        real = np.isfinite(place) & (place >= 0) & (place < len(table) - 1)
        known = np.isfinite(place[:, :1])
        mapped = table[np.where(real, np.nan_to_num(place), len(table) - 1).astype(np.int64)]
        # A first row of another class must not make the picture an unknown one.
        mapped[:, :1] = np.where(known & np.isnan(mapped[:, :1]), -1, mapped[:, :1])
        start, size = windows[:, None, :2], windows[:, None, 2:]
        return inside(
            np.concatenate((mapped[..., None], (found[..., 1:3] - start) / size, found[..., 3:] / size), axis=-1)
        )

    def known(self, labels: Array) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(labels[:, 0, 0]))

    def deviation(self, a: Array, b: Array) -> Values:
        return self.distance(a, b)

    def distance(self, a: Array, b: Array) -> Values:
        """Of the number that changes most."""
        (box_a, score_a), (box_b, score_b) = self._parts(a), self._parts(b)
        apart = np.abs(score_a - score_b).max(axis=(1, 2))
        sure = np.maximum(score_a.max(axis=2), score_b.max(axis=2))
        return np.asarray(np.maximum(apart, (np.abs(box_a - box_b).max(axis=2) * sure).max(axis=1)))

    def error(self, said: Array, label: Array) -> Values:
        """1 - F1 of each picture, of boxes that overlap the label's by half or more; 0 where neither has any."""
        answers = [self.found(one) for one in said]
        return self._errors([(found.boxes, found.places) for found in answers], label)

    def label_error(self, said: Array, label: Array) -> Values:
        wrong = self._errors([real_boxes(one) for one in said], label)
        wrong[~self.known(said)] = np.nan
        return np.asarray(wrong)

    def constant(self, labels: Array) -> float:
        """Nothing anywhere."""
        return NOTHING

    def r2(self, said: Array, labels: Array) -> float | None:
        return None

    def reading(self, said: Array, about: Array | None = None) -> Values:
        """How sure it is of the class that `about` is surest of, in that slot."""
        mine = self._parts(said)[1].reshape(len(said), -1)
        theirs = mine if about is None else self._parts(about)[1].reshape(len(about), -1)
        best = np.broadcast_to(theirs.argmax(axis=1), len(mine))
        return np.asarray(mine[np.arange(len(mine)), best])

    def contrary(self, a: Array, b: Array) -> NDArray[np.bool_]:
        return np.zeros(len(a), bool)

    def asked(self, labels: Array) -> Mapping[str, tuple[float, float]]:
        """Of the boxes' numbers; the middle lies in the cell, and the size goes by the anchor that is most like it."""
        sizes = labels[..., 3:][labels[..., 0] >= 0].astype(np.float64)
        anchors = np.array([anchor for scale in self.output.anchors for anchor in scale])
        numbers = 0.5 + np.log2(sizes / anchors[shape_iou(sizes, anchors).argmax(axis=-1)]) / 4
        low, high = min(numbers.min(initial=0), 0.0), max(numbers.max(initial=1), 1.0)
        return {f"{self.output.name}.boxes": (float(low), float(high))}

    def ordered(self, said: Array) -> NDArray[np.int64]:
        """From those that are sure of nothing to the one that is surest."""
        return np.argsort(self.reading(said), kind="stable")

    def tails(self, said: Array, label: Array | None) -> list[Tail]:
        sure = self._parts(said)[1].max(axis=2)
        return [
            Tail(reason="surest of a box", share=0.16, order=np.argsort(-sure.max(axis=1), kind="stable")),
            Tail(reason="most boxes", share=0.16, order=np.argsort(-sure.sum(axis=1), kind="stable")),
            Tail(reason="sure of nothing", share=0.08, order=np.argsort(sure.max(axis=1), kind="stable")),
        ]

    def words(self, value: Any) -> str:
        """Of an answer or a label "3 RBC, 1 WBC"."""
        if isinstance(value, np.ndarray):
            if not np.isfinite(value[0, 0]):
                return "unknown"
            value = [{"class": self.output.names[int(place)]} for place in value[:, 0] if place >= 0]
        counts = Counter(thing["class"] for thing in value)
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"

    def draw(self, canvas: NDArray[np.uint8], value: Any, box: Box, color: Color, recorded: Any = None) -> None:
        from sepilot_runtime.contract.outputs.boxes.drawing import draw_small

        there = boxes_of(recorded[recorded[:, 0] >= 0]).tolist() if recorded is not None else []
        draw_small(canvas, [thing["box"] for thing in value], there, box, color)

    def ranked(self, said: Array) -> Sequence[tuple[str, float]]:
        return ()

    def draw_on(self, frame: NDArray[np.uint8], value: Any, recorded: Any = None) -> None:
        from sepilot_runtime.contract.outputs.boxes.drawing import draw_on, draw_recorded

        if recorded is not None:
            there = np.asarray(recorded, np.float64)
            draw_recorded(frame, boxes_of(there[there[:, 0] >= 0]))
        draw_on(frame, value)

    def gates(self) -> tuple[GateRule, ...]:
        wrong, lost, new = "error of a picture (1 - F1)", "share of lost boxes", "share of new boxes"
        return (
            GateRule(name="max_error", figure=self._max_error, fault=_error_fault, limits=LIMITS["max_error"]),
            GateRule(
                name="mae_increase", figure=lambda found: increase(self, found), fault=increase_fault(wrong),
                remark=increase_remark(wrong), limits=LIMITS["mae_increase"],
            ),
            GateRule(
                name="lost_boxes", figure=self._lost, fault=increase_fault(lost), remark=increase_remark(lost),
                limits=LIMITS["lost_boxes"],
            ),
            GateRule(
                name="new_boxes", figure=self._new, fault=increase_fault(new), remark=increase_remark(new),
                limits=LIMITS["new_boxes"],
            ),
        )  # fmt: skip

    def _parts(self, answers: Array) -> tuple[Values, Values]:
        """The boxes' numbers (n, slots, 4), and how sure each slot is of each class (n, slots, classes)."""
        flat = np.asarray(answers, np.float64).reshape(len(answers), -1)
        boxes = flat[:, : self._numbers].reshape(len(flat), -1, 4)
        return boxes, sigmoid(flat[:, self._numbers :].reshape(len(flat), self.output.slots, -1))

    def _errors(self, answers: Sequence[tuple[Values, NDArray[np.int64]]], label: Array) -> Values:
        wrong = np.full(len(label), np.nan)
        for i in np.flatnonzero(self.known(label)).tolist():
            boxes, places = answers[i]
            there, classes = real_boxes(label[i])
            right = int((matched(boxes, places, there, classes, RIGHT) >= 0).sum())
            both = len(places) + len(classes)
            wrong[i] = 1 - 2 * right / both if both else 0.0
        return wrong

    def _max_error(self, found: Evidence) -> float:
        return float(self.distance(found.said, found.expected).max())

    def _lost(self, found: Evidence) -> Interval | None:
        """Of the boxes that the training model says, the share that the file does not say."""
        return self._missing(found.expected, found.said, found.drives)

    def _new(self, found: Evidence) -> Interval | None:
        """Of the boxes that the file says, the share that the training model does not say."""
        return self._missing(found.said, found.expected, found.drives)

    def _missing(self, theirs: Array, ours: Array, drives: Sequence[str]) -> Interval | None:
        """The share of one model's boxes that the other has not, None without any.

        The other may be half as sure of it: what lies at the edge of `confidence` is neither lost nor new.
        """
        missing, all_ = np.zeros(len(theirs)), np.zeros(len(theirs))
        for i, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            there, said = self.found(one), self.found(other, self.output.confidence / 2, MOST_CANDIDATES)
            again = matched(said.boxes, said.places, there.boxes, there.places, SAME)
            all_[i] = len(there.places)
            missing[i] = all_[i] - (again >= 0).sum()
        return paired_bootstrap_mean(missing / all_.mean(), drives) if all_.any() else None


def _error_fault(error: float, limit: float, _pictures: int) -> str:
    return "" if error <= limit else f"a score or a sure box's number moved by {error:.4g}, at most {limit:g} allowed"
