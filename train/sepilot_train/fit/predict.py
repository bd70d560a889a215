"""Asking a net, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_train.base.stored import Pictures

__all__ = ["compiles", "predict"]


def predict(net: Any, pictures: Pictures, batch: int = 256) -> NDArray[np.float32]:
    """The net's output, float32 (n,), for uint8 pictures, fed as the runtime feeds them: float32 times 1/255."""
    net.jit_compile = compiles()
    # Keras's own `predict` makes a pipeline for each call, whose end is waited for as that of an epoch is.
    parts = [
        np.asarray(net.predict_on_batch(pictures[start : start + batch] * np.float32(1 / 255)))
        for start in range(0, len(pictures), batch)
    ]
    return np.concatenate([np.zeros((0, 1), np.float32), *parts])[:, 0]


def compiles() -> bool:
    """Compile by XLA? Not TensorFlow's: its XLA makes depthwise convolutions many times slower on a CPU."""
    import keras

    return bool(keras.backend.backend() != "tensorflow")
