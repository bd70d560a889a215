"""Asking a net, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.protocol import joined
from sepilot_train.base.stored import Pictures

__all__ = ["by_name", "compiles", "inputs_of", "predict"]


MOST_NUMBERS = 1 << 26
"""Of a batch of float32 pictures: 256 MB."""


def predict(
    net: Any, pictures: Pictures, vectors: Mapping[str, NDArray[np.float32]] | None = None, *, batch: int = 256
) -> dict[str, NDArray[np.float32]]:
    """What a net says to n uint8 pictures, fed as the runtime feeds them: float32 times 1/255.

    Args:
        vectors: what goes beside them, (n, size) by input.
        batch: pictures at once, at most; fewer of large ones.

    Returns:
        By output, float32 (n, *shape), or (n,) where it is one number.
    """
    net.jit_compile = compiles()
    batch = max(1, min(batch, MOST_NUMBERS // max(1, math.prod(pictures.shape[1:]))))
    # Keras's own `predict` makes a pipeline for each call, whose end is waited for as that of an epoch is.
    parts = [
        by_name(
            net.output_names,
            net.predict_on_batch(
                inputs_of(
                    net,
                    pictures[start : start + batch] * np.float32(1 / 255),
                    {name: values[start : start + batch] for name, values in (vectors or {}).items()},
                )
            ),
        )
        for start in range(0, len(pictures), batch)
    ]
    if not parts:
        return {name.partition(".")[0]: np.zeros(0, np.float32) for name in net.output_names}
    found = joined({name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]})
    return {name: values[:, 0] if values.shape[1:] == (1,) else values for name, values in found.items()}


def inputs_of(net: Any, pictures: Any, vectors: Mapping[str, Any]) -> Any:
    """What a net is called with: its pictures alone, or by name with what goes beside them."""
    if not vectors:
        return pictures
    return {name: vectors.get(name, pictures) for name in (str(tensor.name) for tensor in net.inputs)}


def by_name(names: Sequence[str], answer: Any) -> dict[str, Any]:
    """What a Keras net gave back, by its outputs' names: a table, a list in their order, or the one of them."""
    if isinstance(answer, Mapping):
        return dict(answer)
    return dict(zip(names, answer if isinstance(answer, list | tuple) else [answer], strict=True))


def compiles() -> bool:
    """Compile by XLA? Not TensorFlow's: its XLA makes depthwise convolutions many times slower on a CPU."""
    import keras

    return bool(keras.backend.backend() != "tensorflow")
