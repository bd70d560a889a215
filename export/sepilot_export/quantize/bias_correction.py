"""Takes the systematic part out of an int8 file's rounding error, by its biases.

Rounding a kernel of few weights shifts what it makes of a flat surface, always in the same direction, and the shifts of
a depthwise net add up to the output: bright and blurred frames suffer most. The mean shift of each channel over
calibration pictures is taken back by the channel's bias, layer after layer, each with those before it corrected
(empirical bias correction: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
arXiv 1906.04721).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.ranges import Activations

__all__ = ["PICTURES", "BiasedFile", "Operation", "correct_biases", "with_shift"]

PICTURES = 64
"""As many are enough: a channel's mean is over all its places in all of them."""

_LARGEST_BIAS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One with a kernel and an int32 bias, and the tensors to compare.

    Attributes:
        float32: name of what it makes in the float32 file.
        int8: name of the same in the int8 file, as numbers.
        floor: nothing below zero comes out, as of a ReLU.
    """

    float32: str
    int8: str
    floor: bool


class BiasedFile(Protocol):
    """An int8 file whose biases can be changed, beside the float32 file that it was made from."""

    channel_axis: int
    """Of its activations."""

    def operations(self) -> Sequence[Operation]:
        """In the order of computation."""

    def float32(self, tensors: Sequence[str]) -> Activations:
        """Some tensors of the float32 file."""

    def int8(self, tensors: Sequence[str]) -> Activations:
        """Some tensors of the int8 file as it is now."""

    def shift_bias(self, operation: Operation, shift: NDArray[np.float64]) -> None:
        """Add `shift` (channels,), in real units, to a bias."""

    def content(self) -> bytes:
        """The int8 file as it is now."""


def correct_biases(file: BiasedFile, pictures: NDArray[np.uint8]) -> bytes:
    """The int8 file with other biases.

    Args:
        pictures: for calibration, (n, h, w, c) uint8; at most `PICTURES` of them are taken, evenly spaced.
    """
    chosen = pictures[np.linspace(0, len(pictures) - 1, min(PICTURES, len(pictures))).astype(int)]
    operations = file.operations()
    names = [operation.float32 for operation in operations]
    expected = _rows(file.float32(names), names, chosen, file.channel_axis)
    for operation, target in zip(operations, expected, strict=True):
        (found,) = _rows(file.int8([operation.int8]), [operation.int8], chosen, file.channel_axis)
        file.shift_bias(operation, _mean_lack(target, found, floor=operation.floor))
    return file.content()


def with_shift(bias: NDArray[np.int32], shift: NDArray[np.float64], scale: Any) -> NDArray[np.int32]:
    """An int32 bias, each step of it worth `scale`, with `shift` added in real units."""
    shifted = bias + np.rint(shift / np.asarray(scale, np.float64))
    return np.clip(shifted, -_LARGEST_BIAS, _LARGEST_BIAS).astype(np.int32)


def _rows(
    run: Activations, names: Sequence[str], pictures: NDArray[np.uint8], channel_axis: int
) -> list[NDArray[np.float32]]:
    """(places, channels) of each tensor over all pictures."""
    rows: list[list[NDArray[np.float32]]] = [[] for _ in names]
    for picture in pictures:
        values = run(picture)
        for name, row in zip(names, rows, strict=True):
            last = np.moveaxis(values[name], channel_axis, -1)
            # A copy: an interpreter writes the next picture's values into the same memory.
            row.append(np.array(last).reshape(-1, last.shape[-1]))
    return [np.concatenate(row) for row in rows]


def _mean_lack(target: NDArray[np.float32], found: NDArray[np.float32], *, floor: bool) -> NDArray[np.float64]:
    """What each channel lacks in the mean. With `floor`, only where anything is left: elsewhere no bias shows."""
    counted = (target > 0) | (found > 0) if floor else np.ones(target.shape, bool)
    lacking = np.where(counted, target.astype(np.float64) - found, 0.0)
    return np.asarray(lacking.sum(axis=0) / np.maximum(counted.sum(axis=0), 1))
