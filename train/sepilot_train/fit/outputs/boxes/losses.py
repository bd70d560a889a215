"""Losses of boxes: where nothing is, only the scores are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["box_loss", "score_loss"]

Loss = Callable[[Any, Any], Any]

CORNER = 0.1
"""Where the loss of a box's number goes from square to line: a tenth of a cell, a third of a size's doubling."""


def box_loss(weight: float) -> Loss:
    """Of `<name>.boxes`: Huber's, summed over a box's four numbers, of the mean box; NaN asks for nothing."""
    from keras import ops

    def loss(wanted: Any, said: Any) -> Any:
        known = ops.isfinite(wanted)
        gap = ops.abs(said - ops.where(known, wanted, 0.0))
        lost = ops.where(gap < CORNER, gap * gap / (2 * CORNER), gap - CORNER / 2)
        known = ops.cast(known, lost.dtype)
        return weight * ops.sum(lost * known) / ops.maximum(ops.sum(known) / 4, 1.0)

    return loss


def score_loss(focus: float) -> Loss:
    """Of `<name>.scores`: cross-entropy that counts the less the nearer the answer is, per box that is there.

    The focal loss of Lin et al. 2017 (arXiv 1708.02002), as Li et al. 2020 (arXiv 2006.04388) have it for what is
    wanted between 0 and 1.
    """
    from keras import ops

    def loss(wanted: Any, said: Any) -> Any:
        entropy = ops.maximum(said, 0.0) - said * wanted + ops.log1p(ops.exp(-ops.abs(said)))
        far = ops.abs(wanted - ops.sigmoid(said)) ** focus
        return ops.sum(far * entropy) / ops.maximum(ops.sum(wanted), 1.0)

    return loss
