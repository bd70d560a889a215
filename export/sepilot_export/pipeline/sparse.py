"""Zeros in weights: a file that leaves them out, and what the interpreters make of them.

TensorFlow's converter stores kernels with many zeros as the values that are none and their places. A dense file shrinks
only when it is compressed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.in_memory import Suffix, pilot_of
from sepilot_export.verify.timing import time_pilots
from sepilot_runtime.base.files import gzip_size
from sepilot_runtime.base.latency import Latency
from sepilot_runtime.contract.contract import Contract

__all__ = ["ENOUGH", "ZeroTiming", "convert_sparse", "has_enough_zeros", "time_zeros", "zeroed"]

ENOUGH = 0.3
"""Share of zeros in one kernel from which the converter stores it as sparse; below it, places cost more than zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroTiming:
    """One file in `time_zeros`: bytes without contract, as it is and compressed, and inference time."""

    name: str
    bytes: int
    gzip_bytes: int
    latency: Latency


def has_enough_zeros(weights: Sequence[NDArray[Any]]) -> bool:
    """Is there a kernel of some size that a sparse file would store in less?"""
    return any(w.size >= 64 and float((w == 0).mean()) >= ENOUGH for w in weights)


def convert_sparse(saved: Path) -> bytes:
    """A SavedModel of `tflite.save_graph` as a float32 TFLite file without its zeros.

    float32 only: with int8 weights LiteRT's default kernels refuse the file ("failed to prepare").
    """
    import tensorflow as tf

    from sepilot_export.convert.tflite import SIGNATURE

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[SIGNATURE])
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    return bytes(converter.convert())


def zeroed(model: Any, share: float) -> Any:
    """A copy of a Keras model in which that share of each kernel's weights, the smallest, is zero."""
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        weights = layer.get_weights()
        for i, weight in enumerate(weights):
            if weight.ndim > 1 and weight.size >= 64:
                weights[i] = np.where(np.abs(weight) > np.quantile(np.abs(weight), share), weight, 0.0)
        layer.set_weights(weights)
    return copy


def time_zeros(
    contents: Mapping[str, tuple[bytes, Suffix]],
    contract: Contract,
    pictures: NDArray[np.uint8],
    *,
    rounds: int = 40,
    calls: int = 50,
) -> list[ZeroTiming]:
    """Size and inference time of several files of one net, measured interleaved on one thread.

    Args:
        contents: name to file and kind, such as the dense file, the one with zeros and the sparse one.
        pictures: (n, h, w, c) uint8, which take turns.
    """
    pilots = [pilot_of(content, suffix, contract) for content, suffix in contents.values()]
    taken = time_pilots(pilots, pictures, rounds=rounds, calls=calls)
    return [
        ZeroTiming(name=name, bytes=len(content), gzip_bytes=gzip_size(content), latency=latency)
        for (name, (content, _)), latency in zip(contents.items(), taken, strict=True)
    ]
