"""Numbers that a net is given beside its pictures, as a recipe asks for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ContractError, RecipeError
from sepilot_runtime.contract.vector import Vector
from sepilot_train.base.ranges import require_in
from sepilot_train.fit.outputs.protocol import Target

__all__ = ["Numbers", "Vectors", "given"]

Vectors = Mapping[str, NDArray[np.float32]]
"""(n, size) by vector input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """One vector input of a net.

    Attributes:
        columns: of the recordings, one for each number; the one of the input's name where there is none.
        scale: what the numbers are divided by to be about 1, inside the net: files take them as the car has them.
        one_hot: what the places stand for, of which one column names one, 0 the first.
        previous: an output, whose answer to the frame before it is; in training, what was recorded there. A net learns
            easily to go on as before instead of looking ("causal confusion"): drives well over recordings, and badly on
            the road. `dropout` works against it.
        mirror: what a mirrored picture makes of the numbers; "" does to `previous` what its output asks for, and keeps
            others.
        mirror_pairs: places of `one_hot` that a mirrored picture turns into each other.
        dropout: share of the training pictures to which zeros are given instead.
    """

    columns: tuple[str, ...] = ()
    scale: float = 1.0
    one_hot: tuple[str, ...] = ()
    previous: str = ""
    mirror: Literal["", "keep", "negate"] = ""
    mirror_pairs: tuple[tuple[str, str], ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_in("scale", self.scale, 1e-6, 1e6)
        require_in("dropout", self.dropout, 0, 0.95)
        if self.one_hot and (self.mirror == "negate" or self.scale != 1):
            raise RecipeError("one_hot: places are neither negated nor divided; no mirror and no scale expected")
        paired = [name for pair in self.mirror_pairs for name in pair]
        if len(set(paired)) < len(paired) or not set(paired) <= set(self.one_hot):
            expected = f"places of one_hot ({', '.join(self.one_hot) or 'none'}), each once,"
            raise RecipeError(f"mirror_pairs: {expected} expected, found {', '.join(paired)}")

    def settled(self, name: str, targets: Mapping[str, Target]) -> Numbers:
        """With everything said that depends on the input's name and on the outputs."""
        if self.previous and self.previous not in targets:
            raise RecipeError(f"previous: one of {', '.join(targets)} expected, found {self.previous}")
        before = targets.get(self.previous)
        column = (before.label or self.previous) if before else name
        mirror = self.mirror or ("negate" if before and before.sideways else "keep")
        return dataclasses.replace(self, columns=self.columns or (column,), mirror=mirror)

    def vector(self, name: str) -> Vector:
        """What the contract says of it, once settled. Raises RecipeError."""
        size = len(self.one_hot) or len(self.columns)
        try:
            return Vector(
                name=name, size=size, columns=self.columns, one_hot=self.one_hot, previous=self.previous
            )  # fmt: skip
        except ContractError as e:
            raise RecipeError(str(e)) from e

    def moved(self, values: NDArray[np.float32], mirrored: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Values (batch, size) beside pictures of which some are mirrored, (batch,)."""
        turned = -values if self.mirror == "negate" else values
        order = np.arange(values.shape[1])
        for one, other in self.mirror_pairs:
            a, b = self.one_hot.index(one), self.one_hot.index(other)
            order[[a, b]] = b, a
        return np.where(mirrored[:, np.newaxis], turned[:, order], values)


def given(
    numbers: Mapping[str, Numbers], vectors: Vectors, mirrored: NDArray[np.bool_], chances: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """What goes beside a batch of augmented pictures.

    Args:
        vectors: of the pictures as they were recorded, (batch, size) each.
        chances: (batch, inputs) in [0, 1).
    """
    return {
        name: numbers[name].moved(values, mirrored) * (chances[:, [place]] >= numbers[name].dropout)
        for place, (name, values) in enumerate(vectors.items())
    }
