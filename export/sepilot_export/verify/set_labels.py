"""What a data set has for a file: labels that its answers are held against, numbers that it takes beside a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Output, Picture, Vector
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.recording.labelled import quoted
from sepilot_train.base.cache import PictureSet
from sepilot_train.run.material import set_labels

__all__ = ["columns_beside", "labels_in", "numbers_beside", "strangers"]


def labels_in(sets: Sequence[PictureSet], output: Output, picture: Picture) -> list[NDArray[np.float32]]:
    """By set, (n, ...) of the label that is called as the output; NaN where the set has none of that name."""
    found = {
        i: set_labels(output, output.name, s, picture) for i, s in enumerate(sets) if output.name in s.drive.labels
    }
    shape = next((labels.shape[1:] for labels in found.values()), ())
    return [found.get(i, np.full((len(s.drive), *shape), np.nan, np.float32)) for i, s in enumerate(sets)]


def strangers(output: Output, sets: Sequence[PictureSet], picture: Picture) -> list[str]:
    """A line where the sets name classes that the file does not."""
    task, counts = task_of(output), Counter[str]()
    for found, labels in zip(sets, labels_in(sets, output, picture), strict=True):
        names, recorded = found.drive.label_names.get(output.name), found.drive.labels.get(output.name)
        if names and recorded is not None and recorded.ndim == 1:
            counts.update(names[int(place)] for place in recorded[np.isfinite(recorded) & ~task.known(labels)])
    if not counts:
        return []
    what = f"{counts.total():,} pictures of {len(counts)} classes that the file does not name"
    return [f"{output.name}: {what}: {quoted(sorted(counts))}"]


def columns_beside(vector: Vector, where: Path) -> tuple[str, ...]:
    """Where its numbers stand in a recording. Raises RunError where nobody knows."""
    if not vector.columns:
        raise RunError(
            f"{where}: columns of a recording expected for the input {vector.name}, its contract names "
            f"none; say vectors.{vector.name}.columns when it is adopted"
        )
    return vector.columns


def numbers_beside(sets: Sequence[PictureSet], vector: Vector) -> NDArray[np.float32]:
    """(n, size), by the recordings' columns. Raises RunError where one has not a number for each frame."""
    found = []
    for drive in (s.drive for s in sets):
        values = vector.numbers(drive.labels, drive.before)
        if lacking := np.count_nonzero(~np.isfinite(values).all(axis=1)):
            raise RunError(
                f"{drive.path}: column {', '.join(vector.columns)}: a number in each frame expected for the input "
                f"{vector.name}, {lacking} of {len(drive)} have none"
            )
        found.append(values)
    return np.concatenate(found)
