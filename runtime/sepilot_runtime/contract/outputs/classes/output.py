"""What a model's numbers mean that tells classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from sepilot_runtime.base.errors import ContractError

__all__ = ["Classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """One class per picture, by a number for each of them.

    Attributes:
        name: of the output in the model's signature.
        names: of the classes, in the order of the numbers.
        gives: "logits", whose softmax is the classes' probabilities, or these themselves.
        reject_below: where the most probable class is less probable than this, the answer is that nothing was
            recognized; 0 always answers.
    """

    kind: ClassVar[Literal["classes"]] = "classes"
    unit: ClassVar[str] = ""
    scale: ClassVar[float] = 1.0
    magnitude: ClassVar[float] = 1.0
    full_scale: ClassVar[float] = 1.0
    fine: ClassVar[float] = 1e-3

    name: str
    names: tuple[str, ...]
    gives: Literal["logits", "probabilities"] = "logits"
    reject_below: float = 0.0

    def __post_init__(self) -> None:
        where = f"outputs.{self.name}"
        if len(self.names) < 2:
            raise ContractError(f"{where}.names: two classes or more expected, found {len(self.names)}")
        if len(set(self.names)) < len(self.names) or not all(self.names):
            raise ContractError(f"{where}.names: different names expected, found {', '.join(self.names)[:200]}")
        if not 0 <= self.reject_below < 1:
            raise ContractError(f"{where}.reject_below: must be in [0, 1), found {self.reject_below}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one answer."""
        return (len(self.names),)

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        return {self.name: self.shape}
