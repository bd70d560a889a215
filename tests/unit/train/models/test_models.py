"""The nets: their published sizes, names that survive a copy by name, errors that a recipe's author can read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np
import pytest

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.inspect.keras import keras_nodes
from sepilot_train.inspect.keras_graph import maker_of
from sepilot_train.inspect.table import layer_table
from sepilot_train.models import BUILDERS, EXAMPLES, blocks, build_model
from sepilot_train.run.recipe import load_recipe

SHAPES = {"pilotnet": (66, 200, 3), "donkey-linear": (120, 160, 3), **{name: e[0] for name, e in EXAMPLES.items()}}
SHAPES["wide"] = (128, 128, 3)


def shape_of(builder: str) -> tuple[int, int, int]:
    return SHAPES.get(builder, (66, 100, 1))


@pytest.mark.parametrize(
    ("builder", "parameters"),
    [
        ("v27", 64_546),  # the source material's figure
        ("v27-foldable", 64_546),
        ("pilotnet", 252_219),  # counted by hand from the paper's figure 4
        ("donkey-linear", 817_028),  # Donkeycar's own, with its two outputs
    ],
)
def test_published_parameter_counts(builder: str, parameters: int) -> None:
    outputs = load_recipe(builder).targets
    assert build_model(builder, shape_of(builder), {}, dict.fromkeys(outputs, 1)).count_params() == parameters


@pytest.mark.parametrize(
    ("builder", "parameters", "million_macs", "fields"),
    [
        # Both are the source material's, as its own summaries count them; fields by the standard formula.
        ("separable-64", 38_949, 20.3, [3, 5, 6, 10, 14, 16, 24, 32]),
        ("cifar-under-100k", 94_911, 12.4, [3, 5, 6, 10, 14, 16, 24, 28, 28, 52]),
        ("cifar-sep", 95_514, 20.2, None),
        ("wide", 148_541, 96.0, None),
        ("landmarks", 229_608, 5.0, None),
    ],
)
def test_classifiers_have_the_size_that_they_are_described_with(
    builder: str, parameters: int, million_macs: float, fields: list[int] | None
) -> None:
    picture, classes = EXAMPLES[builder]
    table = layer_table(keras_nodes(build_model(builder, picture, {}, {"kind": classes})))
    assert table.parameters == parameters and table.macs / 1e6 == pytest.approx(million_macs, abs=0.05)
    if fields:
        assert [max(row.receptive_field or ()) for row in table.rows if row.role == "window"] == fields


def test_the_cifar_net_of_the_source_is_its_last_layers_the_other_way_round() -> None:
    """A separable 4x4 convolution to the classes, averaged, on a picture that leaves a map of 2x2 for the average."""
    net = build_model("cifar-under-100k", (40, 40, 3), {}, {"kind": 10})
    depthwise, head = net.get_layer("last_depthwise"), net.get_layer("kind")
    source = keras.layers.SeparableConv2D(10, 4, use_bias=False)
    features = np.random.default_rng(0).normal(size=(2, 5, 5, 168)).astype(np.float32)
    source(features)
    source.set_weights([depthwise.get_weights()[0], head.get_weights()[0][None, None]])
    expected = np.asarray(source(features)).mean((1, 2))
    assert np.asarray(head(net.get_layer("average")(depthwise(features)))) == pytest.approx(expected, abs=1e-5)


def test_he_starts_where_glorot_fades() -> None:
    """The spread between pictures behind six separable convolutions that nothing normalizes."""
    pictures = np.random.default_rng(0).random((8, 40, 40, 1), np.float32) * np.ones((1, 1, 1, 3), np.float32)
    pictures *= np.linspace(0.2, 1, 8, dtype=np.float32)[:, None, None, None]
    spread = {}
    for start in ("glorot", "he"):
        keras.utils.set_random_seed(0)
        net = build_model("separable-64", (40, 40, 3), {"start": start})
        spread[start] = float(np.ptp(np.asarray(net(pictures))))
    assert spread["he"] > 0.1 and spread["glorot"] < 1e-3


@pytest.mark.parametrize("builder", BUILDERS)
def test_each_output_is_a_head_of_its_name_on_the_same_features(builder: str) -> None:
    heads = ({"a": 1}, {"a": 1, "b": 1, "c": 5})
    one, several = (build_model(builder, shape_of(builder), {}, outputs) for outputs in heads)
    assert several.output_names == ["a", "b", "c"] and several.output_shape == [(None, 1), (None, 1), (None, 5)]
    head = one.get_layer("a").count_params()
    assert several.count_params() == one.count_params() + 6 * head


@pytest.mark.parametrize("builder", BUILDERS)
def test_interface_and_explicit_names(builder: str) -> None:
    first, second = (build_model(builder, shape_of(builder), {}) for _ in range(2))
    assert [t.name for t in first.inputs] == ["image"]
    assert first.output_shape == (None, 1)
    assert first.layers[-1].name == "steering"
    # An automatic name would be counted up in the second model.
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


@pytest.mark.parametrize(
    "builder", ["v27-foldable", "swift", "cifar-under-100k", "cifar-sep", "wide", "inception", "stereo"]
)
def test_batch_normalization_can_be_folded(builder: str) -> None:
    """Each one directly follows a convolution without an activation."""
    norms = [layer for layer in build_model(builder, shape_of(builder), {}).layers if "Batch" in type(layer).__name__]
    assert norms
    for layer in norms:
        source = maker_of(layer.input)
        assert "Conv" in type(source).__name__
        assert source.activation.__name__ == "linear"


def test_v27_normalizes_after_the_activation() -> None:
    """That is the source material's order, and what makes it slow; `v27-foldable` exists for the other."""
    norm = build_model("v27", (66, 100, 1), {}).get_layer("block1_norm")
    assert maker_of(norm.input).activation.__name__ == "relu"


@pytest.mark.parametrize("builder", ["swift", "v27-foldable", "cifar-sep", "wide", "inception"])
def test_an_activation_by_name_is_in_every_block_and_no_relu_is_left(builder: str) -> None:
    plain, leaky = (
        build_model(builder, shape_of(builder), {"activation": name, **({"dense": []} if builder == "swift" else {})})
        for name in ("relu", "leaky")
    )
    kinds = [Counter(type(layer).__name__ for layer in net.layers) for net in (plain, leaky)]
    assert kinds[1]["LeakyReLU"] >= kinds[0]["ReLU"] > 0 and not kinds[1]["ReLU"]
    assert leaky.count_params() == plain.count_params()
    used = {getattr(layer, "activation", keras.activations.linear).__name__ for layer in leaky.layers[1:-6]}
    assert used == {"linear"}


def test_activations_are_what_their_names_say() -> None:
    x = np.linspace(-8, 8, 65, dtype=np.float32)[None]
    sigmoid = 1 / (1 + np.exp(-x))
    expected = {
        "relu": np.maximum(x, 0),
        "relu6": np.clip(x, 0, 6),
        "leaky": np.where(x < 0, 0.1 * x, x),
        "swish": x * sigmoid,
        "hard-swish": x * np.clip(x + 3, 0, 6) / 6,
    }
    for name, values in expected.items():
        assert np.asarray(blocks.activation(keras, name, "a")(x)) == pytest.approx(values, abs=1e-5), name


def test_a_tower_has_the_same_weights_at_each_use() -> None:
    net = build_model("stereo", (32, 64, 1), {})
    half = np.random.default_rng(0).random((1, 32, 32, 1), np.float32)
    seen = keras.Model(net.input, net.get_layer("both").output)(np.concatenate([half, half], axis=2))
    left, right = np.split(np.asarray(seen), 2, axis=-1)
    assert np.ptp(left) > 0 and left == pytest.approx(right, abs=1e-6)


def test_options_reach_the_builder() -> None:
    small = build_model("swift", (32, 48, 3), {"stem": 8, "widths": [8, 16], "repeats": [1, 0]})
    assert small.count_params() < build_model("swift", (66, 100, 1), {}).count_params() / 4
    assert np.asarray(small(np.zeros((2, 32, 48, 3), np.float32))).shape == (2, 1)


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        ("swfit", {}, "expected one of v27.*swift.*found 'swfit'"),
        ("swift", {"stems": 8}, "swift has no option 'stems'; it knows stem, widths, repeats"),
        ("swift", {"widths": [8, 16], "repeats": [1]}, "2 widths and 1 repeats"),
        ("pilotnet", {"dense": "many"}, "pilotnet"),
        ("swift", {"activation": "gelu"}, "activation: one of relu, .*hard-swish expected, found 'gelu'"),
        ("cifar-under-100k", {"dropouts": [0.1]}, "3 pools and 1 dropouts"),
        ("separable-64", {"start": "zero"}, "start: one of glorot, he expected, found 'zero'"),
    ],
)
def test_bad_recipes_are_told(builder: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_model(builder, (66, 100, 1) if builder == "swift" else shape_of(builder), options)


def test_a_picture_too_small_for_the_net_is_told() -> None:
    with pytest.raises(RecipeError, match=r"pilotnet.*20x30"):
        build_model("pilotnet", (20, 30, 3), {})
