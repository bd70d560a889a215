"""What was recorded beside a frame, in the terms of an output that is to say it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sepilot_runtime.contract.outputs.kinds import Output, task_of
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.contract.window import window_of
from sepilot_runtime.source.protocol import Frame

__all__ = ["label_of", "recorded_value"]


def label_of(frame: Frame, output: Output, picture: Picture | None = None) -> Any:
    """The label of an output's name as its task takes one: a number, or float32 as the kind has them; None for none.

    Args:
        picture: of whose part of the frame the label is to be; None for the whole frame.
    """
    label = frame.labels.get(output.name)
    if label is None:
        return None
    names = frame.label_names.get(output.name, ())
    if not names and isinstance(label, float):
        return label
    window = [0.0, 0.0, 1.0, 1.0]
    if picture is not None:
        height, width = frame.image.shape[:2]
        left, top, wide, high = window_of(height, width, picture)
        window = [left / width, top / height, wide / width, high / height]
    found = task_of(output).labels(np.asarray([label], np.float32), names, np.array([window]))[0]
    if not np.isfinite(found).any():
        return None
    return float(found) if np.ndim(found) == 0 else found


def recorded_value(frame: Frame, output: Output) -> Any:
    """The same as people and documents have it: a number, the name of a class, words; None for none."""
    label = frame.labels.get(output.name)
    if label is None:
        return None
    names = frame.label_names.get(output.name, ())
    if isinstance(label, float):
        return names[int(label)] if names else label
    label = label_of(frame, output)
    return None if label is None else task_of(output).words(label)
