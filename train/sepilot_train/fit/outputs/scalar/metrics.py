"""How good a number is on frames that it was not trained on, always beside the constant prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.protocol import Output
from sepilot_runtime.contract.outputs.scalar.task import coefficient_of_determination
from sepilot_runtime.contract.outputs.units import amount
from sepilot_train.fit.outputs.protocol import Told

__all__ = ["BIN_EDGES", "BinError", "ScalarMetrics", "scalar_metrics"]

BIN_EDGES = (-1.0, -0.6, -0.3, -0.05, 0.05, 0.3, 0.6, 1.0)
"""Edges of the bins of what turns, in label units: hard left to hard right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BinError:
    """Error where the label lies in [low, high). `mae` and `bias` (mean signed error) are None for an empty bin."""

    low: float
    high: float
    count: int
    mae: float | None
    bias: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarMetrics:
    """All errors in label units.

    Attributes:
        r2: coefficient of determination against the mean of these labels; None where the labels do not vary.
        mae_nonzero: MAE where the label is not exactly 0; None where all are.
        constant_mae, constant_r2: of always answering `constant`, the training labels' mean.
        sign_errors: share of frames answered with the wrong sign, where label and prediction both exceed 0.05.
    """

    kind: ClassVar[str] = "scalar"

    count: int
    r2: float | None
    mae: float
    rmse: float
    mae_nonzero: float | None
    constant: float
    constant_mae: float
    constant_r2: float | None
    sign_errors: float
    bins: tuple[BinError, ...]

    @property
    def figures(self) -> Mapping[str, float]:
        found = {
            "r2": self.r2,
            "mae": self.mae,
            "mae_nonzero": self.mae_nonzero,
            "constant_mae": self.constant_mae,
            "frames": float(self.count),
        }
        return {name: value for name, value in found.items() if value is not None}

    def told(self, output: Output) -> tuple[Told, ...]:
        def size(error: float | None) -> str:
            return "n/a" if error is None else amount(error * output.scale, output, 2 if output.unit == "deg" else 3)

        r2 = "n/a" if self.r2 is None else f"{self.r2:.3f}".replace("-", "\N{MINUS SIGN}")
        sides = self.bins[0].low < 0
        return (
            Told(name="R²", value=r2, remark="1 is perfect, 0 knows nothing"),
            Told(name="Mean error", value=size(self.mae), remark=f"{self.mae:.4f} of full scale", plain=True),
            Told(name="Mean error, label ≠ 0", value=size(self.mae_nonzero), remark="where the driver did something"),
            Told(
                name="Constant answer", value=size(self.constant_mae), remark="mean of the training labels", plain=True
            ),
            *([Told(name="Wrong side", value=f"{self.sign_errors:.1%}", remark="of turning frames")] if sides else ()),
        )


def scalar_metrics(
    labels: NDArray[np.floating],
    predictions: NDArray[np.floating],
    constant: float,
    *,
    edges: Sequence[float] = BIN_EDGES,
) -> ScalarMetrics:
    """Compare (n,) predictions with (n,) labels, n >= 1.

    Args:
        constant: the mean of the training labels.
        edges: of the bins.
    """
    y = labels.astype(np.float64)
    p = predictions.astype(np.float64)
    error = p - y
    nonzero = y != 0.0
    turning = (np.abs(y) > 0.05) & (np.abs(p) > 0.05)
    return ScalarMetrics(
        count=int(y.size),
        r2=coefficient_of_determination(y, p),
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        mae_nonzero=float(np.abs(error[nonzero]).mean()) if nonzero.any() else None,
        constant=constant,
        constant_mae=float(np.abs(y - constant).mean()),
        constant_r2=coefficient_of_determination(y, np.full_like(y, constant)),
        sign_errors=float((np.sign(y[turning]) != np.sign(p[turning])).mean()) if turning.any() else 0.0,
        bins=tuple(_bin(y, error, low, high, last=high == edges[-1]) for low, high in pairwise(edges)),
    )


def _bin(y: NDArray[np.float64], error: NDArray[np.float64], low: float, high: float, *, last: bool) -> BinError:
    inside = (y >= low) & ((y <= high) if last else (y < high))
    here = error[inside]
    return BinError(
        low=low,
        high=high,
        count=int(here.size),
        mae=float(np.abs(here).mean()) if here.size else None,
        bias=float(here.mean()) if here.size else None,
    )
