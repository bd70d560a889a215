"""What one number of a model means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from sepilot_runtime.base.errors import ContractError

__all__ = ["Scalar"]

FULL_TURN_DEG = 360.0
"""Recordings tell the steering wheel's angle in some cases, which turns further than wheels do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One number per picture.

    Attributes:
        name: of the output in the model's signature.
        unit, scale: `value * scale` is in `unit` ("deg": full scale 1.0 is `scale` degrees; "" for a plain number).
        low, high: the range of meaningful values; the runtime clips to it and `check` counts saturation.
        positive: the direction of a positive value; "" where it has none. What turns to the "right" lies in [-1, 1],
            with straight ahead inside and neither side more than twice the other.
    """

    kind: ClassVar[Literal["scalar"]] = "scalar"

    name: str
    unit: str = ""
    scale: float = 1.0
    low: float = -1.0
    high: float = 1.0
    positive: Literal["right", "forward", ""] = ""

    def __post_init__(self) -> None:
        where, most = f"outputs.{self.name}", FULL_TURN_DEG if self.unit == "deg" else math.inf
        if not (0 < self.scale <= most and math.isfinite(self.scale)):
            limits = f"in (0, {most:g}]" if math.isfinite(most) else "a finite number above 0"
            raise ContractError(f"{where}.scale: must be {limits}, found {self.scale}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ContractError(f"{where}: low must lie below high, found {self.low} and {self.high}")
        sides = self.positive == "right"
        if sides and not (-1 <= self.low < 0 < self.high <= 1 and 0.5 <= -self.low / self.high <= 2):
            raise ContractError(
                f"{where}: a range around 0 within [-1, 1] expected, neither side more than twice the other, found "
                f"{self.low} to {self.high}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one answer."""
        return (1,)

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        return {self.name: self.shape}

    @property
    def magnitude(self) -> float:
        """Half of the range, and 1 for what lies within [-1, 1]."""
        return max(1.0, (self.high - self.low) / 2)

    @property
    def full_scale(self) -> float:
        return self.magnitude * self.scale

    @property
    def fine(self) -> float:
        """In `unit`: 0.01 degrees, a 2,500th of another number's full scale."""
        return 0.01 if self.unit == "deg" else self.full_scale / 2500
