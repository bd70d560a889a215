"""Whom a vector is most like, and whether that is enough."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.embedding.gallery import Gallery
from sepilot_runtime.contract.outputs.embedding.task import normalized
from sepilot_runtime.contract.outputs.protocol import Array

__all__ = ["Recognizer", "recognize"]


def recognize(vector: Array, gallery: Gallery) -> tuple[str | None, float]:
    """The name that a model's vector (size,), of any length, is most like, None below the threshold; the cosine to it.

    A gallery of nobody is like nothing: -1.
    """
    return Recognizer(gallery).recognize(vector)


class Recognizer:
    """A gallery made ready for one vector after the other.

    Args:
        claim: whom every picture is said to show, which is then verified; nobody else is looked for.

    Raises:
        UsageError: nobody is called so.
    """

    def __init__(self, gallery: Gallery, claim: str | None = None) -> None:
        self._names = [person.name for person in gallery.people]
        self._centres: NDArray[np.float64] = gallery.centres()
        self._threshold = gallery.threshold
        if claim is not None:
            place = self._names.index(gallery.person(claim).name)
            self._names, self._centres = [claim], self._centres[place : place + 1]

    def recognize(self, vector: Array) -> tuple[str | None, float]:
        """As the function of that name."""
        if not self._names:
            return None, -1.0
        likeness = self._centres @ normalized(np.asarray(vector).reshape(1, -1))[0]
        best = int(likeness.argmax())
        similarity = float(likeness[best])
        return (self._names[best] if similarity >= self._threshold else None), similarity

    def named(self, vector: Array) -> dict[str, Any]:
        """{"name": None where it is not recognized, or not who it is claimed to be; "similarity": a cosine}."""
        name, similarity = self.recognize(vector)
        return {"name": name, "similarity": round(similarity, 4)}
