"""Arithmetic of numbers: how far apart, how wrong, what is too much."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean
from sepilot_runtime.contract.outputs.protocol import Array, Box, Color, Evidence, GateRule
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

    def distance(self, a: Array, b: Array) -> Values:
        return np.abs(self._clipped(a) - self._clipped(b)) * self.output.scale

    def error(self, said: Array, label: Array) -> Values:
        return np.abs(self._clipped(said) - _column(label))

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

    def asked(self, labels: Array) -> tuple[float, float]:
        known = labels[np.isfinite(labels)].clip(self._low, self._high)
        return float(known.min(initial=0.0)), float(known.max(initial=0.0))

    def tails(self, said: Array, label: Array | None) -> list[NDArray[np.int64]]:
        """From the lowest answer, from the highest, from the largest label to either side."""
        keys = [_column(said), -_column(said)]
        if label is not None:
            keys.append(-np.abs(np.nan_to_num(_column(label))))
        return [np.argsort(key, kind="stable") for key in keys]

    def words(self, value: float) -> str:
        from sepilot_runtime.contract.outputs.scalar.drawing import words

        return words(value * self.output.scale, self.output)

    def draw(
        self, canvas: NDArray[np.uint8], value: float, box: Box, color: Color, recorded: float | None = None
    ) -> None:
        from sepilot_runtime.contract.outputs.scalar.drawing import draw_gauge

        draw_gauge(canvas, value, self.output, box, color, recorded)

    def gates(self) -> tuple[GateRule, ...]:
        sides = (GateRule(name="sign_flips", figure=self._sign_flips, fault=self._flip_fault),)
        return (
            GateRule(name="max_error", figure=self._max_error, fault=self._error_fault),
            GateRule(name="mae_increase", figure=self._increase, fault=_increase_fault, remark=_increase_remark),
            *(sides if self._low < 0 < self._high else ()),
            GateRule(name="saturated", figure=self._saturated, fault=self._saturation_fault),
        )

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
        """How much larger the task's error is than the training model's, paired; None without labels.

        The difference of two errors on the same frame varies far less than either.
        """
        label = _column(found.labels)
        known = np.isfinite(label)
        if not known.any():
            return None
        ours, theirs = (self.error(_column(v)[known], label[known]) for v in (found.said, found.expected))
        return paired_bootstrap_mean(ours - theirs, [d for d, k in zip(found.drives, known, strict=True) if k])

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


def _increase_fault(increase: Interval | None, limit: float, _frames: int) -> str:
    """The task's error must stay below its limit with the whole of its interval.

    Where the frames are too few for that, only an interval that lies above the limit altogether counts.
    """
    if increase is None or (increase.high if _can_tell(increase, limit) else increase.low) <= limit:
        return ""
    return (
        f"task MAE {increase.mean:+.5f}, 95 % within {increase.low:+.5f} to {increase.high:+.5f}, {limit:+.5f} allowed"
    )


def _increase_remark(increase: Interval | None, limit: float) -> str:
    if increase is None or _can_tell(increase, limit):
        return ""
    return "too few held-out frames to judge the change of the task MAE; judged by the errors of single frames"


def _can_tell(increase: Interval, limit: float) -> bool:
    """Is the interval narrow enough for the limit: would a file that costs nothing pass?"""
    return increase.high - increase.low <= limit
