"""Has a frame the shape of those that a model was trained on?

Whatever comes in is squeezed into the model's picture: a camera that was turned by 90 degrees, or that gives 16:9 where
4:3 was trained on, shows a road that bends elsewhere. The size alone does not matter.
"""

from __future__ import annotations

import struct

from sepilot_runtime.base.errors import ContractError
from sepilot_runtime.contract.contract import Contract

__all__ = ["FrameShape", "other_shape"]

ASPECT_TOLERANCE = 0.05
"""Of width over height. Golden frames are stored 40 pixels wide, so that their height is rounded by up to 3 %."""

PNG_SIZE = struct.Struct(">II")
PNG_SIZE_PLACE = 16
"""Of width and height in a PNG file: after its mark, and the length and name of the first chunk."""


def other_shape(contract: Contract, width: int, height: int) -> str:
    """What is wrong with frames of that size, for people; "" where they have the shape of the training's.

    A contract that does not say how large those were has golden frames, which are small copies of some.
    """
    sizes = _trained_sizes(contract)
    if not sizes or not (width and height) or contract.frame is not None:
        return ""
    aspects = [w / h for w, h in sizes]
    if any(abs(width / height / aspect - 1) <= ASPECT_TOLERANCE for aspect in aspects):
        return ""
    return f"frames are {width}x{height}, {width / height:.2f} to 1; those of the training were {aspects[0]:.2f} to 1"


class FrameShape:
    """Holds the frames of a drive against the training's, and against the first one that was steered by."""

    def __init__(self) -> None:
        self._first: tuple[int, ...] | None = None
        self._known: tuple[int, ...] | None = None

    def trouble(self, shape: tuple[int, ...], contract: Contract) -> str:
        """What is wrong with a frame of that shape (H, W, …), in words that stay the same; "" for nothing."""
        size = shape[:2]
        if size == self._known:
            return ""
        if self._first not in (None, size):
            return "the frame is of another size than the first one"
        if other_shape(contract, size[1], size[0]):
            return "the frame has another shape than those of the training"
        return ""

    def steered_by(self, shape: tuple[int, ...]) -> None:
        """A frame of that shape was, so that all that follow must have its size."""
        self._first = self._known = shape[:2]

    def another_model(self) -> None:
        """Hold the next frame against the training's anew."""
        self._known = None


def _trained_sizes(contract: Contract) -> list[tuple[int, int]]:
    """(width, height) of training frames, or of small copies."""
    if contract.statistics is not None and contract.statistics.frame_size is not None:
        return [contract.statistics.frame_size]
    sizes = []
    for golden in contract.golden:
        try:
            width, height = PNG_SIZE.unpack_from(golden.frame_bytes(), PNG_SIZE_PLACE)
        except (ContractError, struct.error):
            continue
        sizes += [(width, height)] if width and height else []
    return sizes
