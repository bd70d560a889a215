"""The frames that a foreign file is tried on: pictures, what goes beside them, what was to be said to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.stated import Plan
from sepilot_export.pipeline.foreign import Vectors
from sepilot_export.verify.set_labels import labels_in, strangers
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.cache import PictureSet
from sepilot_train.base.frame_set import FrameSet, Index

__all__ = ["AdoptionFrames", "adoption_frames", "evenly"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdoptionFrames(FrameSet):
    """Frames of recordings.

    Attributes:
        vectors: what goes beside the pictures.
        sources: (n,) where each stands: in which recording, and its number there.
    """

    vectors: Vectors
    sources: tuple[tuple[Drive, int], ...]

    def take(self, index: Index) -> Self:
        return dataclasses.replace(
            FrameSet.take(self, index),
            vectors={name: values[index] for name, values in self.vectors.items()},
            sources=tuple(self.sources[i] for i in index),
        )

    def again(self, picture: Picture) -> Iterator[NDArray[np.uint8]]:
        """Other pictures of them."""
        return (picture_of(self.as_taken(place), picture) for place in range(len(self)))

    def as_taken(self, place: int) -> NDArray[np.uint8]:
        """A frame as the camera took it, BGR (H, W, 3). Raises FrameError."""
        drive, number = self.sources[place]
        return drive.read(number)


def evenly(among: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of these numbers."""
    return np.take(among, np.linspace(0, len(among) - 1, min(most, len(among))).astype(int))


def adoption_frames(sets: Sequence[PictureSet], plan: Plan, most: int) -> tuple[AdoptionFrames, list[str]]:
    """At most `most`, evenly, and what the recordings do not have, a line each.

    What they do not have of a vector is made up: numbers in [0, 1).
    """
    places = [(s, i) for s in sets for i in range(len(s.drive))]
    taken = evenly(np.arange(len(places)), most)
    places = [places[i] for i in taken]
    notes, vectors, labels = [], {}, {}

    def column(name: str) -> NDArray[np.float32]:
        return np.array([s.drive.labels[name][i] if name in s.drive.labels else np.nan for s, i in places], np.float32)

    for vector in plan.vectors:
        vectors[vector.name] = np.random.default_rng(0).random((len(places), vector.size), np.float32)
        if vector.columns and all(set(vector.columns) <= set(s.drive.labels) for s in sets):
            vectors[vector.name] = np.nan_to_num(np.stack([column(name) for name in vector.columns], axis=1))
        else:
            notes.append(f"{vector.name}: made-up numbers in [0, 1), as the recordings have no columns for it")
    for output in plan.outputs:
        labels[output.name] = np.concatenate(labels_in(sets, output, plan.picture))[taken]
        if not task_of(output).known(labels[output.name]).any():
            notes.append(f"{output.name}: no labels, so nobody can tell whether the picture is as stated")
        notes += strangers(output, sets, plan.picture)
    return AdoptionFrames(
        pictures=np.stack([s.pictures[i] for s, i in places]),
        vectors=vectors,
        labels=labels,
        drives=tuple(s.drive.id for s, _ in places),
        names=tuple(s.drive.names[i] for s, i in places),
        sources=tuple((s.drive, i) for s, i in places),
    ), notes
