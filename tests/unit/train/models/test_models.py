"""The nets: their published sizes, names that survive a copy by name, errors that a recipe's author can read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.inspect.keras_graph import maker_of
from sepilot_train.models import BUILDERS, build_model
from sepilot_train.run.recipe import load_recipe

SHAPES = {"pilotnet": (66, 200, 3), "donkey-linear": (120, 160, 3)}


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


@pytest.mark.parametrize("builder", ["v27-foldable", "swift"])
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
    ],
)
def test_bad_recipes_are_told(builder: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_model(builder, (66, 100, 1) if builder == "swift" else shape_of(builder), options)


def test_a_picture_too_small_for_the_net_is_told() -> None:
    with pytest.raises(RecipeError, match=r"pilotnet.*20x30"):
        build_model("pilotnet", (20, 30, 3), {})
