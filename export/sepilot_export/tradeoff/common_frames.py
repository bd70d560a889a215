"""The frames that all files are judged on: those that every export holds out, with the same labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sepilot_export.verify.reference import Reference
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.units import mark_of

__all__ = ["FEWEST_FRAMES", "Common", "Labels", "common_frames", "labels_of"]

FEWEST_FRAMES = 300
"""In common, where exports hold out different frames. Below, half a minute of driving would decide."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Labels:
    """The labelled held-out frames of one export.

    Attributes:
        name: of the export, for messages.
        places: (drive, frame name) to position in the reference.
        in_unit: (n, ...) the labels of the first output for all positions, in its unit, NaN without a label.
        output: the name of that one; `mark`, its unit as it stands behind a number.
    """

    name: str
    places: dict[Key, int]
    in_unit: NDArray[np.float64]
    output: str
    mark: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Common:
    """Frames that all exports hold out.

    Attributes:
        drives: of each frame.
        in_unit: (n, ...), the labels of the first output, in its unit.
        mark: that unit, as it stands behind a number.
        index: for each export, in the order given, the positions (n,) of these frames in its reference.
        left: for each export, how many of its own frames are not among them.
    """

    drives: tuple[str, ...]
    in_unit: NDArray[np.float64]
    mark: str
    index: tuple[NDArray[np.int64], ...]
    left: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.drives)


def labels_of(name: str, reference: Reference) -> Labels:
    """The labels of an export's reference for its first output, in that one's unit."""
    output = reference.contract.outputs[0]
    values = reference.labels[output.name].astype(np.float64) * output.scale
    keys = zip(reference.drives, reference.names, strict=True)
    known = task_of(output).known(values)
    return Labels(
        name=name,
        places={key: i for i, key in enumerate(keys) if known[i]},
        in_unit=values,
        output=output.name,
        mark=mark_of(output),
    )


def common_frames(everything: Sequence[Labels]) -> Common:
    """The frames common to all, in the order of the first.

    Raises:
        RunError: their first outputs are not the same one, one has no labels, they have too few frames in common, or a
            frame with different labels.
    """
    first = everything[0]
    for labels in everything:
        if (labels.output, labels.mark) != (first.output, first.mark):
            raise RunError(
                f"{labels.name}: {first.output}{first.mark} as the first output expected, as {first.name} has it, "
                f"found {labels.output}{labels.mark}; compare what answers the same"
            )
        if not labels.places:
            raise RunError(f"{labels.name}: no labelled held-out frame, so nothing tells good from bad")
    shared = set.intersection(*(set(labels.places) for labels in everything))
    if any(len(labels.places) > len(shared) for labels in everything) and len(shared) < FEWEST_FRAMES:
        raise RunError(_too_few(everything, len(shared)))
    keys = [key for key in everything[0].places if key in shared]
    index = tuple(np.array([labels.places[key] for key in keys], np.int64) for labels in everything)
    _require_same(everything, keys, index)
    return Common(
        drives=tuple(drive for drive, _ in keys),
        in_unit=everything[0].in_unit[index[0]],
        mark=everything[0].mark,
        index=index,
        left=tuple(len(labels.places) - len(keys) for labels in everything),
    )


def _too_few(everything: Sequence[Labels], shared: int) -> str:
    first, second = min(combinations(everything, 2), key=lambda pair: len(set(pair[0].places) & set(pair[1].places)))
    both = len(set(first.places) & set(second.places))
    return (
        f"{first.name} and {second.name} were judged on different frames: {both:,} of {len(first.places):,} and "
        f"{len(second.places):,} are the same ({shared:,} in all that was named), at least {FEWEST_FRAMES} expected; "
        "compare what has the same held-out drives (--val)"
    )


def _require_same(everything: Sequence[Labels], keys: Sequence[Key], index: Sequence[NDArray[np.int64]]) -> None:
    first = everything[0]
    expected = first.in_unit[index[0]]
    for labels, places in zip(everything[1:], index[1:], strict=True):
        found = labels.in_unit[places]
        if not np.allclose(found, expected, rtol=0, atol=1e-3, equal_nan=True):
            # What only one of them knows is furthest apart.
            alone = np.isnan(found) != np.isnan(expected)
            apart = np.where(alone, np.inf, np.nan_to_num(np.abs(found - expected)))
            worst = np.unravel_index(int(apart.argmax()), apart.shape)
            drive, frame = keys[int(worst[0])]
            raise RunError(
                f"{first.name} and {labels.name} have different labels for frame {frame} of drive {drive}: "
                f"{expected[worst]:.3f} and {found[worst]:.3f}{first.mark}; train both on the drive as it is now"
            )
