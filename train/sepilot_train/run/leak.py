"""What looking up the nearest training picture would score: how far a split fools whoever believes its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.protocol import OutputTask
from sepilot_runtime.recording.time_stamps import nearest
from sepilot_train.base.cache import PictureSet
from sepilot_train.base.stored import StoredPictures
from sepilot_train.run.split import Split

__all__ = ["Leak", "measure_leak"]

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """What looking up the nearest training picture would score on the validation frames.

    Attributes:
        lookup_mae: mean error of that look-up, in label units.
        constant_mae: of the one answer that is right for most training labels, the same frames.
        close_in_time: share of validation frames with a training frame of the same drive within one second, or of the
            same group.
    """

    lookup_mae: float
    constant_mae: float
    close_in_time: float


def measure_leak(
    sets: Sequence[PictureSet],
    split: Split,
    labels: Sequence[NDArray[np.float32]],
    task: OutputTask,
    *,
    limit: int = 2000,
    seed: int = 0,
) -> Leak:
    """Look up the label of the nearest training picture, by the distance of 8x12 thumbnails.

    Args:
        labels: of each set, of the output whose `task` it is.
        limit: so many of the validation frames are looked up at most.
    """
    train_x, train_y = _side(sets, split.train, labels)
    test_x, test_y = _side(sets, split.validation, labels)
    chosen = np.random.default_rng(seed).permutation(len(test_y))[:limit]
    found = _nearest(train_x, np.concatenate([t for _, t in _thumbnails(test_x, chosen)]))
    still = np.broadcast_to(np.asarray(task.constant(train_y), np.float64), (len(chosen), *task.output.shape))
    return Leak(
        lookup_mae=float(task.label_error(train_y[found], test_y[chosen]).mean()),
        constant_mae=float(task.error(still, test_y[chosen]).mean()),
        close_in_time=_close_in_time(sets, split),
    )


def _side(
    sets: Sequence[PictureSet], indices: Sequence[Indices], labels: Sequence[NDArray[np.float32]]
) -> tuple[StoredPictures, NDArray[np.float32]]:
    pictures = StoredPictures.joined([(s.pictures, i) for s, i in zip(sets, indices, strict=True)])
    return pictures, np.concatenate([y[i] for y, i in zip(labels, indices, strict=True)])


def _thumbnails(pictures: StoredPictures, chosen: Indices) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Thumbnails (k, 96) of the chosen pictures by and by, each time with the place of the first among the chosen."""
    rows = np.linspace(0, pictures.shape[1], 9).astype(int)
    columns = np.linspace(0, pictures.shape[2], 13).astype(int)
    for start in range(0, len(chosen), 512):
        gray = pictures[chosen[start : start + 512]].mean(axis=3, dtype=np.float32)
        small = np.add.reduceat(np.add.reduceat(gray, rows[:-1], axis=1), columns[:-1], axis=2)
        flat = small.reshape(len(small), -1)
        # Brightness is no likeness: the same place at another exposure is still the same place.
        flat -= flat.mean(axis=1, keepdims=True)
        yield start, flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6)


def _nearest(pictures: StoredPictures, test: NDArray[np.float32]) -> Indices:
    """The place of the picture whose thumbnail is most like each of the thumbnails `test` (k, 96)."""
    best = np.full(len(test), -np.inf, np.float32)
    found = np.zeros(len(test), np.int64)
    for start, train in _thumbnails(pictures, np.arange(len(pictures))):
        # Both are normalized, so the nearest has the largest product.
        likeness = test @ train.T
        place = likeness.argmax(axis=1)
        largest = likeness.max(axis=1)
        found = np.where(largest > best, start + place, found)
        best = np.maximum(best, largest)
    return found


def _close_in_time(sets: Sequence[PictureSet], split: Split) -> float:
    close = total = 0
    for s, train, validation in zip(sets, split.train, split.validation, strict=True):
        total += len(validation)
        if not len(train):
            continue
        if s.drive.groups:
            known = {s.drive.groups[i] for i in train}
            close += sum(s.drive.groups[i] in known for i in validation)
            continue
        times, held = s.drive.time_s[train], s.drive.time_s[validation]
        close += int((np.abs(times[nearest(times, held)] - held) < 1.0).sum())
    return close / total if total else 0.0
