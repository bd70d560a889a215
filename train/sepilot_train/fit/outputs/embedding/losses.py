"""Losses on the vectors of one batch: pictures of the same identity are pulled together, others pushed apart.

All comparisons are made inside the batch, by one call of the net. Three calls for anchor, positive and negative would
show batch normalization three batches, and choose the negatives before anybody knows which are hard.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["PairLoss"]

NEVER = 1e9
"""Farther than anything, and so unlike anything that its exponential is 0."""


class PairLoss(keras.losses.Loss):  # type: ignore[misc]
    """Of identities (batch, 1) and vectors (batch, size >= 2) of any length; or of another net's vectors and these.

    Pictures whose identity is alone in the batch, or all that is in it, teach nothing and count for nothing.

    Args:
        loss: "contrastive" or "triplet".
        margin, mining: of triplets; temperature, of the contrastive loss; see `EmbeddingTarget`.
    """

    def __init__(self, loss: str, *, margin: float, mining: str, temperature: float) -> None:
        super().__init__(name=loss)
        self._triplets, self._margin, self._mining, self._temperature = loss == "triplet", margin, mining, temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        mine = _normalized(y_pred)
        if y_true.shape[-1] != 1:
            return 1 - ops.sum(mine * _normalized(y_true), axis=-1)
        cosines = ops.matmul(mine, ops.transpose(mine))
        itself = ops.eye(ops.shape(mine)[0])
        equal = ops.cast(ops.equal(y_true, ops.transpose(y_true)), "float32")
        same, other = equal - itself, 1 - equal
        usable = ops.cast(ops.logical_and(ops.any(same > 0, axis=1), ops.any(other > 0, axis=1)), "float32")
        if self._triplets:
            found = self._of_triplets(2 - 2 * cosines, same, other, usable)
        else:
            found = _contrastive(cosines / self._temperature, same, itself)
        return _mean(found, usable)

    def _of_triplets(self, apart: Any, same: Any, other: Any, usable: Any) -> Any:
        """(batch,): of each picture with the farthest of its own identity and a hard one of another.

        Args:
            apart: squared distances of the vectors.
            same, other: whether two pictures are of one identity, and not the same picture; of two.
        """
        farthest = ops.max(apart * same, axis=1)
        nearest = ops.min(apart + NEVER * (1 - other), axis=1)
        hard = ops.relu(farthest - nearest + self._margin)
        if self._mining == "hard":
            return hard
        # The nearest behind the own farthest; where there is none, the farthest there is.
        behind = other * ops.cast(apart > farthest[:, None], "float32")
        semi = ops.min(apart + NEVER * (1 - behind), axis=1)
        semi = ops.minimum(semi, ops.max(apart * other, axis=1))
        semi = ops.relu(farthest - semi + self._margin)
        if self._mining == "semi-hard":
            return semi
        # Hard ones alone pull everything into one point while the net knows nothing. So it gets as many as it can take.
        own = ops.min(apart + NEVER * (1 - same), axis=1)
        right = ops.stop_gradient(_mean(ops.cast(own < nearest, "float32"), usable))
        return right * hard + (1 - right) * semi


def _contrastive(likeness: Any, same: Any, itself: Any) -> Any:
    """(batch,): how improbable its own identity is among all others (Khosla et al. 2020, arXiv 2004.11362)."""
    likeness = likeness - NEVER * itself
    improbable = ops.logsumexp(likeness, axis=1, keepdims=True) - likeness
    return ops.sum(same * improbable, axis=1) / ops.maximum(ops.sum(same, axis=1), 1.0)


def _normalized(vectors: Any) -> Any:
    return vectors / ops.sqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True) + 1e-12)


def _mean(values: Any, usable: Any) -> Any:
    return ops.sum(values * usable) / ops.maximum(ops.sum(usable), 1.0)
