"""The deploy graph: the training model rewritten into the form that every converter handles.

The same function, fewer surprises:

- the batch is 1 and inputs and outputs carry the contract's names;
- dropout and other training-time noise is gone;
- a separable convolution is what it stands for, a depthwise and a 1x1 convolution;
- batch normalization after a linear convolution or dense layer is folded into its weights;
- any other batch normalization of a picture-shaped tensor becomes a 1x1 depthwise convolution with bias. Left as
  multiply and add, TensorFlow Lite's calibrator reads the convolution's output after it was overwritten in place, and
  the int8 file is wrong without a word (tensorflow/tensorflow#127842).

Weights travel by layer name. `require_parity` then compares the two models and names the layer where they part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract
from sepilot_train.base.quiet import quiet
from sepilot_train.fit.predict import predict
from sepilot_train.inspect.keras_graph import graph_of, outputs_of

__all__ = [
    "FLOAT_PARITY",
    "deploy_graph",
    "foldable_norms",
    "load_training_model",
    "plain_graph",
    "require_parity",
    "separated",
]

FLOAT_PARITY = 1e-5
"""Largest difference, in output values, between two float32 forms of one model. 5e-7 is usual."""

_DROPPED = ("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity",
            "SpatialDropout1D", "SpatialDropout2D")  # fmt: skip
_FOLDS_INTO = ("Conv2D", "Dense", "DepthwiseConv2D", "SeparableConv2D")


def load_training_model(path: Path, contract: Contract) -> Any:
    """Load `model.keras` and check its inputs and outputs against `contract`.

    Raises:
        RunError: it cannot be loaded, is no Functional model, or its shapes are not the contract's.
    """
    with quiet(f"loading {path}"):
        import keras

        try:
            model = keras.models.load_model(path, compile=False)
        except (OSError, ValueError, TypeError, KeyError) as e:
            raise RunError(f"{path}: is not a Keras model that loads here: {str(e).splitlines()[0]}") from e
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise RunError(f"{path}: a Functional Keras model expected, found {type(model).__name__}")
    _require_inputs(model, path, contract)
    named, names = outputs_of(model), list(contract.tensors)
    if len(named) == len(names) == 1 and names != list(named):
        return keras.Model(model.inputs, {names[0]: model.outputs[0]}, name=model.name)
    if sorted(named) != sorted(names):
        raise RunError(f"{path}: outputs {', '.join(names)} expected from the contract, found {', '.join(named)}")
    return model


def _require_inputs(model: Any, path: Path, contract: Contract) -> None:
    if not contract.vectors:
        expected, found = (None, *contract.picture.shape), [tuple(t.shape) for t in model.inputs]
        if found != [expected]:
            raise RunError(f"{path}: one input of {expected} expected from the contract, found {found}")
        return
    asked = {i.name: (None, *i.shape) for i in contract.inputs}
    inputs = {str(t.name): tuple(t.shape) for t in model.inputs}
    if inputs != asked:
        raise RunError(f"{path}: inputs {asked} expected from the contract, found {inputs}")


def deploy_graph(model: Any, contract: Contract) -> Any:
    """The deploy graph of a Functional `model`: a new Keras model with a batch of 1, outputs a dict by name.

    Inputs are in the contract's order.
    """
    return plain_graph(model, contract.picture.name)


def plain_graph(model: Any, image_name: str, *, fold: bool = True) -> Any:
    """The deploy graph, with a name of one's own for the picture.

    Args:
        fold: fold batch normalizations into their layers where that is possible; else these stay as they are.
    """
    import keras

    rewriting = _Rewriting.of(model, fold=fold)
    given = [
        keras.Input(batch_shape=(1, *t.shape[1:]), dtype="float32", name=image_name if len(t.shape) == 4 else t.name)
        for t in model.inputs
    ]
    inputs = keras.tree.pack_sequence_as(model.input, given)
    copy = keras.models.clone_model(
        model, input_tensors=inputs, clone_function=rewriting.clone, call_function=rewriting.call
    )
    outputs = dict(zip(outputs_of(model), copy.outputs, strict=True))
    deployed = keras.Model(given if len(given) > 1 else given[0], outputs, name=model.name)
    rewriting.carry_weights(model, deployed)
    return deployed


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Rewriting:
    """What becomes of a model's layers, by name.

    Attributes:
        folded: batch normalizations that fold, each with the layer that it folds into.
        scales: scale and shift of each batch normalization that does not stay as it is.
        split: the two convolutions of each separable one.
    """

    folded: Mapping[str, str]
    scales: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    split: Mapping[str, tuple[Any, Any]]

    @classmethod
    def of(cls, model: Any, *, fold: bool) -> _Rewriting:
        import keras

        foldable = foldable_norms(model)
        folded = foldable if fold else {}
        norms = [x for x in model.layers if _is_norm(x) and (fold or x.name not in foldable)]
        separable = [x for x in model.layers if type(x).__name__ == "SeparableConv2D"]
        return cls(
            folded=folded,
            scales={norm.name: _scale_and_shift(norm) for norm in norms},
            split={
                x.name: separated(
                    keras.layers, x, use_bias=x.use_bias or x.name in folded.values(), activation=x.activation
                )
                for x in separable
            },
        )

    def clone(self, layer: Any) -> Any:
        """The layer's counterpart, without weights."""
        import keras

        if layer.name in self.folded or layer.name in self.split or type(layer).__name__ in _DROPPED:
            return keras.layers.Identity(name=layer.name)
        if layer.name in self.scales and len(layer.output.shape) == 4:
            return keras.layers.DepthwiseConv2D(1, use_bias=True, name=layer.name)
        config = layer.get_config()
        if layer.name in self.folded.values():
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """What the counterpart makes of its inputs. An identity is not called, so it leaves no operation behind."""
        import keras

        # Keras passes `mask` on to layers that take none.
        kwargs.pop("mask", None)
        if layer.name in self.split:
            depthwise, pointwise = self.split[layer.name]
            return pointwise(depthwise(*args))
        return args[0] if isinstance(layer, keras.layers.Identity) else layer(*args, **kwargs)

    def carry_weights(self, model: Any, deployed: Any) -> None:
        """Set the weights of the rewritten model by those of the original."""
        norm_of = {source: norm for norm, source in self.folded.items()}
        copies = {layer.name: layer for layer in deployed.layers}
        for source in model.layers:
            if not source.weights or source.name in self.folded:
                continue
            weights = source.get_weights()
            if source.name in self.scales and type(copies[source.name]).__name__ == "DepthwiseConv2D":
                scale, shift = self.scales[source.name]
                weights = [scale.reshape(1, 1, -1, 1), shift]
            elif source.name in norm_of:
                weights = _folded_weights(source, *self.scales[norm_of[source.name]])
            if source.name in self.split:
                depthwise, pointwise = self.split[source.name]
                depthwise.set_weights(weights[:1])
                pointwise.set_weights(weights[1:])
            else:
                copies[source.name].set_weights(weights)


def separated(layers: Any, layer: Any, *, use_bias: bool, activation: Any) -> tuple[Any, Any]:
    """The depthwise and the 1x1 convolution that a SeparableConv2D consists of, without weights.

    Args:
        layers: of Keras 3 or of tf_keras.
    """
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size, strides=layer.strides, padding=layer.padding, dilation_rate=layer.dilation_rate,
        depth_multiplier=layer.depth_multiplier, use_bias=False, name=f"{layer.name}_depthwise",
    )  # fmt: skip
    pointwise = layers.Conv2D(
        layer.filters, 1, use_bias=use_bias, activation=activation, name=f"{layer.name}_pointwise"
    )
    return depthwise, pointwise


def _is_norm(layer: Any) -> bool:
    if type(layer).__name__ != "BatchNormalization":
        return False
    rank = len(layer.output.shape)
    axis: int = layer.axis
    return axis in (-1, rank - 1)


def _scale_and_shift(norm: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A trained batch normalization is `x * scale + shift` per channel."""
    weights = [np.asarray(w, np.float64) for w in norm.get_weights()]
    variance, mean = weights.pop(), weights.pop()
    beta = weights.pop() if norm.center else np.zeros_like(mean)
    gamma = weights.pop() if norm.scale else np.ones_like(mean)
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale


def foldable_norms(model: Any) -> dict[str, str]:
    """Batch normalizations that fold, each with the layer that it folds into."""
    graph = graph_of(model)
    return {
        call.layer.name: call.parents[0].layer.name
        for call in graph.calls
        if _is_norm(call.layer) and not graph.reason_apart(call, _FOLDS_INTO)
    }


def _folded_weights(layer: Any, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Weights of a linear layer followed by `x * scale + shift`, with a bias whether it had one or not."""
    weights = [np.asarray(w, np.float64) for w in layer.get_weights()]
    *kernels, bias = weights if layer.use_bias else [*weights, np.zeros_like(scale)]
    last = kernels[-1]
    kernels[-1] = last * (scale.reshape(last.shape[2:]) if type(layer).__name__ == "DepthwiseConv2D" else scale)
    return [*kernels, bias * scale + shift]


def require_parity(
    model: Any, deployed: Any, pictures: NDArray[np.uint8], vectors: Mapping[str, NDArray[np.float32]] | None = None
) -> float:
    """Largest difference between the two over `pictures` (n, h, w, c) and what goes beside them, in output values.

    Raises:
        RunError: above `FLOAT_PARITY` (naming the first layer that differs), not finite, or one answer to all pictures.
    """
    expected, found = predict(model, pictures, vectors), predict(deployed, pictures, vectors, batch=1)
    for name, answers in expected.items():
        if not np.isfinite(answers).all():
            raise RunError("the training model answers with NaN or infinity; train again with a lower learning rate")
        if np.ptp(answers, axis=0).max() < 1e-6:
            raise RunError(
                f"the training model answers {name} {answers.flat[0]:.4f} to each of {len(pictures)} pictures: "
                "it does not depend on its input"
            )
    worst = 0.0
    for name, answers in expected.items():
        difference = float(np.abs(answers - found[name]).max())
        if not difference <= FLOAT_PARITY * max(1.0, float(np.abs(answers).max())):
            raise RunError(
                f"the deploy graph's {name} differs from the training model's by {difference:.2e}, at most "
                f"{FLOAT_PARITY:.0e} allowed; first at layer {_first_difference(model, deployed, pictures[:1])}"
            )
        worst = max(worst, difference)
    return worst


def _fed(model: Any, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """A picture (1, h, w, c), and zeros for what goes beside it."""
    return [image if len(t.shape) == 4 else np.zeros((1, *t.shape[1:]), np.float32) for t in model.inputs]


def _first_difference(model: Any, deployed: Any, picture: NDArray[np.uint8]) -> str:
    import keras

    image = picture.astype(np.float32) / 255.0
    for layer in model.layers:
        kept = next((x for x in deployed.layers if x.name == layer.name and x.weights), None)
        if kept is None or layer.name in foldable_norms(model).values():
            continue
        before, after = (
            keras.ops.convert_to_numpy(keras.Model(m.inputs, x.output)(_fed(m, image), training=False))
            for m, x in ((model, layer), (deployed, kept))
        )
        allowed = 10 * FLOAT_PARITY * max(1.0, float(np.abs(before).max()))
        if before.shape != after.shape or np.abs(before - after).max() > allowed:
            return f"{layer.name} ({type(layer).__name__})"
    return "the output"
