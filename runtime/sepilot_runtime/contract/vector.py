"""Numbers that a model takes beside its picture: speed, the last angle, a one-hot command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.caps import VECTOR_SIZE
from sepilot_runtime.base.errors import ContractError

__all__ = ["Vector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A float32 input (1, size), in the recording's own units: what brings numbers to about 1 is part of the model.

    Attributes:
        name: the model's input in its signature.
        columns: of a recording that hold its numbers, in order; none where that is not known.
        one_hot: what the places stand for, of which the one column names one (0 is the first); that one is 1.
        previous: an output, whose answer to the frame before it is; 0 where there was none. `columns` is then where a
            recording has it.
    """

    kind: ClassVar[Literal["vector"]] = "vector"

    name: str
    size: int
    columns: tuple[str, ...] = ()
    one_hot: tuple[str, ...] = ()
    previous: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= VECTOR_SIZE:
            raise ContractError(f"{self.name}: a size of 1 to {VECTOR_SIZE} expected, found {self.size}")
        if self.one_hot and (len(self.one_hot), len(self.columns)) != (self.size, 1):
            raise ContractError(
                f"{self.name}: one column of {self.size} places expected, found {len(self.columns)} of "
                f"{len(self.one_hot)}"
            )
        if self.columns and not self.one_hot and len(self.columns) != self.size:
            raise ContractError(f"{self.name}: {self.size} columns expected, found {len(self.columns)}")
        if self.previous and (self.size != 1 or self.one_hot):
            raise ContractError(f"{self.name}: one number expected of the answer before, found {self.size}")

    @property
    def shape(self) -> tuple[int]:
        """Of one item."""
        return (self.size,)

    def numbers(self, labels: Mapping[str, NDArray[Any]], before: NDArray[np.int64]) -> NDArray[np.float32]:
        """Its values for n frames, (n, size) float32, from what was recorded beside them.

        Args:
            labels: (n,) by column, NaN where there is none; with all of `columns`.
            before: (n,) place of the frame before, -1 where there is none.

        Returns:
            NaN in the rows that cannot be told: no number, or a place that `one_hot` does not have.
        """
        found = np.stack([np.asarray(labels[column], np.float32) for column in self.columns], axis=1)
        if self.previous:
            return np.where(before[:, np.newaxis] < 0, np.float32(0), np.nan_to_num(found[before], nan=0.0))
        if self.one_hot:
            return np.where(np.isin(found, range(self.size)), found == np.arange(self.size), np.nan).astype(np.float32)
        return found
