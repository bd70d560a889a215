"""How a number is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from sepilot_runtime.base.errors import RecipeError
from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.plots import Plot
from sepilot_train.base.ranges import require_in
from sepilot_train.fit.outputs.protocol import Labels, Motion
from sepilot_train.fit.outputs.scalar.metrics import BIN_EDGES, ScalarMetrics, scalar_metrics
from sepilot_train.fit.outputs.scalar.plots import plots_of
from sepilot_train.fit.settings import LossName, TrainingSettings

__all__ = ["ScalarTarget"]

BINS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarTarget:
    """A number per picture.

    Attributes:
        label: the recordings' column that it learns; "" for the one of its own name.
        unit, scale, low, high, positive: as in the contract. Without a scale degrees have the drives' full scale, and
            all else has 1.
        loss: None for `training.loss`.
        weight: of its loss in the sum of all.
        mirror: what a mirrored picture asks for: the negated number, or the same. What is negated also changes by
            `augmentation.shift_x_label` where pictures are shifted.
    """

    kind: ClassVar[Literal["scalar"]] = "scalar"
    mirrors: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    label: str = ""
    unit: str = ""
    scale: float | None = None
    low: float = -1.0
    high: float = 1.0
    positive: Literal["right", "forward", ""] = ""
    loss: LossName | None = None
    weight: float = 1.0
    mirror: Literal["negate", "keep"] = "keep"

    def __post_init__(self) -> None:
        require_in("weight", self.weight, 0, 1e6)
        if self.scale is not None:
            require_in("scale", self.scale, 1e-9, 1e9)
        if not self.low < self.high:
            raise RecipeError(f"low must lie below high, found {self.low} and {self.high}")
        if self.sideways and not self.low < 0 < self.high:
            raise RecipeError(f"mirror: negate takes a range around 0, found {self.low} to {self.high}")

    @property
    def sideways(self) -> bool:
        return self.mirror == "negate"

    def output(self, name: str, full_scale_deg: float) -> Scalar:
        scale = self.scale if self.scale is not None else full_scale_deg if self.unit == "deg" else 1.0
        return Scalar(name=name, unit=self.unit, scale=scale, low=self.low, high=self.high, positive=self.positive)

    def fitted(self, picture: Picture) -> Self:
        return self

    def settled(self, name: str, drives: Sequence[Drive], picture: Picture) -> Self:
        return self

    def remarks(self, train: Labels, validation: Labels) -> Sequence[str]:
        return ()

    def losses(self, name: str, settings: TrainingSettings) -> Mapping[str, Any]:
        import keras

        said = self.loss or settings.loss
        if said == "huber":
            return {name: keras.losses.Huber(delta=settings.huber_delta)}
        return {name: keras.losses.MeanSquaredError() if said == "mse" else keras.losses.MeanAbsoluteError()}

    def moved(self, labels: Labels, motion: Motion) -> Labels:
        return labels * motion.sign + motion.turned if self.sideways else labels

    def wanted(self, name: str, labels: Labels) -> Mapping[str, Labels]:
        return {name: labels[:, None]}

    def taught(self, name: str, said: Mapping[str, Labels]) -> Mapping[str, Labels]:
        return said

    def mae(self, labels: Labels, answers: Labels) -> float:
        return float(np.mean(np.abs(labels - answers)))

    def metrics(self, labels: Labels, answers: Labels, constant: float) -> ScalarMetrics:
        edges = BIN_EDGES if self.sideways else tuple(np.linspace(self.low, self.high, BINS + 1).tolist())
        return scalar_metrics(labels, answers, constant, edges=edges)

    def plots(self, labels: Array, answers: Array, metrics: ScalarMetrics, output: Scalar) -> tuple[Plot, ...]:
        return plots_of(labels, answers, metrics, output)
