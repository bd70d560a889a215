"""What a model's numbers mean that finds things in a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from sepilot_runtime.base.caps import LIST_ENTRIES
from sepilot_runtime.base.errors import ContractError

__all__ = ["MOST_CANDIDATES", "Anchors", "Boxes", "Grid"]

Grid = tuple[tuple[int, int], ...]
"""Rows and columns of each scale."""

Anchors = tuple[tuple[tuple[float, float], ...], ...]
"""Of each scale, widths and heights in fractions of the picture."""

MOST_CANDIDATES = 300
"""So many boxes are compared with each other at most, the surest ones; the time grows with their square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Things of several classes, each with the box around it.

    The picture is parted into cells, at one scale or several. Each anchor of each cell is a slot that can say one thing
    whose middle lies in the cell. Slots go scale by scale, row by row, column by column, anchor by anchor. There are
    two tensors, because a quantized tensor has one step for all of its numbers:

    - `<name>.boxes` (slots, 4): where the middle lies in the cell, across and down, in cells; then width and height, as
      0.5 + log2(size / anchor's size) / 4. What is true lies near 0 to 1 in all four, so that an int8 step is 1/256 of
      a cell and 1 % of a size; one of a whole picture's fractions would be ten times as coarse.
    - `<name>.scores` (slots, classes): for each class a number whose sigmoid says how sure it is.

    Of one slot there are no rows, so that any net with plain heads can locate: (4,) and (classes,).

    Attributes:
        names: of the classes, in the order of the scores.
        grid: rows and columns of cells, scale by scale.
        anchors: of each scale, usual widths and heights in fractions of the picture.
        confidence: what is less sure is not said.
        iou: of two boxes of a class that overlap more, intersection over union, the less sure one is not said.
        max_boxes: of one answer.
    """

    kind: ClassVar[Literal["boxes"]] = "boxes"
    unit: ClassVar[str] = ""
    scale: ClassVar[float] = 1.0
    magnitude: ClassVar[float] = 1.0
    full_scale: ClassVar[float] = 1.0
    fine: ClassVar[float] = 1e-3

    name: str
    names: tuple[str, ...]
    grid: Grid
    anchors: Anchors
    confidence: float = 0.25
    iou: float = 0.5
    max_boxes: int = 100

    def __post_init__(self) -> None:
        where = f"outputs.{self.name}"
        if not self.names or len(set(self.names)) < len(self.names) or not all(self.names):
            raise ContractError(f"{where}.names: different names expected, found {', '.join(self.names)[:200]}")
        if not self.grid or min(side for cells in self.grid for side in cells) < 1:
            raise ContractError(f"{where}.grid: rows and columns of 1 or more expected, found {self.grid}")
        if len(self.anchors) != len(self.grid) or not all(self.anchors):
            raise ContractError(f"{where}.anchors: some for each of {len(self.grid)} scales expected")
        if not all(1e-4 <= side <= 4 for scale in self.anchors for anchor in scale for side in anchor):
            raise ContractError(f"{where}.anchors: fractions of the picture, 0.0001 to 4, expected")
        for key, value in (("confidence", self.confidence), ("iou", self.iou)):
            if not 0 < value < 1:
                raise ContractError(f"{where}.{key}: must be in (0, 1), found {value}")
        if not 1 <= self.max_boxes <= MOST_CANDIDATES:
            raise ContractError(f"{where}.max_boxes: 1 to {MOST_CANDIDATES} expected, found {self.max_boxes}")
        if math.prod(self.shape) > LIST_ENTRIES:  # Golden frames hold whole answers.
            raise ContractError(
                f"{where}: at most {LIST_ENTRIES:,} numbers expected, found {self.slots:,} slots of 4 and "
                f"{len(self.names)}; take a smaller picture, larger strides or fewer anchors"
            )

    @property
    def slots(self) -> int:
        return sum(rows * columns * len(own) for (rows, columns), own in zip(self.grid, self.anchors, strict=True))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one answer: all numbers of the boxes, then all of the scores."""
        return (self.slots * (4 + len(self.names)),)

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        rows = (self.slots,) if self.slots > 1 else ()
        return {f"{self.name}.boxes": (*rows, 4), f"{self.name}.scores": (*rows, len(self.names))}
