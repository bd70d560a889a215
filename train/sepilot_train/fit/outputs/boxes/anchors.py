"""Usual sizes of boxes, found in the recordings: k-means with 1 - IoU as the distance (Redmon and Farhadi 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.contract.outputs.boxes.geometry import shape_iou
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.contract.window import window_of
from sepilot_runtime.recording.drive import Drive

__all__ = ["Sizes", "anchors_of", "box_sizes", "mean_iou"]

Sizes = NDArray[np.float64]
"""(k, 2) widths and heights."""

ROUNDS = 300

SAMPLE = 200
"""Frames whose size is looked up; those of most sets are all alike."""


def box_sizes(drives: Sequence[Drive], label: str, picture: Picture) -> Sizes:
    """Of the boxes of frames all over `drives`, in fractions of what a picture shows."""
    return np.concatenate([np.zeros((0, 2)), *_sizes(drives, label, picture)])


def _sizes(drives: Sequence[Drive], label: str, picture: Picture) -> Iterator[Sizes]:
    own = [drive for drive in drives if label in drive.label_names]
    for drive in own:
        labels = drive.labels[label]
        rows = np.flatnonzero(labels[:, 0, 0] >= 0)
        for row in rows[np.linspace(0, len(rows) - 1, min(len(rows), -(-SAMPLE // len(own)))).astype(int)].tolist():
            try:
                height, width = drive.read(row).shape[:2]
            except FrameError:
                continue  # It is told of when the frames are decoded.
            _, _, wide, high = window_of(height, width, picture)
            real = labels[row][labels[row][:, 0] >= 0]
            yield real[:, 3:].astype(np.float64) * (width / wide, height / high)


def anchors_of(sizes: Sizes, count: int) -> tuple[tuple[float, float], ...]:
    """`count` sizes that are most like all of `sizes`, the smallest first, rounded to a thousandth.

    Always the same of the same sizes: it begins with those at even steps of the order by area.
    """
    area = np.argsort(sizes.prod(axis=1), kind="stable")
    means = sizes[area[((np.arange(count) + 0.5) / count * len(area)).astype(int)]]
    nearest = np.full(len(sizes), -1)
    for _ in range(ROUNDS):
        now = shape_iou(sizes, means).argmax(axis=1)
        if (now == nearest).all():
            break
        nearest = now
        means = np.stack([np.median(sizes[now == k], axis=0) if (now == k).any() else means[k] for k in range(count)])
    means = means[np.argsort(means.prod(axis=1), kind="stable")]
    return tuple((max(round(float(w), 3), 1e-3), max(round(float(h), 3), 1e-3)) for w, h in means)


def mean_iou(sizes: Sizes, anchors: Sequence[tuple[float, float]]) -> float:
    """Of each size and the anchor that is most like it."""
    return float(shape_iou(sizes, np.array(anchors)).max(axis=1).mean())
