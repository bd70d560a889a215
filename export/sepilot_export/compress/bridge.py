"""Keras 3 to tf_keras, which tfmot needs, and back: layer by layer from the configuration, weights by layer name.

Imported by the worker alone. A setting that tf_keras does not have, or has with another meaning, is an error that names
its layer; what comes over is compared with the original on real pictures before anything is trained.

A SeparableConv2D becomes the depthwise and the 1x1 convolution that it stands for, so that both kernels are there to be
pruned, and tfmot has no reason to rewrite it: it would give the new layers names of its own and put them in another
place among the inputs of a Concatenate (tensorflow/model-optimization#1061).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.compress.tfmot_support import SAME_ACTIVATIONS
from sepilot_export.convert.deploy import FLOAT_PARITY, separated
from sepilot_runtime.base.errors import RunError
from sepilot_train.fit.predict import by_name
from sepilot_train.inspect.keras_graph import graph_of, outputs_of, run_through

__all__ = ["carry_back", "output_order", "require_parity", "to_tf_keras"]

_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
"""Where the same setting has another name; under its new name tf_keras would silently take its own default."""

_NOT_NEEDED = {"dtype", "quantization_config", "renorm_momentum", "trainable"}


def to_tf_keras(model: Any, *, fuse_relu: bool = False) -> Any:
    """A Functional Keras 3 `model` as a tf_keras model with the same layer names and weights; any batch size.

    It has no names for its outputs but their order, that of `output_order(model)`.

    Args:
        fuse_relu: a ReLU layer after a linear kernel becomes that layer's activation. tfmot leaves the weights of a
            kernel before a ReLU layer unquantized.

    Raises:
        RunError: naming the layer of which a setting has no counterpart.
    """
    import tf_keras

    fused = _relus_after_kernels(model) if fuse_relu else {}
    made: dict[str, tuple[Any, ...]] = {}

    def call(layer: Any) -> Callable[..., Any]:
        """The tf_keras counterpart of a Keras 3 layer, as something that can be called."""
        if layer.name in fused:
            return lambda x, **_: x
        first, *second = made[layer.name] = _translated(layer, "relu" if layer.name in fused.values() else None)
        return lambda *inputs, **_: second[0](first(*inputs)) if second else first(*inputs)

    (image,) = model.inputs
    copied = tf_keras.Input(image.shape[1:], dtype="float32", name=image.name)
    outputs = by_name(list(outputs_of(model)), run_through(model, [copied], call))
    flat = [outputs[name] for name in output_order(model)]
    bridged = tf_keras.Model(copied, flat if len(flat) > 1 else flat[0], name=model.name)
    for name, copies in made.items():
        weights = model.get_layer(name).get_weights()
        for copy in copies:
            copy.set_weights([weights.pop(0) for _ in copy.weights])
    return bridged


def output_order(model: Any) -> list[str]:
    """The names of a model's outputs in the order in which its copies in tf_keras have them."""
    return sorted(outputs_of(model))


def carry_back(bridged: Any, model: Any) -> None:
    """Set the weights of the Keras 3 `model`, in place, to those of its bridged copy, wrapped or not, by layer name."""
    found = {getattr(layer, "layer", layer).name: layer for layer in bridged.layers}
    for layer in model.layers:
        if layer.weights:
            is_split = type(layer).__name__ == "SeparableConv2D"
            names = [f"{layer.name}_depthwise", f"{layer.name}_pointwise"] if is_split else [layer.name]
            layer.set_weights([weight for name in names for weight in found[name].get_weights()])


def require_parity(model: Any, bridged: Any, pictures: NDArray[np.uint8], what: str) -> float:
    """Largest difference between a Keras 3 model of any batch and its copy over pictures (n, h, w, c).

    Args:
        what: the copy is, for the message.

    Raises:
        RunError: above 1e-5.
    """
    images = pictures * np.float32(1 / 255)
    answers = by_name(list(outputs_of(model)), model(images, training=False))
    copies = by_name(output_order(model), bridged(images, training=False))
    worst = 0.0
    for name in answers:
        expected, found = np.asarray(answers[name]), np.asarray(copies[name])
        difference = float(np.abs(expected - found).max())
        if not difference <= FLOAT_PARITY * max(1.0, float(np.abs(expected).max())):
            raise RunError(
                f"{what} differs from the net by {difference:.2e} in {name}, at most {FLOAT_PARITY:.0e} allowed"
            )
        worst = max(worst, difference)
    return worst


def _translated(layer: Any, activation: str | None) -> tuple[Any, ...]:
    """The tf_keras layer of the same kind, name and settings, of a separable convolution the two, without weights."""
    import tf_keras

    kind = type(layer).__name__
    if kind == "SeparableConv2D":
        said = _activation(layer, layer.get_config()["activation"])
        return separated(tf_keras.layers, layer, use_bias=layer.use_bias, activation=said)
    copied = getattr(tf_keras.layers, kind)
    known = _parameters(copied)
    config = {}
    for key, value in layer.get_config().items():
        key = _RENAMED.get(kind, {}).get(key, key)
        if key.endswith("_initializer") or key in _NOT_NEEDED:
            continue
        if key in known:
            config[key] = _activation(layer, value) if key == "activation" else _plain(value)
        elif value not in (None, False):
            raise RunError(f"{layer.name}: tf_keras's {kind} has no setting {key} (here {value!r})")
    if activation is not None:
        config["activation"] = activation
    if layer.compute_dtype != "float32":
        raise RunError(f"{layer.name}: float32 expected, found {layer.compute_dtype}")
    return (copied.from_config(config),)


def _parameters(kind: type) -> set[str]:
    initializers = (c.__init__ for c in kind.__mro__ if "__init__" in c.__dict__)  # type: ignore[misc]
    return {name for initializer in initializers for name in inspect.signature(initializer).parameters}


def _activation(layer: Any, value: Any) -> str:
    if value not in SAME_ACTIVATIONS:
        raise RunError(f"{layer.name}: activation {value} is not the same function in tf_keras")
    return "swish" if value == "silu" else str(value)


def _plain(value: Any) -> Any:
    """A regularizer or constraint as tf_keras writes it."""
    if isinstance(value, dict) and "class_name" in value:
        return {"class_name": value["class_name"], "config": value.get("config", {})}
    return value


def _relus_after_kernels(model: Any) -> dict[str, str]:
    """ReLU layers that stand right behind a linear kernel and nowhere else, each with that kernel's layer."""
    graph = graph_of(model)
    return {
        call.layer.name: call.parents[0].layer.name
        for call in graph.calls
        if call.kind == "ReLU"
        and (call.layer.max_value, call.layer.negative_slope, call.layer.threshold) == (None, 0, 0)
        and not graph.reason_apart(call, ("Conv2D", "DepthwiseConv2D", "Dense"))
    }
