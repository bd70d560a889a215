"""Boxes as numbers: in slots, in labels, moved, clipped and held against each other. Numpy only.

A box here is left, top, width and height; a label's row is the place of the class, centre x, centre y, width and
height, as recordings have it. All are fractions of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.boxes.output import Boxes

__all__ = ["LEAST_LEFT", "Slots", "boxes_of", "inside", "iou_matrix", "matched", "moved_by", "real_boxes",
           "shape_iou", "sigmoid"]  # fmt: skip

Numbers = NDArray[np.floating]

OCTAVES = 4.0
"""How many doublings of an anchor's size a number from 0 to 1 spans, half of them up and half down."""

REACH = (-1.0, 2.0)
"""What lies outside is cut off: the middle in a neighbouring cell, 64 times smaller or larger than the anchor."""

LEAST_LEFT = 0.2
"""Of a box's area: where the picture shows less of it, nobody need find it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """Where the slots of an output lie.

    Attributes:
        corner: (slots, 2) x and y of the cell's left upper corner.
        cell, anchor: (slots, 2) width and height.
        scale: (slots,) to which grid they belong.
    """

    corner: NDArray[np.float64]
    cell: NDArray[np.float64]
    anchor: NDArray[np.float64]
    scale: NDArray[np.int64]

    @classmethod
    def of(cls, output: Boxes) -> Slots:
        corners, cells, anchors, scales = [], [], [], []
        for number, ((rows, columns), own) in enumerate(zip(output.grid, output.anchors, strict=True)):
            count = rows * columns * len(own)
            down, across = np.divmod(np.arange(rows * columns).repeat(len(own)), columns)
            cell = np.array((1 / columns, 1 / rows))
            corners.append(np.stack((across, down), axis=1) * cell)
            cells.append(np.broadcast_to(cell, (count, 2)))
            anchors.append(np.tile(np.array(own), (rows * columns, 1)))
            scales.append(np.full(count, number))
        return cls(
            corner=np.concatenate(corners), cell=np.concatenate(cells), anchor=np.concatenate(anchors),
            scale=np.concatenate(scales),
        )  # fmt: skip

    def decode(self, numbers: Numbers, at: NDArray[np.int64]) -> NDArray[np.float64]:
        """Boxes (k, 4) of a model's numbers (k, 4) in the slots `at` (k,)."""
        cut = np.clip(np.asarray(numbers, np.float64), *REACH)
        middle = self.corner[at] + cut[:, :2] * self.cell[at]
        size = self.anchor[at] * np.exp2(OCTAVES * (cut[:, 2:] - 0.5))
        return np.concatenate((middle - size / 2, size), axis=1)

    def encode(self, centred: Numbers, at: NDArray[np.int64]) -> NDArray[np.float64]:
        """The numbers (k, 4) that say boxes by centre, width and height (k, 4) in the slots `at` (k,)."""
        middle = (centred[:, :2] - self.corner[at]) / self.cell[at]
        size = 0.5 + np.log2(np.maximum(centred[:, 2:], 1e-6) / self.anchor[at]) / OCTAVES
        return np.concatenate((middle, size), axis=1)


def boxes_of(labels: Numbers) -> NDArray[np.float64]:
    """Boxes (..., 4) of labels (..., 5)."""
    size = labels[..., 3:5]
    return np.concatenate((labels[..., 1:3] - size / 2, size), axis=-1).astype(np.float64)


def real_boxes(label: Numbers) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Boxes (m, 4) and places of the classes (m,) of the label (most, 5) of one picture."""
    real = label[label[:, 0] >= 0]
    return boxes_of(real), real[:, 0].astype(np.int64)


def iou_matrix(a: Numbers, b: Numbers) -> NDArray[np.float64]:
    """(k, m) intersection over union of boxes (k, 4) and (m, 4)."""
    a, b = a[:, None], b[None]
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0).prod(axis=-1)
    return np.asarray(common / np.maximum(a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - common, 1e-12))


def shape_iou(sizes: Numbers, anchors: Numbers) -> NDArray[np.float64]:
    """(..., m) intersection over union of sizes (..., 2) and anchors (m, 2) with one middle."""
    common = np.minimum(sizes[..., None, :], anchors).prod(axis=-1)
    return np.asarray(common / (sizes.prod(axis=-1)[..., None] + anchors.prod(axis=-1) - common))


def moved_by(labels: NDArray[np.float32], matrix: NDArray[np.floating]) -> NDArray[np.float32]:
    """Labels (..., most, 5) of pictures that `matrix` (..., 2, 3) moved: upright boxes around the moved corners."""
    x0, y0, width, height = np.moveaxis(boxes_of(labels), -1, 0)
    corners = np.stack([(x, y) for x in (x0, x0 + width) for y in (y0, y0 + height)])  # (4, 2, ..., most)
    turned = np.moveaxis(corners, 1, -1)  # (4, ..., most, 2)
    places = np.einsum("...ij,c...mj->c...mi", matrix[..., :2], turned) + matrix[..., None, :, 2]
    low, high = places.min(axis=0), places.max(axis=0)
    return inside(np.concatenate((labels[..., :1], (low + high) / 2, high - low), axis=-1))


def inside(labels: NDArray[np.floating]) -> NDArray[np.float32]:
    """Labels (..., most, 5) cut at the picture's edges, without those of which less than a fifth is left.

    What is left stands in front; where nothing is, the first row says that nothing is there. Pictures that nobody
    looked at stay unknown.
    """
    known = np.isfinite(labels[..., :1, 0])
    whole = boxes_of(labels)
    low, high = (np.clip(edge, 0, 1) for edge in (whole[..., :2], whole[..., :2] + whole[..., 2:]))
    with np.errstate(invalid="ignore", divide="ignore"):
        left = (high - low).prod(axis=-1) / whole[..., 2:].prod(axis=-1)
        kept = (labels[..., 0] >= 0) & (left >= LEAST_LEFT)
    found = np.concatenate((labels[..., :1], (low + high) / 2, high - low), axis=-1)
    found = np.where(kept[..., None], found, np.nan)
    order = np.argsort(~kept, axis=-1, kind="stable")
    found = np.take_along_axis(found, order[..., None], axis=-2)
    first = found[..., :1, 0]
    found[..., :1, 0] = np.where(known & np.isnan(first), -1, first)
    return found.astype(np.float32)


def matched(
    said: Numbers, said_class: NDArray[np.int64], there: Numbers, there_class: NDArray[np.int64], at_least: float
) -> NDArray[np.int64]:
    """Which of the boxes `there` (m, 4) each of those `said` (k, 4) finds, -1 for none.

    In the order of `said`, which is from the surest down, each takes the free one of its class that it overlaps most,
    if the intersection over union is `at_least` so much.
    """
    found = np.full(len(said), -1)
    overlap = np.where(said_class[:, None] == there_class[None], iou_matrix(said, there), 0.0)
    for place in range(len(said) if len(there) else 0):
        best = int(overlap[place].argmax())
        if overlap[place, best] >= at_least:
            found[place] = best
            overlap[:, best] = 0
    return found


def sigmoid(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of numbers of any size."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.asarray(scores, np.float64), -60, 60))))
