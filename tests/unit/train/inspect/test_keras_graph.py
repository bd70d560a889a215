"""One graph for all who ask: who takes what from whom, through models within models, and which layers join."""

from __future__ import annotations

import re
from typing import Any

import keras
import pytest

from repository import ROOT
from sepilot_runtime.base.errors import ModelFileError
from sepilot_train.inspect.keras_graph import graph_of, maker_of, run_through

L = keras.layers


def relu_net(*, activation: str = "linear", **ends: bool) -> Any:
    """A convolution and the ReLU behind it, with something in their way by name."""
    image = keras.Input((8, 8, 1), name="image")
    conv, relu = L.Conv2D(2, 3, padding="same", activation=activation, name="conv"), L.ReLU(name="relu")
    before = conv(image)
    after = relu(before)
    outputs = [after]
    if ends.get("feeds_two"):
        outputs = [L.Add(name="sum")([before, after])]
    if ends.get("conv_twice"):
        outputs.append(L.Flatten(name="flat")(conv(image)))
    if ends.get("relu_twice"):
        outputs.append(L.Flatten(name="flat")(relu(image)))
    if ends.get("conv_is_output"):
        outputs.append(before)
    return keras.Model(image, outputs)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (relu_net(), ""),
        (relu_net(activation="tanh"), "it follows the tanh of conv"),
        (relu_net(feeds_two=True), "conv feeds 2 layers"),
        (relu_net(conv_twice=True), "conv is used in 2 places"),
        (relu_net(relu_twice=True), "relu is used in 2 places"),
        (relu_net(conv_is_output=True), "conv is an output"),
    ],
)
def test_a_layer_joins_the_linear_kernel_that_feeds_it_alone(net: Any, reason: str) -> None:
    """Whoever folds a norm or fuses a ReLU in spite of these changes what the net says."""
    graph = graph_of(net)
    (relu, *_) = (c for c in graph.calls if c.layer.name == "relu" and c.parents[0].kind == "Conv2D")
    assert graph.reason_apart(relu, ("Conv2D",)) == reason
    assert graph.reason_apart(relu, ("Dense",)).startswith("it follows Conv2D conv")


def test_a_model_within_a_model_is_one_layer_or_all_of_its_layers() -> None:
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), L.ReLU(name="b")], name="inner")
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    both = L.Concatenate(name="both")([inner(first), inner(second)])
    model = keras.Model([first, second], {"steering": L.Dense(1, name="head")(both)})

    flat = {call.name: [parent.name for parent in call.parents] for call in graph_of(model, inside=True).calls}
    assert flat["inner/a"] == ["first"]
    assert flat["inner/a#2"] == ["second"]
    assert flat["both"] == ["inner/b", "inner/b#2"]
    whole = graph_of(model)
    assert {call.name: [parent.name for parent in call.parents] for call in whole.calls}["both"] == ["inner", "inner#2"]
    assert whole.uses(inner) == 2
    assert [call.name for call in whole.outputs] == ["head"]
    assert maker_of(model.output["steering"]).name == "head"


def test_a_model_is_run_with_other_layers_in_place_of_its_own() -> None:
    image = keras.Input((2,), name="image")
    model = keras.Model(image, {"a": L.ReLU(name="one")(image), "b": L.ReLU(name="two")(image)})
    found = run_through(model, [keras.ops.ones((1, 2))], lambda layer: lambda x: x * len(layer.name))
    assert {name: float(value[0, 0]) for name, value in found.items()} == {"a": 3.0, "b": 3.0}


def test_a_model_without_a_graph_is_refused_in_one_line() -> None:
    class Own(keras.Model):  # type: ignore[misc]
        pass

    with pytest.raises(ModelFileError, match=r"own: a Functional or Sequential Keras model .* found Own"):
        graph_of(Own(name="own"))


PRIVATE = re.compile(
    r"_nodes_by_depth|_(in|out)bound_nodes|_keras_history|_run_through_graph|parent_nodes|\._functional"
)


def test_nobody_else_touches_what_keras_keeps_private() -> None:
    """Another release of Keras must change one file."""
    files = [
        path for part in ("runtime", "train", "export", "tests", "scripts") for path in (ROOT / part).rglob("*.py")
    ]
    found = {path.name for path in files if path.name != "test_keras_graph.py" and PRIVATE.search(path.read_text())}
    assert found == {"keras_graph.py"}
