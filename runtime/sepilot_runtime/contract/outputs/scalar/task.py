"""Arithmetic of numbers: how far apart, how wrong, what is too much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval
from sepilot_runtime.contract.outputs.increase import increase, increase_fault, increase_remark
from sepilot_runtime.contract.outputs.protocol import Array, Box, Color, Evidence, GateRule, Tail, Window
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.contract.outputs.units import mark_of

__all__ = ["DEAD_BAND", "ScalarTask", "coefficient_of_determination"]

DEAD_BAND = 0.02
"""Of full scale. Closer to 0 than this a change of sign means nothing."""

Values = NDArray[np.float64]


class ScalarTask:
    """Answers are cut off at the output's limits first, as the car does."""

    def __init__(self, output: Scalar) -> None:
        self.output = output
        self._low, self._high = output.low, output.high
        self._dead_band = DEAD_BAND * output.magnitude

    def decode(self, raw: NDArray[np.float32]) -> float:
        """The number in [low, high]."""
        value: float = raw.item()
        if value < self._low:
            return self._low
        return self._high if value > self._high else value

    has_places = False

    def in_frame(self, value: float, window: Window) -> float:
        return value

    def labels(self, recorded: Array, names: Sequence[str], windows: Values) -> NDArray[np.float32]:
        return np.asarray(recorded, np.float32)

    def known(self, labels: Array) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(labels))

    def deviation(self, a: Array, b: Array) -> Values:
        return np.asarray(np.abs(_column(a) - _column(b)))

    def distance(self, a: Array, b: Array) -> Values:
        return np.abs(self._clipped(a) - self._clipped(b)) * self.output.scale

    def error(self, said: Array, label: Array) -> Values:
        return np.abs(self._clipped(said) - _column(label))

    def label_error(self, said: Array, label: Array) -> Values:
        return np.asarray(np.abs(_column(said) - _column(label)))

    def constant(self, labels: Array) -> float:
        """Their mean."""
        return float(labels.mean())

    def r2(self, said: Array, labels: Array) -> float | None:
        return coefficient_of_determination(_column(labels), _column(said))

    def reading(self, said: Array, about: Array | None = None) -> Values:
        return _column(said) * self.output.scale

    @property
    def span(self) -> tuple[float, float]:
        return self._low * self.output.scale, self._high * self.output.scale

    @property
    def ends(self) -> tuple[str, str]:
        return ("left", "right") if self.output.positive == "right" else ("down", "up")

    def contrary(self, a: Array, b: Array) -> NDArray[np.bool_]:
        """To the other side of 0, both outside the dead band."""
        ours, theirs = self._clipped(a), self._clipped(b)
        return (ours * theirs < 0) & (np.minimum(np.abs(ours), np.abs(theirs)) > self._dead_band)

    @property
    def contrary_means(self) -> str:
        if not self._low < 0 < self._high:
            return ""
        return f"to different sides, both by more than {self._dead_band * self.output.scale:g}{mark_of(self.output)}"

    def asked(self, labels: Array) -> Mapping[str, tuple[float, float]]:
        known = labels[np.isfinite(labels)].clip(self._low, self._high)
        return {self.output.name: (float(known.min(initial=0.0)), float(known.max(initial=0.0)))}

    def ordered(self, said: Array) -> NDArray[np.int64]:
        return np.argsort(_column(said), kind="stable")

    def tails(self, said: Array, label: Array | None) -> list[Tail]:
        """The lowest answers, the highest, the largest labels to either side."""
        keys = [("lowest prediction", 0.13, _column(said)), ("highest prediction", 0.13, -_column(said))]
        if label is not None:
            keys.append(("largest label", 0.06, -np.abs(np.nan_to_num(_column(label)))))
        return [Tail(reason=why, share=share, order=np.argsort(key, kind="stable")) for why, share, key in keys]

    def ranked(self, said: Array) -> Sequence[tuple[str, float]]:
        return ()

    def words(self, value: float) -> str:
        from sepilot_runtime.contract.outputs.scalar.drawing import words

        return words(value * self.output.scale, self.output)

    def draw(
        self, canvas: NDArray[np.uint8], value: float, box: Box, color: Color, recorded: float | None = None
    ) -> None:
        from sepilot_runtime.contract.outputs.scalar.drawing import draw_gauge

        draw_gauge(canvas, value, self.output, box, color, recorded)

    def draw_on(self, frame: NDArray[np.uint8], value: Any, recorded: Any = None) -> None:
        """A number is in no place."""

    def gates(self) -> tuple[GateRule, ...]:
        sides = (GateRule(name="sign_flips", figure=self._sign_flips, fault=self._flip_fault),)
        return (
            GateRule(name="max_error", figure=self._max_error, fault=self._error_fault),
            GateRule(
                name="mae_increase", figure=self._increase, fault=increase_fault("task MAE"),
                remark=increase_remark("task MAE"),
            ),
            *(sides if self._low < 0 < self._high else ()),
            GateRule(name="saturated", figure=self._saturated, fault=self._saturation_fault),
        )  # fmt: skip

    def _clipped(self, values: Array) -> Values:
        return np.clip(_column(values), self._low, self._high)

    def _max_error(self, found: Evidence) -> float:
        return float(self.distance(found.said, found.expected).max())

    def _error_fault(self, error: float, limit: float, _frames: int) -> str:
        unit, allowed = self.output.unit, limit * self.output.full_scale
        if error <= allowed:
            return ""
        return f"max error {error:.4g} {unit}, at most {allowed:.4g} ({limit:g} of full scale) allowed"

    def _increase(self, found: Evidence) -> Interval | None:
        return increase(self, found)

    def _sign_flips(self, found: Evidence) -> float:
        return int(self.contrary(found.said, found.expected).sum())

    def _flip_fault(self, flips: int, limit: float, frames: int) -> str:
        # A share of a few frames is rounded up to a whole one; none stays none.
        if flips <= math.ceil(limit * frames):
            return ""
        how = "steered to the other side" if self.output.positive == "right" else "answered with the other sign"
        return f"{flips} of {frames} frames {how}"

    def _saturated(self, found: Evidence) -> float:
        """Frames at the file's own smallest or largest answer that belong beyond it.

        Either the training model goes on by more than 0.01 of full scale (the range of a quantized output is too
        narrow), or it itself gives its extreme value to many different pictures (a head with dead units, which can turn
        no further).
        The contract's limits are no such end: there the car is at full lock.
        """
        said, expected = self._clipped(found.said), self._clipped(found.expected)
        count = 0
        for sign, limit in ((-1.0, self._low), (1.0, self._high)):
            end, last = sign * np.max(sign * said), sign * np.max(sign * expected)
            at_end = said == end
            if sign * end < sign * limit - 1e-6:
                count += int((at_end & (sign * (expected - end) > 0.01 * self.output.magnitude)).sum())
            if sign * last < sign * limit - 1e-6:
                stuck = np.flatnonzero(np.abs(expected - last) < 1e-7)
                count += len({found.pictures[i].tobytes() for i in stuck}) - 1
        return count

    def _saturation_fault(self, count: int, limit: float, frames: int) -> str:
        if count <= math.ceil(limit * frames):
            return ""
        verb = "steer" if self.output.positive == "right" else "answer"
        return f"{count} of {frames} frames saturated: the file cannot {verb} as far as they ask for"


def coefficient_of_determination(labels: Values, said: Values) -> float | None:
    """R² of (n,) numbers against the labels' own mean; None where these do not vary."""
    spread = float(((labels - labels.mean()) ** 2).sum())
    return 1.0 - float(((labels - said) ** 2).sum()) / spread if spread > 0 else None


def _column(values: Array) -> Values:
    """(n,) float64 of (n,) or (n, 1)."""
    return np.asarray(values, np.float64).reshape(len(values))
