"""What a recipe says about its net, the section `model`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.base.ranges import require_in

__all__ = ["ModelSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Which net: one of the two.

    Attributes:
        builder: a name in `sepilot_train.models`, or "my_nets.py:build": a function of one's own, called as those there
            are, in a file beside the recipe.
        keras: a .keras file beside the recipe, whose weights are gone on from.
        options: the keyword arguments of the builder.
        max_parameters: the most that the net may have, with the statistics of batch normalizations; 0: any number.
        only: "separable": no convolution mixes neighbouring pixels and channels at once, not the first one either.
    """

    builder: str = ""
    keras: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    max_parameters: int = 0
    only: Literal["", "separable"] = ""

    def __post_init__(self) -> None:
        require_in("max_parameters", self.max_parameters, 0, 1e12)
        if bool(self.builder) == bool(self.keras):
            raise RecipeError(f"one of builder and keras expected, found {'both' if self.keras else 'neither'}")

    @property
    def own_code(self) -> tuple[Path, str] | None:
        """File and function of a builder of one's own."""
        file, _, function = self.builder.rpartition(":")
        return (Path(file), function) if file.endswith(".py") else None

    def found_in(self, folder: Path) -> ModelSettings:
        """With files as whole paths, which are meant from `folder` on."""
        if self.keras:
            return dataclasses.replace(self, keras=str((folder / self.keras).resolve()))
        if own := self.own_code:
            return dataclasses.replace(self, builder=f"{(folder / own[0]).resolve()}:{own[1]}")
        return self
