"""What makes the training step faster on the TensorFlow back end; the one module here that imports TensorFlow.

Batch normalization in the fused kernel: Keras 3 computes it from a dozen elementary operations, each of which goes
through the whole feature map. With small separable nets on a CPU that is half of a step (`scripts/bench-training`).
The layers stay Keras's own, so what is saved, exported and compressed knows nothing of it.

Sampling by gathers in one loop: XLA, which makes the nets slower on a CPU, makes rotated pictures five times faster.

Batches without tf.data's tuning thread: Keras makes an iterator for each epoch, and taking down the last one waits for
that thread, up to two seconds on two cores. There is nothing here for it to tune.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

__all__ = ["FusedNorms", "by_xla", "dataset"]


def dataset(batches: Any) -> Any:
    """A tf.data.Dataset of the batches of a PyDataset, drawn anew each time it is gone through."""
    inputs, labels = batches[0]
    signature = tuple(
        {name: tf.TensorSpec.from_tensor(tf.constant(value)) for name, value in arrays.items()}
        for arrays in (inputs, labels)
    )
    steps = len(batches)
    data = tf.data.Dataset.from_generator(lambda: map(batches.__getitem__, range(steps)), output_signature=signature)
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.prefetch(2).apply(tf.data.experimental.assert_cardinality(steps)).with_options(options)


def by_xla(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled by itself within whatever step calls it."""
    compiled: Callable[..., Any] = tf.function(function, jit_compile=True, autograph=False)
    return compiled


class FusedNorms(keras.layers.Layer):  # type: ignore[misc]
    """Calls `net`, unchanged but for the speed of its batch normalization in training."""

    def __init__(self, net: Any) -> None:
        super().__init__(name="fused_norms")
        self.net = net

    def call(self, pictures: Any, training: bool = False) -> Any:
        with _fused(self.net):
            return self.net(pictures, training=training)


class _FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """The same layer with the same variables; what the fused kernel cannot do is left to Keras."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        fused = training and self.trainable and mask is None and _is_fusable(self, inputs)
        return self._fused_call(inputs) if fused else super().call(inputs, training=training, mask=mask)

    def _fused_call(self, inputs: Any) -> Any:
        answer = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=self.gamma, offset=self.beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        # The kernel gives the unbiased variance; Keras averages the biased one.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], "float32")
        kept = self.momentum
        self.moving_mean.assign(kept * self.moving_mean + (1 - kept) * answer.batch_mean)
        variance = answer.batch_variance * ((count - 1) / count)
        self.moving_variance.assign(kept * self.moving_variance + (1 - kept) * variance)
        return answer.y


def _is_fusable(layer: Any, inputs: Any) -> bool:
    plain = layer.scale and layer.center and not layer.renorm and not layer.synchronized
    return bool(plain and len(inputs.shape) == 4 and layer.axis in (-1, 3) and inputs.dtype == "float32")


@contextmanager
def _fused(net: Any) -> Iterator[None]:
    """Only while the step is traced: afterwards the layers are Keras's again."""
    layers = [layer for layer in _layers(net) if type(layer) is keras.layers.BatchNormalization]
    _become(layers, _FusedBatchNormalization)
    try:
        yield
    finally:
        _become(layers, keras.layers.BatchNormalization)


def _become(layers: list[Any], kind: type) -> None:
    for layer in layers:
        # Past Keras, which would track the class as if it were a variable.
        object.__setattr__(layer, "__class__", kind)


def _layers(net: Any) -> Iterator[Any]:
    for layer in net.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer
