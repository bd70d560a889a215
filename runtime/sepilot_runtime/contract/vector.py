"""Numbers that a model takes beside its picture: speed, the last angle, a one-hot command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sepilot_runtime.base.caps import VECTOR_SIZE
from sepilot_runtime.base.errors import ContractError

__all__ = ["Vector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A float32 input (1, size).

    Attributes:
        name: the model's input in its signature.
        columns: of a recording that hold its numbers, in order; none where that is not known.
    """

    kind: ClassVar[Literal["vector"]] = "vector"

    name: str
    size: int
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.size <= VECTOR_SIZE:
            raise ContractError(f"{self.name}: a size of 1 to {VECTOR_SIZE} expected, found {self.size}")
        if self.columns and len(self.columns) != self.size:
            raise ContractError(f"{self.name}: {self.size} columns expected, found {len(self.columns)}")

    @property
    def shape(self) -> tuple[int]:
        """Of one item."""
        return (self.size,)
