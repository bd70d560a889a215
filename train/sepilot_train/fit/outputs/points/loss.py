"""The losses of points, of which only some may be known."""

from typing import Any

import keras

__all__ = ["Presence", "Wing"]


class Wing(keras.losses.Loss):  # type: ignore[misc]
    """Wing loss (Feng et al. 2018, arXiv 1711.06753) of the coordinates that are known, averaged over them.

    Near 0 it is steep, so that the last pixels count, and from `width` on it is a line. Theirs are 10 and 2 pixels of
    256. In units of `width`, so that points and their presence weigh about the same.
    """

    width, bend = 10 / 256, 2 / 256

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(batch,) of (batch, numbers), NaN where unknown: 0 where all of them are."""
        ops = keras.ops
        known = ops.isfinite(y_true)
        # Zeros before the subtraction: a NaN in a branch that `where` leaves out still spoils the gradient.
        off = ops.where(known, ops.abs(ops.where(known, y_true, 0.0) - y_pred), 0.0)
        steep = self.width * ops.log1p(off / self.bend)
        line = off - self.width + self.width * ops.log1p(self.width / self.bend)
        each = ops.where(off < self.width, steep, line) / self.width
        weight = ops.cast(known, each.dtype)
        return ops.sum(each * weight, axis=-1) / ops.maximum(ops.sum(weight, axis=-1), 1.0)


class Presence(keras.losses.BinaryCrossentropy):  # type: ignore[misc]
    """Cross-entropy of the logit that the thing is there."""

    def __init__(self) -> None:
        super().__init__(from_logits=True)
