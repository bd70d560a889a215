"""Which slot has to say which box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.boxes.geometry import Slots, shape_iou

__all__ = ["assigned"]


def assigned(labels: NDArray[np.float32], slots: Slots) -> NDArray[np.int64]:
    """Of labels (n, most, 5), the slot (n, most) that has to say each box; -1 for no box, and for one too many.

    A box belongs to the cell that its middle lies in, and there to the anchor that is most like it, at whatever scale.
    Two boxes that would have one slot are both learned as long as their cells have another: the larger one chooses
    first.
    """
    real = labels[..., 0] >= 0
    area = np.where(real, labels[..., 3] * labels[..., 4], -1)
    found = np.full(real.shape, -1)
    free = np.ones((len(labels), len(slots.corner)), bool)
    for rank in np.argsort(-area, axis=1, kind="stable").T:
        pictures = np.flatnonzero(real[np.arange(len(labels)), rank])
        if not len(pictures):
            break
        boxes = labels[pictures, rank[pictures], 1:].astype(np.float64)
        inner = (np.minimum(boxes[:, None, :2], 1 - 1e-6) - slots.corner) / slots.cell
        open_ = ((inner >= 0) & (inner < 1)).all(axis=2) & free[pictures]
        like = np.where(open_, shape_iou(boxes[:, 2:], slots.anchor), -1.0)
        at = np.where(open_.any(axis=1), like.argmax(axis=1), -1)
        found[pictures, rank[pictures]] = at
        free[pictures[at >= 0], at[at >= 0]] = False
    return found
