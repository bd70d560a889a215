"""The net that a recipe asks for: one of ours, one of the user's own code, or a .keras file."""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.base.keras_file import load_keras
from sepilot_train.inspect.keras_graph import graph_of, maker_of, outputs_of
from sepilot_train.inspect.ordinary import is_ordinary_convolution
from sepilot_train.models import build_model
from sepilot_train.run.model_settings import ModelSettings
from sepilot_train.run.recipe import Recipe

__all__ = ["build_net"]


def build_net(recipe: Recipe) -> Any:
    """A Keras net that takes the recipe's pictures and has a head for each of its outputs, without an activation.

    Its weights are new, but for those of a .keras file. The user's own code is run, and is said to be.

    Raises:
        RecipeError: there is no such net, or it does not fit the recipe, or it is beyond the limits of `model`.
        ModelFileError: the .keras file cannot be read.
    """
    net = _built(recipe)
    _require_within(recipe.model, net)
    return net


def _built(recipe: Recipe) -> Any:
    model, heads = recipe.model, {name: math.prod(shape) for name, shape in _shapes(recipe).items()}
    if model.keras:
        return _fitting(load_keras(Path(model.keras)), model.keras, recipe)
    if own := model.own_code:
        path, name = own
        build = _function(path, name)
        beside = {"vectors": sizes_of(recipe)} if recipe.numbers else {}
        if beside and not _takes(build, "vectors"):
            raise RecipeError(
                f"{path}:{name}: a parameter `vectors` expected, as the recipe has inputs.{next(iter(recipe.numbers))}"
            )
        try:
            import keras

            net = build(keras, recipe.picture.shape, heads, **model.options, **beside)
        except Exception as e:  # What a person's own code raises is theirs to choose.
            raise RecipeError(f"{path}:{name}: {_line(e)}") from e
        return _fitting(net, f"{path}:{name}", recipe)
    return build_model(model.builder, recipe.picture.shape, model.options, heads, vectors=sizes_of(recipe))


def sizes_of(recipe: Recipe) -> dict[str, tuple[int, float]]:
    """Of each input beside the picture, how many numbers and what a builder divides them by."""
    return {name: (n.vector(name).size, n.scale) for name, n in recipe.numbers.items()}


def _takes(build: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(build).parameters.values()
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def _require_within(limits: ModelSettings, net: Any) -> None:
    """Raise RecipeError where `net` has more parameters or other convolutions than `limits` allow."""
    where = limits.builder or limits.keras
    if limits.max_parameters and (found := net.count_params()) > limits.max_parameters:
        raise RecipeError(
            f"model.max_parameters: {where}: at most {limits.max_parameters:,} parameters expected, found {found:,}"
        )
    if limits.only == "separable":
        for call in graph_of(net, inside=True).calls:
            if is_ordinary_convolution(call.layer):
                raise RecipeError(
                    f"model.only: {where}: depthwise, separable and 1x1 convolutions expected, found layer "
                    f"{call.name}, an ordinary {call.kind} of {'x'.join(map(str, call.layer.kernel_size))} on "
                    f"{call.inputs[0].shape[-1]} channels"
                )


@cache
def _function(path: Path, name: str) -> Callable[..., Any]:
    if not path.is_file():
        raise RecipeError(f"model.builder: {path}: no such file")
    print(f"model.builder: running the code of {path}", file=sys.stderr)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"model.builder: {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise RecipeError(f"model.builder: {path}: {_line(e)}") from e
    found = getattr(module, name, None)
    if not callable(found):
        raise RecipeError(
            f"model.builder: {path}: a function {name} expected, found {'none' if found is None else found}"
        )
    return found  # type: ignore[no-any-return]


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _fitting(net: Any, where: str, recipe: Recipe) -> Any:
    """The net as a Functional one whose outputs are called as the recipe calls them."""
    import keras

    if not isinstance(net, keras.Model) or not getattr(net, "outputs", None):
        raise RecipeError(f"{where}: a Functional or Sequential Keras model expected, found {type(net).__name__}")
    own = [layer for layer in net.layers if type(layer).__module__.partition(".")[0] != "keras"]
    if own:
        raise RecipeError(
            f"{where}: layer {own[0].name} is a {type(own[0]).__name__}; files are made of Keras's own layers alone"
        )
    _require_inputs(net, where, recipe)
    if isinstance(net, keras.Sequential):
        net = keras.Model(net.inputs, net.outputs)
    if len(net.outputs) == 1 and not isinstance(net.output, dict):
        net = _renamed(net, next(iter(recipe.targets)) if len(recipe.targets) == 1 else "")
    outputs, shapes = outputs_of(net), _shapes(recipe)
    if set(outputs) != set(shapes):
        raise RecipeError(f"{where}: outputs {', '.join(shapes)} expected, found {', '.join(outputs)}")
    for name, tensor in outputs.items():
        if (found_shape := tuple(tensor.shape[1:])) != shapes[name]:
            asked = "one number" if shapes[name] == (1,) else f"shape {shapes[name]}"
            raise RecipeError(f"{where}: {name}: {asked} expected, found shape {found_shape}")
    return net


def _require_inputs(net: Any, where: str, recipe: Recipe) -> None:
    """The picture, under any name where it is all; and by name what goes beside it."""
    if not recipe.numbers:
        expected, found = _sizes([recipe.picture.shape]), _sizes([tensor.shape[1:] for tensor in net.inputs])
        if found != expected:
            raise RecipeError(f"{where}: one input of {expected} expected as `picture` has it, found {found}")
        return
    asked = {i.name: i.shape for i in recipe.inputs_of_net}
    inputs = {str(tensor.name): tuple(tensor.shape[1:]) for tensor in net.inputs}
    if inputs != asked:
        expected, found = (", ".join(f"{n} of {_sizes([s])}" for n, s in each.items()) for each in (asked, inputs))
        raise RecipeError(f"{where}: inputs {expected} expected, found {found}")


def _shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Of one answer, by tensor."""
    return {k: v for name, target in recipe.targets.items() for k, v in target.output(name, 1.0).tensors.items()}


def _sizes(shapes: Sequence[Sequence[int]]) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes)


def _renamed(net: Any, name: str) -> Any:
    """A net with one output, which cannot be mistaken, under the name that it has in the recipe."""
    import keras

    layer = maker_of(net.outputs[0])
    if not name or layer.name == name:
        return net
    layer.name = name
    return keras.Model(net.inputs, net.outputs[0])
