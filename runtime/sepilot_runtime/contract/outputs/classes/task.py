"""Arithmetic of classes: which one, how sure, and what a file may change about it.

Distances are of probabilities. That a file's probabilities move is no fault by itself: what counts is whether the class
changes, where the training model was sure of it (`flips`) and in the mean against the labels (`mae_increase`, whose
error is 0 for the right class and 1 for a wrong one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.classes.output import Classes
from sepilot_runtime.contract.outputs.increase import increase, increase_fault, increase_remark
from sepilot_runtime.contract.outputs.protocol import Array, Box, Color, Evidence, GateRule, Tail, Window

__all__ = ["ClassesTask", "probabilities"]

Values = NDArray[np.float64]

SURE = 0.5
"""Probability from which on a class is held to be said rather than guessed."""

LIMITS: Mapping[str, Mapping[str, float]] = {
    "p99_error": {"float32": 1e-4, "float16": 2e-2, "dynamic": 0.2, "int8": 0.3, "int8-float-head": 0.3},
    "mae_increase": {"float32": 1e-5, "float16": 1e-3, "dynamic": 3e-3, "int8": 3e-3, "int8-float-head": 3e-3},
    "flips": {"float32": 0.0, "float16": 2e-3, "dynamic": 1e-2, "int8": 1e-2, "int8-float-head": 1e-2},
}
"""By gate and precision. Where two classes are equally probable, int8 moves either by a lot and harms nobody."""


class ClassesTask:
    """Of classes with equal numbers the first one is meant, as the car decides it."""

    has_places = False
    ends = ("less sure", "surer")
    span = (0.0, 1.0)
    contrary_means = f"of another class, both with a probability of {SURE:g} or more"

    def __init__(self, output: Classes) -> None:
        self.output = output

    def decode(self, raw: NDArray[np.float32]) -> dict[str, Any]:
        """{"class": its name, None where it is below `reject_below`; "probability": of the most probable one}."""
        numbers = raw.reshape(-1).astype(np.float64)
        best = int(numbers.argmax())
        sure = float(numbers[best])
        if self.output.gives == "logits":
            # The best one's share of the softmax alone, as this runs for every frame.
            sure = 1.0 / float(np.exp(numbers - sure).sum())
        return {"class": self.output.names[best] if sure >= self.output.reject_below else None, "probability": sure}

    def in_frame(self, value: Any, window: Window) -> Any:
        return value

    def labels(self, recorded: Array, names: Sequence[str], windows: Values) -> NDArray[np.float32]:
        """(n,) places among the output's names, NaN for a class that is none of them."""
        own = {name: place for place, name in enumerate(self.output.names)}
        table = np.array([own.get(name, np.nan) for name in names or self.output.names] + [np.nan], np.float32)
        known = np.isfinite(recorded) & (recorded >= 0) & (recorded < len(table) - 1)
        return np.asarray(table[np.where(known, np.nan_to_num(recorded), len(table) - 1).astype(np.int64)])

    def known(self, labels: Array) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(labels))

    def deviation(self, a: Array, b: Array) -> Values:
        return self.distance(a, b)

    def distance(self, a: Array, b: Array) -> Values:
        """Of the probability that changes most."""
        return np.asarray(np.abs(self._of(a) - self._of(b)).max(axis=1))

    def error(self, said: Array, label: Array) -> Values:
        """0 for the right class, 1 for a wrong one."""
        return self.label_error(self._best(said).astype(np.float64), label)

    def label_error(self, said: Array, label: Array) -> Values:
        return np.where(np.isfinite(said) & np.isfinite(label), said != label, np.nan).astype(np.float64)

    def constant(self, labels: Array) -> list[float]:
        """The share of each class."""
        known = labels[np.isfinite(labels)].astype(np.int64)
        shares = (np.bincount(known, minlength=len(self.output.names)) + 1e-6) / (len(known) + 1e-6)
        return [float(s) for s in (shares if self.output.gives == "probabilities" else np.log(shares))]

    def r2(self, said: Array, labels: Array) -> float | None:
        return None

    def reading(self, said: Array, about: Array | None = None) -> Values:
        """The probability of the class that `about` finds most probable."""
        mine = self._of(said)
        best = np.broadcast_to(self._best(said if about is None else about), len(mine))
        return np.asarray(mine[np.arange(len(mine)), best])

    def contrary(self, a: Array, b: Array) -> NDArray[np.bool_]:
        return np.asarray((self._best(a) != self._best(b)) & (self.reading(a) >= SURE) & (self.reading(b) >= SURE))

    def asked(self, labels: Array) -> Mapping[str, tuple[float, float]]:
        return {}

    def ordered(self, said: Array) -> NDArray[np.int64]:
        """From the surest of the first class to the surest of the last one."""
        best, sure = self._best(said), self.reading(said)
        first_half = best < len(self.output.names) / 2
        return np.lexsort((np.where(first_half, -sure, sure), best))

    def tails(self, said: Array, label: Array | None) -> list[Tail]:
        best, sure = self._best(said), self.reading(said)
        surest = np.argsort(-sure, kind="stable")
        # Of each class the surest, then the second of each, and so on.
        turn = np.empty(len(best), np.int64)
        for kind in np.unique(best):
            own = surest[best[surest] == kind]
            turn[own] = np.arange(len(own))
        return [
            Tail(reason="surest of its class", share=0.16, order=np.lexsort((-sure, turn))),
            Tail(reason="least sure", share=0.16, order=np.argsort(sure, kind="stable")),
        ]

    def ranked(self, said: Array) -> Sequence[tuple[str, float]]:
        mine = self._of(said)[0]
        return [(self.output.names[place], float(mine[place])) for place in np.argsort(-mine, kind="stable").tolist()]

    def words(self, value: Any) -> str:
        """Of an answer "stop 97 %", of a label "stop"."""
        if not isinstance(value, Mapping):
            return self.output.names[int(value)] if np.isfinite(value) else "unknown"
        return f"{value['class'] or 'not recognized'} {value['probability']:.0%}"

    def draw(self, canvas: NDArray[np.uint8], value: Any, box: Box, color: Color, recorded: Any = None) -> None:
        from sepilot_runtime.contract.outputs.classes.drawing import draw_probability

        wrong = recorded is not None and np.isfinite(recorded) and self.words(recorded) != value["class"]
        draw_probability(canvas, value["probability"], box, color, wrong=bool(wrong))

    def draw_on(self, frame: NDArray[np.uint8], value: Any, recorded: Any = None) -> None:
        """The whole picture is of a class."""

    def gates(self) -> tuple[GateRule, ...]:
        return (
            GateRule(name="p99_error", figure=self._p99_error, fault=_error_fault, limits=LIMITS["p99_error"]),
            GateRule(
                name="mae_increase", figure=self._increase, fault=increase_fault("error rate"),
                remark=increase_remark("error rate"), limits=LIMITS["mae_increase"],
            ),
            GateRule(name="flips", figure=self._flips, fault=_flip_fault, limits=LIMITS["flips"]),
        )  # fmt: skip

    def _of(self, answers: Array) -> Values:
        return probabilities(answers) if self.output.gives == "logits" else np.asarray(answers, np.float64)

    def _best(self, answers: Array) -> NDArray[np.int64]:
        return np.asarray(np.asarray(answers).reshape(len(answers), -1).argmax(axis=1))

    def _p99_error(self, found: Evidence) -> float:
        return float(np.quantile(self.distance(found.said, found.expected), 0.99))

    def _increase(self, found: Evidence) -> Any:
        return increase(self, found)

    def _flips(self, found: Evidence) -> float:
        """Pictures of another class than the training model says, where that is sure."""
        changed = self._best(found.said) != self._best(found.expected)
        return float((changed & (self.reading(found.expected) >= SURE)).sum())


def probabilities(logits: Array) -> Values:
    """Softmax of (n, classes)."""
    logits = np.asarray(logits, np.float64)
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def _error_fault(error: float, limit: float, _pictures: int) -> str:
    return (
        "" if error <= limit else f"one picture in a hundred has a probability moved by {error:.3g}, {limit:g} allowed"
    )


def _flip_fault(flips: float, limit: float, pictures: int) -> str:
    if flips <= math.ceil(limit * pictures):
        return ""
    return f"{flips:.0f} of {pictures} pictures of another class where the training model is sure, {limit:.1%} allowed"
