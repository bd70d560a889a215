"""Which frames train and which judge.

Neighbouring frames of a drive are almost the same picture, so a shuffled split lets a model look up the answers: on a
real 20 Hz tub a nearest-neighbour look-up errs by 0.06 under shuffling and by 0.18 between time blocks. Frames are
therefore split by drive, or, where there are too few drives or ones of too unequal length, by blocks of time with a
guard gap. Pictures of a set that is no stretch of time are split by group: all of a track, a person, an object stay
together, and each class keeps its share. `leak` says what a look-up would still gain.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError
from sepilot_train.base.cache import PictureSet

__all__ = ["DriveSplit", "Split", "SplitKind", "SplitRecord", "by_drive", "record_of", "split_frames"]

Indices = NDArray[np.int64]

SplitKind = Literal["given", "drives", "blocks", "groups"]
"""Validation drives were named, or held out were whole drives, blocks of time, or groups of pictures."""


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


MIN_DRIVES = 5
"""From this many drives on, whole drives are held out; fewer would leave too little of some track on one side."""

CLOSE = 0.25
"""Of the wanted number of frames: a choice of drives that misses it by less is as good as any other."""


def split_frames(
    sets: Sequence[PictureSet],
    *,
    fraction: float,
    block_s: float,
    guard_s: float,
    seed: int,
    strata: Sequence[NDArray[np.float32]] = (),
) -> Split:
    """Split by drive, by guarded time blocks, or by groups where every drive has some.

    Blocks are for fewer than `MIN_DRIVES`, and for drives of such unequal length that every choice of them holds out
    less than half or more than twice of the fraction.

    Args:
        strata: of each set, the classes (n,) that are to have the same share on both sides; labels of other shapes are
            none.

    Raises:
        DriveError: too few frames to leave any on one of the sides.
    """
    if all(s.drive.groups for s in sets):
        return _by_groups(sets, fraction, seed, strata)
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


def _by_groups(sets: Sequence[PictureSet], fraction: float, seed: int, strata: Sequence[NDArray[np.float32]]) -> Split:
    """Groups at random, class by class, until each has its share; a group that is named in two sets is one."""
    names, group = np.unique(np.concatenate([s.drive.groups for s in sets]), return_inverse=True)
    classed = bool(strata) and strata[0].ndim == 1
    wanted = np.concatenate(strata) if classed else np.zeros(len(group))
    order = np.random.default_rng([seed, 103]).permutation(len(names))
    held = np.zeros(len(names), bool)
    kinds, counts = np.unique(wanted[np.isfinite(wanted)], return_counts=True)
    # The rarest class has the least to choose from.
    for kind in kinds[np.argsort(counts, kind="stable")]:
        sizes = np.bincount(group[wanted == kind], minlength=len(names))
        left = fraction * sizes.sum() - sizes[held].sum()
        for g in order[(sizes[order] > 0) & ~held[order]]:
            alone = not (sizes[~held] > 0).sum() > 1
            if left <= 0 or alone:
                break
            # The first that is far too large may be the only one; a later one is not taken for a small rest.
            if sizes[g] < 2 * left or not (sizes[held] > 0).any():
                held[g] = True
                left -= sizes[g]
    parts = np.split(held[group], np.cumsum([len(s.drive) for s in sets])[:-1])
    if not held.any() or held.all():
        raise DriveError(
            f"{', '.join(s.drive.id for s in sets)}: {len(names)} groups of pictures are too few to hold any out; "
            "name a validation set with --val"
        )
    train, validation = tuple(np.flatnonzero(~p) for p in parts), tuple(np.flatnonzero(p) for p in parts)
    return Split(kind="groups", train=train, validation=validation)


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
