"""Affine quantization: the arithmetic that turns stored integers into numbers and back.

    value = (stored - zero_point) * scale

as in the TensorFlow Lite quantization specification (tensorflow.org/lite/performance/quantization_spec), per tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["INT8_INPUT", "Affine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """Scale and zero point of one tensor.

    Attributes:
        scale: the step between two neighbouring stored numbers; positive.
        zero_point: the stored number that means 0.0.
    """

    scale: float
    zero_point: int

    def quantize(self, values: NDArray[np.floating], dtype: type[np.integer]) -> NDArray[np.integer]:
        """Numbers to the nearest stored integers, saturating at the range of `dtype`."""
        limits = np.iinfo(dtype)
        # float64: in float32 a value half a step from two integers may fall to the wrong side.
        steps = np.rint(np.asarray(values, np.float64) / self.scale) + self.zero_point
        stored: NDArray[np.integer] = np.clip(steps, limits.min, limits.max).astype(dtype)
        return stored

    def dequantize(self, stored: NDArray[np.integer]) -> NDArray[np.float32]:
        """Stored integers to numbers.

        They are widened before the subtraction: 127 - (-128) does not fit into int8, and numpy would wrap it silently.
        """
        return ((stored.astype(np.int32) - self.zero_point) * self.scale).astype(np.float32)


INT8_INPUT = Affine(scale=1.0 / 255.0, zero_point=-128)
"""Of every int8 model input: exact for pictures, `stored = pixel - 128`."""
