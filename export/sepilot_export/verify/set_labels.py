"""What a file's answers to the pictures of a data set are held against, and what of the set the file does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import Output, Picture
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.recording.labelled import quoted
from sepilot_train.base.cache import PictureSet
from sepilot_train.run.material import set_labels

__all__ = ["labels_in", "strangers"]


def labels_in(found: PictureSet, output: Output, picture: Picture) -> NDArray[np.float32]:
    """(n, ...) of the label that is called as the output; NaN (n,) where the set has none of that name."""
    if output.name not in found.drive.labels:
        return np.full(len(found.drive), np.nan, np.float32)
    return set_labels(output, output.name, found, picture)


def strangers(output: Output, sets: Sequence[PictureSet], picture: Picture) -> list[str]:
    """A line where the sets name classes that the file does not."""
    task, counts = task_of(output), Counter[str]()
    for found in sets:
        names, recorded = found.drive.label_names.get(output.name), found.drive.labels.get(output.name)
        if names and recorded is not None and recorded.ndim == 1:
            strange = np.isfinite(recorded) & ~task.known(labels_in(found, output, picture))
            counts.update(names[int(place)] for place in recorded[strange])
    if not counts:
        return []
    what = f"{counts.total():,} pictures of {len(counts)} classes that the file does not name"
    return [f"{output.name}: {what}: {quoted(sorted(counts))}"]
