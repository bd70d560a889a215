"""What a model's numbers mean that finds the points of one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from sepilot_runtime.base.errors import ContractError

__all__ = ["Normalizer", "Points", "require_pairs"]

Normalizer = Literal["box", "picture"] | tuple[str, str]
"""What the mean distance of points to where they belong is divided by: `Points.normalize_by`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """The points of one thing per picture, and whether it is there.

    A point's two numbers are its x and y, in fractions of the picture's width and height from its left upper corner, as
    they come from the last layer: without an activation int8 has steps of one size over the whole picture, where those
    of a sigmoid's argument are twice as large in the middle, where most points lie.

    Attributes:
        name: of the output; its tensors are `<name>.places` and, apart from it because int8 gives each tensor one size
            of steps, `<name>.presence`, the logit of the thing's probability.
        names: of the points, in the order of the numbers.
        presence: can pictures hold nothing? Otherwise the places are all, in one tensor called `name`.
        presence_from: a thing less probable than this is not there.
        flip_pairs: points that change their places where a thing is seen in a mirror; for people and trainings.
        skeleton: points that lines are drawn between.
        normalize_by: what an error is a share of: the distance of two points of the label, such as the outer corners of
            the eyes, or the label's "box", the root of its area, or the "picture", its sides.
    """

    kind: ClassVar[Literal["points"]] = "points"
    unit: ClassVar[str] = "percent"
    scale: ClassVar[float] = 100.0
    magnitude: ClassVar[float] = 1.0
    full_scale: ClassVar[float] = 100.0
    fine: ClassVar[float] = 0.01

    name: str
    names: tuple[str, ...]
    presence: bool = False
    presence_from: float = 0.5
    flip_pairs: tuple[tuple[str, str], ...] = ()
    skeleton: tuple[tuple[str, str], ...] = ()
    normalize_by: Normalizer = "picture"

    def __post_init__(self) -> None:
        where = f"outputs.{self.name}"
        if not self.names:
            raise ContractError(f"{where}.names: a point or more expected, found none")
        if len(set(self.names)) < len(self.names) or not all(self.names):
            raise ContractError(f"{where}.names: different names expected, found {', '.join(self.names)[:200]}")
        if not 0 < self.presence_from < 1:
            raise ContractError(f"{where}.presence_from: must be in (0, 1), found {self.presence_from}")
        try:
            require_pairs(self.names, self.flip_pairs, self.skeleton, self.normalize_by)
        except ValueError as e:
            raise ContractError(f"{where}.{e}") from e

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one answer: x and y of each point in turn, then the presence where there is one."""
        return (2 * len(self.names) + self.presence,)

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        places = (2 * len(self.names),)
        return {f"{self.name}.places": places, f"{self.name}.presence": (1,)} if self.presence else {self.name: places}

    def pair(self, pair: Sequence[str]) -> tuple[int, int]:
        """The places of two points among the names."""
        return self.names.index(pair[0]), self.names.index(pair[1])


def require_pairs(
    names: Sequence[str],
    flip_pairs: Sequence[tuple[str, str]],
    skeleton: Sequence[tuple[str, str]],
    normalize_by: str | tuple[str, str],
) -> None:
    """Raise ValueError, whose line begins with the attribute, where pairs are no pairs of two of the points."""
    flipped = [name for pair in flip_pairs for name in pair]
    if len(set(flipped)) < len(flipped):
        twice = next(name for name in flipped if flipped.count(name) > 1)
        raise ValueError(f"flip_pairs: each point in one pair expected, found {twice} twice")
    by = [] if isinstance(normalize_by, str) else [normalize_by]
    for key, pairs in (("flip_pairs", flip_pairs), ("skeleton", skeleton), ("normalize_by", by)):
        for one, other in pairs:
            if one == other:
                raise ValueError(f"{key}: two points expected, found {one} twice")
            if strange := [name for name in (one, other) if name not in names]:
                some = f"{', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
                raise ValueError(f"{key}: points among {some} expected, found {strange[0]}")
