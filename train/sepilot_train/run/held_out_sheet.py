"""Held-out pictures with what the model says of places in them, and what was to be said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.protocol import Array, Output
from sepilot_runtime.view import contact_sheet, drawing
from sepilot_runtime.view.drawing import MODEL_COLOR, QUIET, RECORDED_COLOR, SOFT
from sepilot_train.base.stored import Pictures

__all__ = ["draw_held_out"]

COLUMNS, TILE_WIDTH, HEAD_HEIGHT = 6, 240, 56
ROWS = ("best", "middling", "worst")


def draw_held_out(path: Path, output: Output, pictures: Pictures, labels: Array, said: Array) -> None:
    """Write a sheet as PNG: a row each of the pictures with the smallest errors, those in the middle, the largest.

    Args:
        pictures: (n, h, w, c) uint8, n >= 1.
        labels, said: (n, ...), as the kind of the output, which names places, has them.
    """
    task = task_of(output)
    error = task.error(said, labels)
    order = np.argsort(error, kind="stable")
    middle = max(0, (len(order) - COLUMNS) // 2)
    rows = (order[:COLUMNS], order[middle : middle + COLUMNS], order[-COLUMNS:])
    head = contact_sheet.empty_head(HEAD_HEIGHT, COLUMNS, TILE_WIDTH)
    title = [(f"{output.name}, {len(order):,} held-out pictures   ", SOFT), ("model   ", MODEL_COLOR)]
    contact_sheet.words_at(head, [*title, ("label", RECORDED_COLOR)], (contact_sheet.MARGIN, 36), size=22)
    tiles = []
    for kind, places in zip(ROWS, rows, strict=True):
        for place in places.tolist():
            tile = _tile(np.asarray(pictures[place]))
            height, width = tile.shape[:2]
            value = task.in_frame(task.decode(np.asarray(said[place], np.float32)), (0.0, 0.0, width, height))
            task.draw_on(tile, value, labels[place])
            tiles.append((tile, [[(f"{kind}, error {error[place]:.3f}", QUIET)], [(task.words(value), SOFT)]]))
    contact_sheet.write_picture(contact_sheet.lay_out(head, tiles, columns=COLUMNS), path)


def _tile(picture: NDArray[np.uint8]) -> drawing.Canvas:
    return contact_sheet.fitted(picture[..., 0] if picture.shape[2] == 1 else picture, TILE_WIDTH).copy()
