"""A second kind of output, planted: which of two things a picture shows. Answers are two numbers, the larger one wins.

Whatever knows no kind must take it: its answers have another shape than a number's, no range, no sides and no unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_runtime.contract import contract as contracts
from sepilot_runtime.contract.outputs import kinds
from sepilot_runtime.contract.outputs.protocol import Array, Box, Color, Evidence, GateRule, Output
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_train.base.plots import Plot
from sepilot_train.fit.outputs.protocol import Labels, Motion, Told
from sepilot_train.fit.outputs.scalar.metrics import ScalarMetrics
from sepilot_train.fit.outputs.scalar.target import ScalarTarget
from sepilot_train.fit.settings import TrainingSettings
from sepilot_train.run import recipe, validation

__all__ = ["Choice", "ChoiceTask", "plant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of two `names`; the second one where the label is above 0.5."""

    kind: ClassVar[Literal["choice"]] = "choice"
    unit: ClassVar[str] = ""
    scale: ClassVar[float] = 1.0
    magnitude: ClassVar[float] = 1.0
    full_scale: ClassVar[float] = 1.0
    fine: ClassVar[float] = 1e-3
    shape: ClassVar[tuple[int, ...]] = (2,)

    name: str
    names: tuple[str, str] = ("no", "yes")


class ChoiceTask:
    """Probabilities are the softmax of the answers."""

    ends, span, contrary_means = ("less sure", "surer"), (0.0, 1.0), "of the other choice"

    def __init__(self, output: Choice) -> None:
        self.output = output

    def decode(self, raw: NDArray[np.float32]) -> int:
        return int(raw.argmax())

    def distance(self, a: Array, b: Array) -> NDArray[np.float64]:
        return np.abs(_yes(a) - _yes(b))

    def error(self, said: Array, label: Array) -> NDArray[np.float64]:
        return np.where(np.isfinite(label), (_yes(said) > 0.5) != (label > 0.5), np.nan).astype(np.float64)

    def constant(self, labels: Array) -> NDArray[np.float64]:
        return np.array([0.0, 1.0] if np.mean(labels > 0.5) > 0.5 else [1.0, 0.0])

    def r2(self, said: Array, labels: Array) -> float | None:
        return None

    def reading(self, said: Array, about: Array | None = None) -> NDArray[np.float64]:
        yes, wanted = _yes(said), _yes(said if about is None else about) > 0.5
        return np.where(wanted, yes, 1 - yes)

    def contrary(self, a: Array, b: Array) -> NDArray[np.bool_]:
        return np.asarray((_yes(a) > 0.5) != (_yes(b) > 0.5))

    def asked(self, labels: Array) -> tuple[float, float]:
        return -1.0, 1.0

    def gates(self) -> tuple[GateRule, ...]:
        limits = {"float32": 0.0, "float16": 0.01, "dynamic": 0.02, "int8": 0.05, "int8-float-head": 0.05}
        return (GateRule(name="changed", figure=self._changed, fault=_fault, limits=limits),)

    def tails(self, said: Array, label: Array | None) -> list[NDArray[np.int64]]:
        order = np.argsort(_yes(said), kind="stable")
        return [order, order[::-1]]

    def words(self, value: Any) -> str:
        return self.output.names[int(value > 0.5)]

    def draw(self, canvas: NDArray[np.uint8], value: Any, box: Box, color: Color, recorded: Any = None) -> None:
        x, y, width, height = box
        canvas[y : y + height, x + int(value) * width // 2 :][:, : width // 2] = color

    def _changed(self, found: Evidence) -> float:
        return float(self.contrary(found.said, found.expected).mean())


def _yes(answers: Array) -> NDArray[np.float64]:
    answers = np.asarray(answers, np.float64).reshape(-1, 2)
    return 1 / (1 + np.exp(answers[:, 0] - answers[:, 1]))


def _fault(changed: float, limit: float, frames: int) -> str:
    return "" if changed <= limit else f"{changed:.1%} of {frames} frames with another choice, {limit:.1%} allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceMetrics:
    kind: ClassVar[Literal["choice"]] = "choice"
    r2: ClassVar[None] = None
    constant_r2: ClassVar[None] = None

    count: int
    mae: float
    constant: tuple[float, float]
    constant_mae: float

    @property
    def figures(self) -> Mapping[str, float]:
        return {"mae": self.mae, "constant_mae": self.constant_mae}

    def told(self, output: Output) -> tuple[Told, ...]:
        return (Told(name="Wrong choices", value=f"{self.mae:.1%}", remark=f"constant {self.constant_mae:.1%}"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceTarget:
    kind: ClassVar[Literal["choice"]] = "choice"

    label: str = ""
    weight: float = 1.0
    names: tuple[str, str] = ("no", "yes")

    @property
    def sideways(self) -> bool:
        return False

    def output(self, name: str, full_scale_deg: float) -> Choice:
        return Choice(name=name, names=self.names)

    def loss_of(self, settings: TrainingSettings) -> Any:
        import keras

        def loss(labels: Any, answers: Any) -> Any:
            yes = keras.ops.cast(labels[:, 0] > 0.5, "int32")
            return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(yes, answers, from_logits=True))

        return loss

    def moved(self, labels: Labels, motion: Motion) -> Labels:
        return labels

    def mae(self, labels: Labels, answers: Labels) -> float:
        return float(ChoiceTask(Choice(name="")).error(answers, labels).mean())

    def metrics(self, labels: Labels, answers: Labels, constant: Any) -> ChoiceMetrics:
        still = np.broadcast_to(constant, answers.shape)
        return ChoiceMetrics(
            count=len(labels),
            mae=self.mae(labels, answers),
            constant=(float(constant[0]), float(constant[1])),
            constant_mae=self.mae(labels, still),
        )

    def plots(self, labels: Array, answers: Array, metrics: ChoiceMetrics, output: Choice) -> tuple[Plot, ...]:
        return (
            Plot(
                name="sure",
                title="How sure it is",
                x="probability",
                y="frames",
                label="frames by probability",
                draw=lambda ax: ax.hist(_yes(answers)),
            ),
        )


def plant(patch: pytest.MonkeyPatch) -> None:
    """The two folders, and the lines of the two tables that list them."""
    patch.setattr(kinds, "KINDS", {**kinds.KINDS, Choice.kind: ChoiceTask})
    patch.setattr(contracts, "AnyOutput", Scalar | Choice)
    patch.setattr(recipe, "AnyTarget", ScalarTarget | ChoiceTarget)
    patch.setattr(validation, "AnyMetrics", ScalarMetrics | ChoiceMetrics)
