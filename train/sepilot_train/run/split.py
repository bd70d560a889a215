"""Which frames train and which judge.

Neighbouring frames of a drive are almost the same picture, so a shuffled split lets a model look up the answers: on a
real 20 Hz tub a nearest-neighbour look-up errs by 0.06 under shuffling and by 0.18 between time blocks. Frames are
therefore split by drive, or, where there are too few drives or ones of too unequal length, by blocks of time with a
guard gap. The leak figure says what a look-up would still gain.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.recording.time_stamps import nearest
from sepilot_train.base.cache import PictureSet
from sepilot_train.base.stored import StoredPictures

__all__ = ["DriveSplit", "Leak", "Split", "SplitKind", "SplitRecord", "by_drive", "measure_leak", "record_of",
           "split_frames"]  # fmt: skip

Indices = NDArray[np.int64]

SplitKind = Literal["given", "drives", "blocks"]
"""Validation drives were named, whole drives were held out, or blocks of time."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Split:
    """Indices into each drive's pictures.

    Attributes:
        train, validation: one array per drive, in the order of the drives; possibly empty.
    """

    kind: SplitKind
    train: tuple[Indices, ...]
    validation: tuple[Indices, ...]

    def counts(self) -> tuple[int, int]:
        """(training frames, validation frames)."""
        return sum(map(len, self.train)), sum(map(len, self.validation))


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveSplit:
    """One drive of split.json: the names of its frames on each side."""

    id: str
    fingerprint: str
    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRecord:
    """split.json."""

    kind: SplitKind
    drives: tuple[DriveSplit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """What looking up the nearest training picture would score on the validation frames.

    Attributes:
        lookup_mae: mean absolute error of that look-up, in label units.
        constant_mae: of the training labels' mean, the same frames.
        close_in_time: share of validation frames with a training frame of the same drive within one second.
    """

    lookup_mae: float
    constant_mae: float
    close_in_time: float


MIN_DRIVES = 5
"""From this many drives on, whole drives are held out; fewer would leave too little of some track on one side."""

CLOSE = 0.25
"""Of the wanted number of frames: a choice of drives that misses it by less is as good as any other."""


def split_frames(sets: Sequence[PictureSet], *, fraction: float, block_s: float, guard_s: float, seed: int) -> Split:
    """Split by drive, or by guarded time blocks.

    Blocks are for fewer than `MIN_DRIVES`, and for drives of such unequal length that every choice of them holds out
    less than half or more than twice of the fraction.

    Raises:
        DriveError: too few frames to leave any on one of the sides.
    """
    held = _held_out([len(s.drive) for s in sets], fraction, seed) if len(sets) >= MIN_DRIVES else set()
    split = by_drive("drives", sets, held) if held else _by_blocks(sets, fraction, block_s, guard_s, seed)
    if 0 in split.counts():
        total = sum(len(s.drive) for s in sets)
        raise DriveError(
            f"{', '.join(s.drive.id for s in sets)}: {total} usable frames are too few to hold any out with "
            f"{guard_s:g} s of guard; name a validation drive with --val or record more"
        )
    return split


def _held_out(frames: Sequence[int], fraction: float, seed: int) -> set[int]:
    """Places of the drives that judge, by the drives' numbers of frames; none where no choice comes near."""
    order = np.random.default_rng([seed, 101]).permutation(len(frames)).tolist()
    wanted = fraction * sum(frames)
    held: set[int] = set()
    miss = math.inf
    # Each drive is the first once: what a long first drive spoils, a later turn makes up for.
    for turn in range(len(order)):
        found = _taken_in_turn(order[turn:] + order[:turn], frames, wanted)
        if abs(_total(found, frames) - wanted) < miss:
            held, miss = found, abs(_total(found, frames) - wanted)
        if miss <= CLOSE * wanted:
            break
    return held if wanted / 2 <= _total(held, frames) <= 2 * wanted else set()


def _taken_in_turn(order: Sequence[int], frames: Sequence[int], wanted: float) -> set[int]:
    """The first drive, and each later one that brings the sum nearer to what is wanted; never all."""
    held = {order[0]}
    for i in order[1:]:
        total = _total(held, frames)
        if abs(total + frames[i] - wanted) < abs(total - wanted) and len(held) + 1 < len(order):
            held.add(i)
    return held


def _total(places: Iterable[int], frames: Sequence[int]) -> int:
    return sum(frames[i] for i in places)


def by_drive(kind: SplitKind, sets: Sequence[PictureSet], held: Container[int]) -> Split:
    """The drives at the places `held` judge, the others train."""
    everything, nothing = [np.arange(len(s.drive)) for s in sets], np.arange(0)
    return Split(
        kind=kind,
        train=tuple(nothing if i in held else own for i, own in enumerate(everything)),
        validation=tuple(own if i in held else nothing for i, own in enumerate(everything)),
    )


def _by_blocks(sets: Sequence[PictureSet], fraction: float, block_s: float, guard_s: float, seed: int) -> Split:
    rng = np.random.default_rng([seed, 102])
    parts = [_blocks_of(s.drive.time_s, fraction, block_s, guard_s, rng) for s in sets]
    return Split(kind="blocks", train=tuple(p[0] for p in parts), validation=tuple(p[1] for p in parts))


def _blocks_of(
    time_s: NDArray[np.float64], fraction: float, block_s: float, guard_s: float, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """One validation block in each period of `block / fraction` seconds, at a random place within it."""
    if len(time_s) < 2:
        return np.arange(len(time_s)), np.arange(0)
    # A pause counts for no more than what parts two frames: a block that fell into it would hold nothing out.
    time_s = np.concatenate(([0.0], np.cumsum(np.minimum(np.diff(time_s), max(guard_s, 1.0)))))
    duration = float(time_s[-1])
    # A drive too short for even one period is given a shorter block.
    block = min(block_s, duration * fraction)
    periods = max(1, int(duration * fraction / block + 1e-9))
    period = duration / periods
    validation = np.zeros(len(time_s), bool)
    near = np.zeros(len(time_s), bool)
    for number in range(periods):
        begin = number * period + rng.uniform(0, period - block)
        validation |= (time_s >= begin) & (time_s < begin + block)
        near |= (time_s >= begin - guard_s) & (time_s < begin + block + guard_s)
    return np.flatnonzero(~near), np.flatnonzero(validation)


def measure_leak(sets: Sequence[PictureSet], split: Split, label: str, *, limit: int = 2000, seed: int = 0) -> Leak:
    """Look up `label` of the nearest training picture, by the distance of 8x12 thumbnails.

    Args:
        limit: so many of the validation frames are looked up at most.
    """
    train_x, train_y = _side(sets, split.train, label)
    test_x, test_y = _side(sets, split.validation, label)
    chosen = np.random.default_rng(seed).permutation(len(test_y))[:limit]
    found = _nearest(train_x, np.concatenate([t for _, t in _thumbnails(test_x, chosen)]))
    return Leak(
        lookup_mae=float(np.abs(train_y[found] - test_y[chosen]).mean()),
        constant_mae=float(np.abs(train_y.mean() - test_y[chosen]).mean()),
        close_in_time=_close_in_time(sets, split),
    )


def _side(
    sets: Sequence[PictureSet], indices: Sequence[Indices], label: str
) -> tuple[StoredPictures, NDArray[np.float32]]:
    pictures = StoredPictures.joined([(s.pictures, i) for s, i in zip(sets, indices, strict=True)])
    return pictures, np.concatenate([s.drive.labels[label][i] for s, i in zip(sets, indices, strict=True)])


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
        times, held = s.drive.time_s[train], s.drive.time_s[validation]
        close += int((np.abs(times[nearest(times, held)] - held) < 1.0).sum())
    return close / total if total else 0.0


def record_of(sets: Sequence[PictureSet], split: Split) -> SplitRecord:
    """A split by the names of the frames, enough to repeat it."""
    return SplitRecord(
        kind=split.kind,
        drives=tuple(
            DriveSplit(
                id=s.drive.id,
                fingerprint=s.fingerprint,
                train=tuple(s.drive.names[i] for i in train),
                validation=tuple(s.drive.names[i] for i in validation),
            )
            for s, train, validation in zip(sets, split.train, split.validation, strict=True)
        ),
    )
