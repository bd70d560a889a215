"""Batch normalization in the fused kernel: the same training as Keras's own, and Keras's own layers afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

PICTURES = np.random.default_rng(0).random((24, 10, 14, 1), dtype=np.float32) * 3 + 1
LABELS = PICTURES.mean(axis=(1, 2))


def net(**norm: Any) -> Any:
    """With batch normalization of pictures, of a picture in a net inside the net, and of features."""
    import keras

    keras.utils.set_random_seed(0)
    inner_input = y = keras.Input((8, 12, 4))
    y = keras.layers.DepthwiseConv2D(3, strides=2, name="inner_conv")(y)
    inner = keras.Model(inner_input, keras.layers.BatchNormalization(momentum=0.8, name="inner_norm", **norm)(y))
    image = x = keras.Input((10, 14, 1))
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9, epsilon=0.01, name="norm", **norm)(x))
    x = keras.layers.GlobalAveragePooling2D()(inner(x))
    x = keras.layers.BatchNormalization(name="flat_norm")(keras.layers.Dense(3, name="dense")(x))
    return keras.Model(image, keras.layers.Dense(1, name="steering")(x))


def trained(model: Any, wrapped: bool) -> list[NDArray[Any]]:
    import keras

    from sepilot_train.fit.on_tensorflow import FusedNorms

    image = keras.Input((10, 14, 1))
    whole = keras.Model(image, FusedNorms(model)(image)) if wrapped else model
    whole.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    whole.fit(PICTURES, LABELS, batch_size=12, epochs=3, shuffle=False, verbose=0)
    return [np.asarray(value) for value in model.get_weights()]


@pytest.mark.parametrize("norm", [{}, {"scale": False}, {"renorm": True}, {"axis": 1}])
def test_training_is_that_of_keras(norm: dict[str, Any]) -> None:
    """Weights and moving statistics alike, also where the fused kernel does not apply."""
    for fused, plain in zip(trained(net(**norm), True), trained(net(**norm), False), strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=2e-5)


def test_a_frozen_layer_keeps_its_statistics() -> None:
    model = net()
    model.get_layer("norm").trainable = False
    before = [np.asarray(value) for value in model.get_layer("norm").get_weights()]
    trained(model, True)
    for was, now in zip(before, model.get_layer("norm").get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


def test_the_fused_kernel_is_used_where_it_applies() -> None:
    """Otherwise the other tests would pass with nothing done."""
    import keras
    import tensorflow as tf

    from sepilot_train.fit.on_tensorflow import FusedNorms

    image = keras.Input((10, 14, 1))
    whole = keras.Model(image, FusedNorms(net())(image))

    def kernels(training: bool) -> int:
        traced = tf.function(lambda x: whole(x, training=training)).get_concrete_function(tf.constant(PICTURES))
        return sum(operation.type == "FusedBatchNormV3" for operation in traced.graph.get_operations())

    assert (kernels(training=True), kernels(training=False)) == (2, 0)


def test_what_is_saved_is_plain_keras(tmp_path: Path) -> None:
    import keras

    model = net()
    trained(model, True)
    kinds = {type(layer) for layer in model.layers if "norm" in layer.name}
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert kinds == {keras.layers.BatchNormalization}
    np.testing.assert_array_equal(loaded.predict(PICTURES, verbose=0), model.predict(PICTURES, verbose=0))
