"""Memory of an engine's inputs and answers, allocated once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.outputs.protocol import parted
from sepilot_runtime.contract.quantization import Affine

__all__ = ["answer_buffers", "input_buffers", "reader"]


def input_buffers(contract: Contract, dtype: np.dtype[Any]) -> dict[str | None, NDArray[Any]]:
    """Memory for all inputs by name, that of the picture or frame under None too."""
    picture = np.zeros(contract.input_shape, dtype)
    buffers: dict[str | None, NDArray[Any]] = {None: picture, contract.input_name: picture}
    for vector in contract.vectors:
        buffers[vector.name] = np.zeros((1, vector.size), np.float32)
    return buffers


def answer_buffers(contract: Contract) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Memory for all answers by output, as the contract shapes them, and views of it by tensor, as those are shaped."""
    answers = {output.name: np.zeros(output.shape, np.float32) for output in contract.outputs}
    views = {name: view[0] for o in contract.outputs for name, view in parted(answers[o.name][np.newaxis], o).items()}
    return answers, views


def reader(
    stored: Callable[[], NDArray[Any]], answer: NDArray[np.float32], affine: Affine | None
) -> Callable[[], None]:
    """What brings an output from an interpreter's memory into `answer`, and allocates nothing.

    Args:
        stored: a view of that memory, of as many numbers.
        affine: where they are integers, what they mean.
    """
    if answer.size == 1:
        # A number by itself is read in a third of the time that numpy takes over an array.
        scale, zero_point = (affine.scale, affine.zero_point) if affine else (1.0, 0)

        def read_number() -> None:
            answer[0] = stored().item()

        def read_integer() -> None:
            answer[0] = (stored().item() - zero_point) * scale

        return read_integer if affine else read_number
    flat = answer.reshape(-1)

    def read_numbers() -> None:
        np.copyto(flat, stored().reshape(-1))

    def read_integers() -> None:
        assert affine is not None
        np.subtract(stored().reshape(-1), np.float32(affine.zero_point), out=flat, dtype=np.float32)
        np.multiply(flat, np.float32(affine.scale), out=flat)

    return read_integers if affine else read_numbers
