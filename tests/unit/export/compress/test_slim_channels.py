"""Channels: which belong together, that cutting idle ones changes nothing, and what cannot be cut is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_export.compress.blocks import bypass, find_blocks
from sepilot_export.compress.channels import remove, wire
from sepilot_runtime.base.errors import RunError
from sepilot_train.inspect.keras import keras_nodes
from sepilot_train.inspect.table import layer_table
from sepilot_train.models import build_model

SHAPE = (32, 48, 1)
TINY: dict[str, Any] = {"stem": 8, "widths": [8, 16], "repeats": [1, 1], "dense": [8]}


def branched() -> Any:
    """Concatenated branches, one of which is also added to; batch norm across the seam; a depth multiplier; PReLU."""
    import keras

    L = keras.layers
    image = keras.Input(SHAPE, name="image")
    left = L.Conv2D(6, 3, strides=2, padding="same", name="left")(image)
    right = L.Conv2D(4, 5, strides=2, padding="same", name="right")(image)
    right = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="spread")(right)
    joined = L.Concatenate(name="seam")([left, right])
    joined = L.BatchNormalization(name="norm")(joined)
    joined = L.PReLU(shared_axes=(1, 2), name="slope")(joined)
    side = L.SeparableConv2D(14, 3, padding="same", depth_multiplier=2, activation="relu", name="side")(joined)
    both = L.Add(name="both")([joined, side])
    x = L.MaxPooling2D(2, name="pool")(both)
    x = L.Dense(5, activation="tanh", name="every_place")(x)
    x = L.Concatenate(name="again")([x, L.AveragePooling2D(2, name="mean")(left)])
    x = L.Flatten(name="flat")(x)
    x = L.Dense(7, activation="relu", name="hidden")(x)
    return keras.Model(image, L.Dense(1, name="steering")(x))


def concatenated_inner() -> Any:
    """A flattened tensor beside a vector, in front of one dense layer."""
    import keras

    L = keras.layers
    image = keras.Input(SHAPE, name="image")
    x = L.Conv2D(6, 3, strides=4, padding="same", activation="relu", name="conv")(image)
    flat = L.Flatten(name="flat")(x)
    average = L.GlobalAveragePooling2D(name="average")(x)
    other = L.Dense(5, activation="relu", name="other")(average)
    x = L.Concatenate(name="seam")([other, flat])
    return keras.Model(image, L.Dense(1, name="steering")(x))


NETS: dict[str, Callable[[], Any]] = {
    "separable": lambda: build_model("swift", SHAPE, TINY),
    "residual": lambda: build_model("swift", SHAPE, {**TINY, "residual": True, "repeats": [2, 1]}),
    "v27": lambda: build_model("v27", SHAPE, {"filters": [4, 6, 8], "dense": [8, 6]}),
    "v27-foldable": lambda: build_model("v27-foldable", SHAPE, {"filters": [4, 6, 8], "dense": [8]}),
    "flatten": lambda: build_model("pilotnet", (66, 100, 1), {"dense": [20, 10]}),
    "branched": branched,
    "concatenated": concatenated_inner,
}


@pytest.fixture(scope="module", params=NETS)
def model(request: pytest.FixtureRequest) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    # In float64 what the order of a sum changes is far below any fault, on every processor.
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        made = NETS[request.param]()
    finally:
        keras.config.set_dtype_policy(policy)
    random = np.random.default_rng(0)
    for layer in made.layers:
        # Statistics and scales of a trained net are not zeros and ones.
        layer.set_weights([w + random.uniform(0.05, 0.3, w.shape) for w in layer.get_weights()])
    return made


def some_channels(model: Any, seed: int = 1) -> NDArray[np.bool_]:
    """Keep a random part of every group."""
    wiring = wire(model)
    kept = np.ones(wiring.count, bool)
    random = np.random.default_rng(seed)
    for group in wiring.groups:
        kept[random.choice(group.channels, len(group.channels) // 3, replace=False)] = False
    assert not kept.all()
    return kept


def answers(model: Any) -> NDArray[np.floating]:
    images = np.random.default_rng(2).random((4, *model.input.shape[1:]), np.float32)
    return np.asarray(model(images, training=False))


def silence(model: Any, kept: NDArray[np.bool_]) -> Any:
    """A copy of `model` in which channels that are not `kept` are made as zeros: kernels, biases, norms."""
    import keras

    copy = keras.models.clone_model(model)
    wiring = wire(model)
    for layer in model.layers:
        if layer.weights:
            weights = layer.get_weights()
            gone = ~kept[wiring.makes[layer.name]]
            made = {"DepthwiseConv2D": 1, "SeparableConv2D": 2}.get(type(layer).__name__, 0)
            if type(layer).__name__ == "BatchNormalization":
                weights[0][gone], weights[1][gone] = 0, 0
            elif type(layer).__name__ != "PReLU":
                for w in weights[max(made - 1, 0) :]:
                    if made != 1 or w.ndim == 1:
                        w[..., gone] = 0
            copy.get_layer(layer.name).set_weights(weights)
    return copy


def test_removing_idle_channels_changes_nothing(model: Any) -> None:
    kept = some_channels(model)
    silent = silence(model, kept)
    smaller = remove(silent, wire(silent), kept)
    assert smaller.count_params() < model.count_params()
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]
    assert smaller.input.shape == model.input.shape
    assert smaller.output.shape == model.output.shape
    # A dozen layers, each a sum of at most 3e4 terms, each rounded at 1e-16.
    np.testing.assert_allclose(answers(smaller), answers(silent), rtol=1e-10)
    # The same cut matters where the channels are not idle: the comparison above can fail.
    assert np.abs(answers(remove(model, wire(model), kept)) / answers(model) - 1).max() > 1e-3


def test_multiplications_are_counted_as_the_layer_table_counts(model: Any) -> None:
    wiring, kept = wire(model), some_channels(model)
    assert wiring.macs(np.ones(wiring.count, bool)) == layer_table(keras_nodes(model)).macs
    assert wiring.macs(kept) == layer_table(keras_nodes(remove(model, wiring, kept))).macs


def test_groups_of_residual_and_concatenated_nets() -> None:
    residual = wire(NETS["residual"]())
    stage = next(g for g in residual.groups if "stage1_down_pointwise" in g.producers)
    assert stage.producers == ("stage1_down_pointwise", "stage1_block1_pointwise", "stage1_block2_pointwise")
    joined = {g.producers: len(g.channels) for g in wire(branched()).groups}
    # `side` makes 14 channels: 6 are added to those of `left`, 8 to the 4 of `right` that were doubled.
    assert joined == {("left", "side"): 6, ("right", "side"): 4, ("every_place",): 5, ("hidden",): 7}
    kinds = {k.kind for k in wire(NETS["v27"]()).kernels}
    assert kinds == {"depthwise", "pointwise", "dense"}


def _with(layer: Callable[[Any, Any], Any]) -> Any:
    import keras

    image = keras.Input((8, 12, 4), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv")(image)
    x = layer(keras.layers, x)
    return keras.Model(image, keras.layers.Dense(1, name="steering")(keras.layers.Flatten(name="flat")(x)))


def _twice(layers: Any, x: Any) -> Any:
    shared = layers.Conv2D(8, 3, padding="same", name="odd")
    return shared(shared(x))


@pytest.mark.parametrize(
    "layer",
    [
        lambda layers, x: layers.Reshape((48, 16), name="odd")(x),
        lambda layers, x: layers.LayerNormalization(name="odd")(x),
        lambda layers, x: layers.Conv2D(8, 3, groups=2, name="odd")(x),
        lambda layers, x: layers.BatchNormalization(axis=1, name="odd")(x),
        lambda layers, x: layers.Concatenate(axis=1, name="odd")([x, x]),
        lambda layers, x: layers.PReLU(shared_axes=(1, 2, 3), name="odd")(x),
        lambda layers, x: layers.Add(name="odd")([x, layers.Conv2D(1, 3, padding="same", name="one")(x)]),
        lambda layers, x: layers.Conv2DTranspose(8, 3, name="odd")(x),
        _twice,
    ],
)
def test_what_cannot_be_cut_is_named_with_what_can_be_done(layer: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(RunError, match=r"^odd \(.*prune, cluster and quantize") as caught:
        wire(_with(layer))
    assert "\n" not in str(caught.value)


def test_channels_that_a_softmax_weighs_against_each_other_stay() -> None:
    wiring = wire(_with(lambda layers, x: layers.Dense(6, activation="softmax", name="shares")(x)))
    assert wiring.fixed == ("shares",)
    assert [g.producers for g in wiring.groups] == [("conv",)]


BLOCKS = {"separable": 2, "residual": 3, "v27": 3, "v27-foldable": 3, "flatten": 0}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_found(name: str) -> None:
    blocks = find_blocks(NETS[name]())
    assert len(blocks) == BLOCKS[name]
    if name == "residual":
        assert all(b[-1].endswith("_add") and len(b) == 5 for b in blocks)


@pytest.mark.parametrize("name", ["separable", "residual"])
def test_a_block_that_does_nothing_can_go(name: str) -> None:
    model = NETS[name]()
    for layer in model.layers:
        if "_block" not in layer.name or not layer.weights:
            continue
        kernel = np.zeros_like(layer.get_weights()[0])
        if layer.name.endswith("_depthwise"):
            kernel[1, 1] = 1
            layer.set_weights([kernel])
        elif layer.name.endswith("_pointwise"):
            layer.set_weights([np.eye(kernel.shape[-1])[None, None] if name == "separable" else kernel])
        else:
            layer.epsilon = 0.0
    smaller = bypass(model, find_blocks(model))
    assert not [layer.name for layer in smaller.layers if "_block" in layer.name]
    np.testing.assert_allclose(answers(smaller), answers(model), atol=1e-6)
    assert np.abs(answers(bypass(model, find_blocks(model)[:1])) - answers(model)).max() < 1e-6
