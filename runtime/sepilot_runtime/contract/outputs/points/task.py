"""Arithmetic of points: where they are, how far off, and what a file may change about them.

Distances are of the point that moves the most, in percent of the picture's sides. Errors are the field's normalized
mean error (NME): the mean distance of the points to those of the label, as a share of what `Points.normalize_by` says;
at most 1, which is also the error of points where nothing is and of nothing where points are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.increase import increase, increase_fault, increase_remark
from sepilot_runtime.contract.outputs.points.output import Points
from sepilot_runtime.contract.outputs.protocol import Array, Box, Color, Evidence, GateRule, Tail, Window

__all__ = ["PointsTask", "normalizers", "visible"]

Values = NDArray[np.float64]

SURE = 0.1
"""A probability nearer to `presence_from` than this may fall to either side."""

EDGE = 1e-4
"""How far beyond the picture's edge a label may lie for rounding alone."""

SMALLEST = 0.01
"""Of the picture: what an error is divided by at least, as eyes seen from the side have no distance."""

LIMITS: Mapping[str, Mapping[str, float]] = {
    "max_error": {"float32": 1e-3, "float16": 1e-2, "dynamic": 5e-2, "int8": 5e-2, "int8-float-head": 5e-2},
    "shift_p99": {"float32": 1e-4, "float16": 2e-3, "dynamic": 2e-2, "int8": 2e-2, "int8-float-head": 2e-2},
    "mae_increase": {"float32": 1e-5, "float16": 2e-4, "dynamic": 2e-3, "int8": 2e-3, "int8-float-head": 2e-3},
    "flips": {"float32": 0.0, "float16": 2e-3, "dynamic": 1e-2, "int8": 1e-2, "int8-float-head": 1e-2},
}
"""By gate and precision; of shifts as shares of the picture, of `flips` as a share of the pictures."""


class PointsTask:
    """Points beyond the picture are put onto its edge, as the car has them."""

    has_places = True
    ends = ("elsewhere", "there")
    span = (0.0, 100.0)

    def __init__(self, output: Points) -> None:
        self.output = output
        self._count = len(output.names)

    def decode(self, raw: NDArray[np.float32]) -> dict[str, Any]:
        """{"present": probability, "points": {name: [x, y]}}, without points where nothing is; x, y of the picture."""
        answer = raw.reshape(1, -1)
        present = float(self.presence(answer)[0])
        if present < self.output.presence_from:
            return {"present": present, "points": {}}
        places = self.places(answer)[0].tolist()
        return {"present": present, "points": dict(zip(self.output.names, places, strict=True))}

    def in_frame(self, value: Any, window: Window) -> Any:
        left, top, width, height = window
        points = {name: [left + x * width, top + y * height] for name, (x, y) in value["points"].items()}
        return {**value, "points": points}

    def labels(self, recorded: Array, names: Sequence[str], windows: Values) -> NDArray[np.float32]:
        """(n, points, 2) of the picture, NaN for what is not known of, or lies outside of it."""
        own = {name: place for place, name in enumerate(names or self.output.names)}
        found = np.full((len(recorded), self._count, 2), np.nan)
        for place, name in enumerate(self.output.names):
            if name in own:
                found[:, place] = recorded[:, own[name]]
        found = (found - windows[:, None, :2]) / windows[:, None, 2:]
        found[~((found >= -EDGE) & (found <= 1 + EDGE)).all(axis=2)] = np.nan
        return np.asarray(found.clip(0, 1), np.float32)

    def known(self, labels: Array) -> NDArray[np.bool_]:
        """Where pictures can hold nothing, no point says that one does."""
        return np.ones(len(labels), bool) if self.output.presence else _there(labels)

    def deviation(self, a: Array, b: Array) -> Values:
        """Of a place, or of the probability."""
        moved = np.abs(self._numbers(a) - self._numbers(b)).max(axis=(1, 2))
        return np.asarray(np.maximum(moved, np.abs(self.presence(a) - self.presence(b))))

    def distance(self, a: Array, b: Array) -> Values:
        """Of the point that moves the most, in percent of the picture; 0 where both say that nothing is there."""
        moved = np.linalg.norm(self.places(a) - self.places(b), axis=2).max(axis=1)
        return np.where(self.present(a) | self.present(b), 100 * moved, 0.0)

    def error(self, said: Array, label: Array) -> Values:
        return self._error(self.places(said), self.present(said), label)

    def label_error(self, said: Array, label: Array) -> Values:
        return self._error(np.asarray(said, np.float64), _there(said), label)

    def constant(self, labels: Array) -> list[float]:
        """The mean shape, and how many pictures hold it."""
        known = np.isfinite(labels)
        mean = np.where(known, labels, 0).sum(axis=0, dtype=np.float64) / np.maximum(known.sum(axis=0), 1)
        answer = np.where(known.any(axis=0), mean, 0.5).reshape(-1).tolist()
        share = float(np.clip(_there(labels).mean(), 1e-6, 1 - 1e-6))
        return [*answer, *([math.log(share / (1 - share))] if self.output.presence else [])]

    def r2(self, said: Array, labels: Array) -> float | None:
        return None

    def reading(self, said: Array, about: Array | None = None) -> Values:
        """The thing's probability in percent, times the part of the way across the picture that its points kept."""
        kept = 1 - np.linalg.norm(self.places(said) - self.places(said if about is None else about), axis=2).mean(1)
        return np.asarray(100 * self.presence(said) * kept.clip(0, 1))

    def contrary(self, a: Array, b: Array) -> NDArray[np.bool_]:
        """One says that the thing is there, the other that it is not, and neither hardly."""
        sure = np.minimum(*(np.abs(self.presence(v) - self.output.presence_from) for v in (a, b))) > SURE
        return np.asarray((self.present(a) != self.present(b)) & sure)

    @property
    def contrary_means(self) -> str:
        if not self.output.presence:
            return ""
        return f"of something and nothing, both by more than {SURE:g} of probability"

    def asked(self, labels: Array) -> Mapping[str, tuple[float, float]]:
        known = labels[np.isfinite(labels)]
        places = f"{self.output.name}.places" if self.output.presence else self.output.name
        return {places: (0.0, float(known.max(initial=0.0)))}

    def ordered(self, said: Array) -> NDArray[np.int64]:
        """Where nothing is first, then from one end to the other of how the points vary the most."""
        places = self.places(said).reshape(len(said), -1)
        away = places - places.mean(axis=0)
        along = np.linalg.eigh(away.T @ away)[1][:, -1]
        return np.lexsort((away @ (along * np.sign(along[np.abs(along).argmax()])), self.present(said)))

    def tails(self, said: Array, label: Array | None) -> list[Tail]:
        """The points nearest to the edges, and what looks least like the mean shape."""
        places = self.places(said).reshape(len(said), -1)
        unlike = np.linalg.norm(places - places.mean(axis=0), axis=1)
        keys = [
            ("nearest to the left and upper edge", 0.1, places.min(axis=1)),
            ("nearest to the right and lower edge", 0.1, -places.max(axis=1)),
            ("least like the mean shape", 0.1, -unlike),
            *([("least sure", 0.06, np.abs(self.presence(said) - 0.5))] if self.output.presence else []),
        ]
        return [Tail(reason=why, share=share, order=np.argsort(key, kind="stable")) for why, share, key in keys]

    def ranked(self, said: Array) -> Sequence[tuple[str, float]]:
        return ()

    def words(self, value: Any) -> str:
        """Of an answer "68 points 97 %", or "nothing 3 %", of a label "68 points"."""
        answer = isinstance(value, Mapping)
        places = list(value["points"].values()) if answer else np.asarray(value)[visible(value)].tolist()
        sure = f" {value['present']:.0%}" if answer and self.output.presence else ""
        if not places:
            return f"nothing{sure}"
        if self._count == 1:
            return f"{self.output.names[0]} at {places[0][0]:.3g}, {places[0][1]:.3g}{sure}"
        return f"{len(places)} points{sure}"

    def draw(self, canvas: NDArray[np.uint8], value: Any, box: Box, color: Color, recorded: Any = None) -> None:
        from sepilot_runtime.contract.outputs.points.drawing import draw_columns

        label = np.empty((0, 2)) if recorded is None else np.asarray(recorded)[visible(recorded)]
        draw_columns(canvas, [x for x, _ in value["points"].values()], box, color, label[:, 0].tolist())

    def draw_on(self, frame: NDArray[np.uint8], value: Any, recorded: Any = None) -> None:
        from sepilot_runtime.contract.outputs.points.drawing import draw_on, draw_recorded

        draw_on(frame, value, self.output)
        if recorded is not None:
            draw_recorded(frame, np.asarray(recorded)[visible(recorded)].tolist())

    def gates(self) -> tuple[GateRule, ...]:
        flips = GateRule(
            name="flips", figure=self._flips, fault=_flip_fault, limits=LIMITS["flips"]
        )  # fmt: skip
        return (
            GateRule(name="max_error", figure=self._max_error, fault=_error_fault,
                     limits=LIMITS["max_error"]),
            GateRule(name="shift_p99", figure=self._shift_p99, fault=_shift_fault,
                     limits=LIMITS["shift_p99"]),
            GateRule(name="mae_increase", figure=self._increase, fault=increase_fault("NME"),
                     remark=increase_remark("NME"), limits=LIMITS["mae_increase"]),
            *((flips,) if self.output.presence else ()),
        )  # fmt: skip

    def places(self, answers: Array) -> Values:
        """(n, points, 2) in the picture."""
        return self._numbers(answers).clip(0, 1)

    def presence(self, answers: Array) -> Values:
        """(n,) probabilities; 1 where pictures always hold the thing."""
        if not self.output.presence:
            return np.ones(len(answers))
        logits = np.asarray(answers, np.float64).reshape(len(answers), -1)[:, -1]
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))

    def present(self, answers: Array) -> NDArray[np.bool_]:
        return np.asarray(self.presence(answers) >= self.output.presence_from)

    def _numbers(self, answers: Array) -> Values:
        flat = np.asarray(answers, np.float64).reshape(len(answers), -1)
        return flat[:, : 2 * self._count].reshape(len(flat), self._count, 2)

    def _error(self, places: Values, present: NDArray[np.bool_], label: Array) -> Values:
        off, there = np.linalg.norm(places - label, axis=2), _there(label)
        both = np.isfinite(off)
        mean = np.where(both, off, 0).sum(axis=1) / np.maximum(both.sum(axis=1), 1)
        error = np.where(both.any(axis=1), np.minimum(mean / normalizers(label, self.output), 1), 1.0)
        nothing = np.where(present, 1.0, 0.0) if self.output.presence else np.nan
        return np.where(there, np.where(present, error, 1.0), nothing)

    def _max_error(self, found: Evidence) -> float:
        return float(self.distance(found.said, found.expected).max())

    def _shift_p99(self, found: Evidence) -> float:
        """In fractions of the picture. Of all points: that of the largest would grow with how many there are."""
        moved = np.linalg.norm(self.places(found.said) - self.places(found.expected), axis=2)
        shown = moved[self.present(found.said) | self.present(found.expected)]
        return float(np.quantile(shown, 0.99)) if shown.size else 0.0

    def _increase(self, found: Evidence) -> Any:
        return increase(self, found)

    def _flips(self, found: Evidence) -> float:
        return float(self.contrary(found.said, found.expected).sum())


def normalizers(labels: Array, output: Points) -> Values:
    """(n,): what distances of points are divided by, in fractions of the picture.

    Where one of the two points that it goes by is unknown, or the box is of a single point, the box and the picture
    stand in.
    """
    by, picture = output.normalize_by, np.ones(len(labels))
    if by == "picture":
        return picture
    found = np.where(visible(labels)[..., None], labels, np.nan).astype(np.float64)
    low, high = (np.where(np.isfinite(found), found, fill) for fill in (np.inf, -np.inf))
    sides = high.max(axis=1) - low.min(axis=1)
    box = np.sqrt(np.where(_there(labels), sides[:, 0] * sides[:, 1], 1))
    box = np.where(visible(labels).sum(axis=1) > 1, np.maximum(box, SMALLEST), picture)
    if by == "box":
        return box
    one, other = output.pair(by)
    distance = np.linalg.norm(found[:, one] - found[:, other], axis=1)
    return np.where(np.isfinite(distance), np.maximum(distance, SMALLEST), box)


def visible(labels: Array) -> NDArray[np.bool_]:
    """(..., points): which of the points (..., points, 2) are known."""
    return np.asarray(np.isfinite(labels).all(axis=-1))


def _there(labels: Array) -> NDArray[np.bool_]:
    """(n,): does a label (n, points, 2) know a point?"""
    return np.asarray(visible(labels).any(axis=1))


def _error_fault(shift_percent: float, limit: float, _pictures: int) -> str:
    return "" if shift_percent <= 100 * limit else _shifted("largest", shift_percent, limit)


def _shift_fault(shift: float, limit: float, _pictures: int) -> str:
    return "" if shift <= limit else _shifted("99th percentile of the", 100 * shift, limit)


def _shifted(which: str, percent: float, limit: float) -> str:
    return f"{which} shift of a point {percent:.3g} % of the picture, at most {100 * limit:g} allowed"


def _flip_fault(flips: float, limit: float, pictures: int) -> str:
    if flips <= math.ceil(limit * pictures):
        return ""
    return f"{flips:.0f} of {pictures} pictures hold something for one and nothing for the other, {limit:.1%} allowed"
