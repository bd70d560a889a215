"""Memory of an engine's inputs, allocated once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import Contract

__all__ = ["input_buffers"]


def input_buffers(contract: Contract, dtype: np.dtype[Any]) -> dict[str | None, NDArray[Any]]:
    """Memory for all inputs by name, that of the picture or frame under None too."""
    picture = np.zeros(contract.input_shape, dtype)
    buffers: dict[str | None, NDArray[Any]] = {None: picture, contract.input_name: picture}
    for vector in contract.vectors:
        buffers[vector.name] = np.zeros((1, vector.size), np.float32)
    return buffers
