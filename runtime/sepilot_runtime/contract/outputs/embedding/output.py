"""What a model's numbers mean that are compared with those for other pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from sepilot_runtime.base.errors import ContractError

__all__ = ["Embedding"]

MOST_NUMBERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """A vector per picture; vectors of one identity (a person, a letter, a place) are alike.

    Attributes:
        name: of the output in the model's signature.
        size: numbers of the vector, which is of any length: it is brought to length 1 outside of the model, as an int8
            graph that does so loses four times as much.
        metric: what likeness is: the cosine of the angle between two vectors.
        threshold: similarity from which on two pictures are taken for the same identity.
        false_accept_rate: share of pairs of different identities, none of them trained on, that this lets pass.
    """

    kind: ClassVar[Literal["embedding"]] = "embedding"
    unit: ClassVar[str] = ""
    scale: ClassVar[float] = 1.0
    magnitude: ClassVar[float] = 1.0
    full_scale: ClassVar[float] = 1.0
    fine: ClassVar[float] = 1e-4

    name: str
    size: int
    metric: Literal["cosine"] = "cosine"
    threshold: float = 0.5
    false_accept_rate: float = 0.01

    def __post_init__(self) -> None:
        where = f"outputs.{self.name}"
        if not 2 <= self.size <= MOST_NUMBERS:
            raise ContractError(f"{where}.size: must be in [2, {MOST_NUMBERS}], found {self.size}")
        if not -1 <= self.threshold <= 1:
            raise ContractError(f"{where}.threshold: a cosine in [-1, 1] expected, found {self.threshold}")
        if not 0 < self.false_accept_rate < 1:
            raise ContractError(f"{where}.false_accept_rate: must be in (0, 1), found {self.false_accept_rate}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one answer."""
        return (self.size,)

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        return {self.name: self.shape}
