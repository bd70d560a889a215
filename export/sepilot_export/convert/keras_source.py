"""Anybody's Keras net, with as many inputs and outputs as it has: how it answers, and as a net under a contract.

What makes its own input of a picture, and the contract's outputs of its own, are layers of Keras, so that every
converter and quantizer takes them as part of the net: a 1x1 convolution for the order of channels and the range of
values, a dense layer without bias that picks numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sepilot_export.convert.stated import Plan
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.engine.bare import BareModel, Feed, Tensor
from sepilot_train.base.keras_file import load_keras
from sepilot_train.base.quiet import quiet
from sepilot_train.fit.predict import by_name
from sepilot_train.inspect.keras_graph import run_through

__all__ = ["contract_inputs", "contract_outputs", "open_keras", "under_contract"]


def open_keras(path: Path) -> tuple[BareModel, Any]:
    """A .keras or .h5 file with the names that Keras gives its inputs and outputs, and its net.

    Raises:
        ModelFileError: it cannot be read, or is no net of named inputs and outputs of known sizes.
    """
    with quiet(f"loading {path}"):
        net = load_keras(path)
    import keras
    import tensorflow as tf

    if not getattr(net, "inputs", None):
        raise ModelFileError(f"{path}: a Sequential or Functional net expected, found {type(net).__name__}")
    if isinstance(net, keras.Sequential):
        net = keras.Model(net.inputs, net.outputs, name=net.name)
    inputs = tuple(_tensor(path, t.name, t) for t in net.inputs)
    outputs = tuple(_tensor(path, name, t) for name, t in by_name(net.output_names, net.output).items())
    # Compiled once, a picture takes a millisecond instead of thirty.
    answers = tf.function(lambda values: by_name(net.output_names, net(values, training=False)))

    def run(feed: Feed) -> dict[str, Any]:
        values = [tf.convert_to_tensor(feed[t.name]) for t in inputs]
        found = answers(keras.tree.pack_sequence_as(net.input, values))
        return {name: value.numpy() for name, value in found.items()}

    name = f"Keras {keras.__version__}"
    return BareModel(path=path, name=name, threads=1, inputs=inputs, outputs=outputs, run=run), net


def _tensor(path: Path, name: str, tensor: Any) -> Tensor:
    sizes = tensor.shape[1:]
    if None in sizes:
        raise ModelFileError(
            f"{path}: {name}: an input and output of known sizes expected, found {tuple(tensor.shape)}"
        )
    return Tensor(name=name, shape=(1, *sizes), dtype=np.dtype(str(tensor.dtype)))


def under_contract(net: Any, plan: Plan) -> Any:
    """The net with the contract's inputs and outputs, models inside it dissolved into layers where names allow it."""
    import keras

    def dissolved(layer: Any) -> Any:
        if not isinstance(layer, keras.Model):
            return layer
        return lambda inputs, **_: run_through(layer, keras.tree.flatten(inputs), dissolved)

    def made(call: Callable[[Any], Any]) -> Any:
        inputs, fed = contract_inputs(plan)
        found = run_through(net, [fed[t.name] for t in net.inputs], call)
        outputs = contract_outputs(plan, by_name(net.output_names, found))
        return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=net.name)

    try:
        return made(dissolved)
    except ValueError:  # Two of the layers have one name.
        return made(lambda layer: layer)


def contract_inputs(plan: Plan) -> tuple[list[Any], dict[str, Any]]:
    """The contract's inputs as Keras's, and what is made of them for the file's own by name."""
    from keras import Input, layers, ops

    image = Input(plan.picture.shape, name=plan.picture.name)
    made = image
    if not plan.takes_pictures:
        front = layers.Conv2D(plan.picture.channels, 1, name=f"{OWN}_{plan.picture.name}")
        made = front(made)
        kernel = np.diag(plan.factor * 255)
        front.set_weights([(kernel[::-1] if plan.reversed else kernel)[np.newaxis, np.newaxis], plan.offset])
        made = layers.Permute((3, 1, 2))(made) if plan.channels_first else made
        made = ops.cast(ops.round(made), plan.image.dtype.name) if plan.takes_integers else made
    inputs, fed = [image], {plan.image.name: made}
    for vector in plan.vectors:
        tensor = plan.fed[vector.name]
        inputs.append(Input(vector.shape, name=vector.name))
        made = inputs[-1] if len(tensor.shape) == 2 else layers.Reshape(tensor.shape[1:])(inputs[-1])
        fed[tensor.name] = made if tensor.dtype == np.float32 else ops.cast(made, tensor.dtype.name)
    return inputs, fed


def contract_outputs(plan: Plan, found: Mapping[str, Any]) -> dict[str, Any]:
    """The contract's outputs by name, of the file's own by theirs."""
    from keras import layers

    made = {}
    for name, taken in plan.taken.items():
        value = found[taken.tensor.name]
        if len(value.shape) != 2 or not taken.as_it_is:
            pick = layers.Dense(len(taken.places), use_bias=False, name=f"{OWN}_{name}")
            value = pick(layers.Flatten()(value))
            kernel = np.zeros(pick.get_weights()[0].shape)
            kernel[list(taken.places), range(len(taken.places))] = taken.factor
            pick.set_weights([kernel])
        made[name] = value
    return made


OWN = "contract"
"""Begins the names of the layers that are ours."""
