"""Batch-norm statistics over given pictures: exact, of all norms, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_export.compress.norms import augmented, reestimate
from sepilot_runtime.errors import RunError
from sepilot_train.augment import Augmentation


def pictures(count: int = 70, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers(0, random.integers(40, 255, (count, 1, 1, 1)), (count, 8, 12, 1)).astype(np.uint8)


def net() -> Any:
    """Two norms, the second behind dropout and the first one's normalization."""
    import keras

    keras.utils.set_random_seed(0)
    image = x = keras.Input((8, 12, 1), name="image")
    x = keras.layers.Conv2D(3, 3, name="conv1")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="norm1")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, name="conv2")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="norm2")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(image, keras.layers.Dense(1, name="steering")(x))


def values_at(model: Any, layer: str, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What comes out of `layer`, all places of all pictures: (n, channels)."""
    import keras

    found = keras.Model(model.input, model.get_layer(layer).output)(images * np.float32(1 / 255), training=False)
    return np.asarray(found, np.float64).reshape(-1, found.shape[-1])


def statistics(model: Any, norm: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    layer = model.get_layer(norm)
    return np.asarray(layer.moving_mean, np.float64), np.asarray(layer.moving_variance, np.float64)


def test_the_first_norm_gets_the_statistics_of_the_whole_set_whatever_the_batch() -> None:
    model, images = net(), pictures()
    seen = values_at(model, "conv1", images)
    for batch in (16, 64, 1000):
        reestimate(model, images, batch)
        mean, variance = statistics(model, "norm1")
        np.testing.assert_allclose(mean, seen.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(variance, seen.var(axis=0), rtol=1e-4)


def test_a_later_norm_sees_the_earlier_ones_at_work_and_no_dropout() -> None:
    model, images = net(), pictures()
    reestimate(model, images, len(images))
    seen = values_at(model, "conv2", images)  # with the first norm's new statistics, which are those of this one batch
    mean, variance = statistics(model, "norm2")
    np.testing.assert_allclose(mean, seen.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(variance, seen.var(axis=0), rtol=1e-3)


def test_nothing_else_changes() -> None:
    model = net()
    model.get_layer("norm1").trainable = False
    before = {v.path: np.asarray(v) for v in model.variables}
    reestimate(model, pictures(), 32)
    changed = {path for path, value in before.items() if not np.array_equal(value, _value(model, path))}
    assert changed == {f"norm{i}/moving_{what}" for i in (1, 2) for what in ("mean", "variance")}
    assert model.get_layer("norm1").momentum == 0.9
    assert not model.get_layer("norm1").trainable
    assert model.get_layer("norm2").trainable
    assert model.get_layer("dropout").rate == 0.5


def _value(model: Any, path: str) -> NDArray[Any]:
    return next(np.asarray(v) for v in model.variables if v.path == path)


def test_a_net_without_norms_and_one_without_pictures() -> None:
    import keras

    plain = keras.Sequential([keras.Input((8, 12, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    reestimate(plain, pictures(0))
    with pytest.raises(RunError, match="found none"):
        reestimate(net(), pictures(0))


def test_a_net_that_overflows_is_named() -> None:
    model = net()
    model.get_layer("conv2").kernel.assign(np.full((3, 3, 3, 4), np.inf, np.float32))
    with pytest.raises(RunError, match="norm2"):
        reestimate(model, pictures())


def test_augmented_pictures_are_some_of_them_changed_as_in_training_and_the_same_each_time() -> None:
    images = pictures()
    plain = augmented(images, Augmentation(mirror=0.0), limit=10)
    np.testing.assert_array_equal(plain, images[np.linspace(0, 69, 10).astype(int)])
    strong = Augmentation(mirror=0.5, brightness=0.3)
    made = augmented(images, strong, seed=3)
    assert made.shape == images.shape
    assert made.dtype == np.uint8
    assert np.mean(made != images) > 0.5
    np.testing.assert_array_equal(made, augmented(images, strong, seed=3))
    assert not np.array_equal(made, augmented(images, strong, seed=4))
