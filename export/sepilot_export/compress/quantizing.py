"""Quantization-aware training with tfmot. Imported by the worker alone.

What is trained is the deploy graph, batch normalization folded and channels equalized, so that the weights and ranges
that training gets used to are those of the file. In front of dense layers channels stay as they are: a dense kernel has
a single scale here, and with uneven inputs the answers of `swift` were off by 0.6 degrees in the mean. Elsewhere it is
needed: a net with 90 % zeros has convolutions whose channels differ by so much that its answers were off by as much.

It learns the float net's own answers to augmented pictures, not the labels: rounding is all that is to be got over, and
a few more epochs on the labels only wear out what the long training balanced. Judged on another drive, `swift` lost
0.0008 to 0.0015 of mean absolute error by labels, at learning rates from 0.0001 to 0.001, and at most 0.0002 by
answers. So the float net stays what it was, and is what the int8 file is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_export.compress import bridge
from sepilot_export.compress.fake_quantization import (
    fixed_ranges,
    looking_on,
    replaced,
    seed_ranges,
    settle_weight_steps,
)
from sepilot_export.compress.finetune import Course, finetune
from sepilot_export.compress.kernels import Kernel, kernels_of, note
from sepilot_export.compress.qat_scheme import quantization_scheme
from sepilot_export.compress.recipe import Quantize
from sepilot_export.convert import tflite
from sepilot_export.convert.deploy import plain_graph
from sepilot_export.convert.embed import tflite_weights
from sepilot_export.convert.equalize import equalize
from sepilot_export.convert.ranges import Range
from sepilot_export.quantize.bias_correction import correct_biases
from sepilot_export.quantize.calibration import select
from sepilot_export.quantize.tflite_biases import TfliteBiases
from sepilot_export.record.compressions import LayerNote
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_train.fit.predict import by_name, predict

__all__ = ["in_order", "quantize", "quantized_copy", "require_wiring"]


def quantize(model: Any, settings: Quantize, course: Course, folder: Path) -> tuple[list[LayerNote], bytes]:
    """An int8 TFLite file that was trained to answer like the Keras 3 `model`, which stays; and one note per kernel.

    Raises:
        RunError: a layer cannot be quantized, tfmot wired the net in another way, or zeros or shared values got lost.
    """
    # Shared values of a kernel would be a set of their own for each channel once a batch normalization is folded in.
    fold = settings.preserve != "clusters"
    pictures = _calibration(model, course, settings.calibration_frames)
    graph = plain_graph(model, model.inputs[0].name, fold=fold)
    if fold:
        equalize(graph, pictures, into_dense=False)
    bridged = bridge.to_tf_keras(graph, fuse_relu=True)
    bridge.require_parity(model, bridged, pictures[:32], "its deploy graph in tf_keras")
    freeze_norms(bridged)
    with in_order():
        net = quantized_copy(bridged, settings)
    require_wiring(model, net, pictures[:32])
    asked = dict[str, Range]()
    for output in course.outputs():
        asked |= dict.fromkeys(output.tensors, (0.0, 0.0))
        asked.update(task_of(output).asked(course.train.labels[output.name]))
    heads = zip(sorted(asked), bridged.output_names, strict=True)
    seed_ranges(net, pictures, {head: asked[name] for name, head in heads})
    with fixed_ranges():
        finetune(net, settings.finetune, course, "quantization-aware training", teacher=bridged)
        # The ranges of the weights are those before the last step.
        net(pictures[:2] * np.float32(1 / 255), training=True)
    settle_weight_steps(net)
    biases = TfliteBiases(
        _convert(net, model, folder / "quantized", "trained int8"),
        _convert(bridged, model, folder / "float32", "float32"),
    )
    content = correct_biases(biases, pictures)
    kernels = kernels_of(model)
    if settings.preserve == "sparsity":
        _require_zeros(content, kernels)
    trained = _trained_kernels(net)
    return [note(kernel, _action(trained[kernel.bridged], kernel, settings)) for kernel in kernels], content


def _calibration(model: Any, course: Course, count: int) -> NDArray[np.uint8]:
    """Training pictures as `sepilot export` chooses them: with the tails, which a range must hold."""
    train = course.train
    chosen = select(train, predict(model, train.pictures), course.outputs(), count=count, seed=course.seed)
    return np.asarray(train.pictures[chosen.index])


def freeze_norms(bridged: Any) -> None:
    """Batch normalizations that are left keep their statistics: the converter folds what they are at the end."""
    for layer in bridged.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.trainable = False


@contextmanager
def in_order() -> Iterator[None]:
    """Within, tfmot leaves the inputs of a layer in their order.

    It looks them up in a list of all layers, to whose end it moves each layer that it rewrites; so the inputs of a
    Concatenate change places, without a word (tensorflow/model-optimization#1061 and #1179).
    """
    from tensorflow_model_optimization.python.core.quantization.keras.graph_transformations import model_transformer

    def get_layers(self: Any, layer_names: list[str]) -> list[Any]:
        found = {layer["config"]["name"]: layer for layer in self._config["layers"]}
        return [found[name] for name in layer_names if name in found]

    with replaced(model_transformer.ModelTransformer, _get_layers=get_layers):
        yield


def quantized_copy(bridged: Any, settings: Quantize) -> Any:
    """A tf_keras net with tfmot's fake quantization everywhere, ranges not yet set.

    Raises:
        RunError: tfmot does not know a layer.
    """
    from tensorflow_model_optimization.quantization.keras import quantize_annotate_model, quantize_apply

    pruned = any((np.asarray(w) == 0).mean() > 0.05 for w in bridged.get_weights() if w.ndim > 1)
    scheme, scope = quantization_scheme(settings.preserve, pruned=pruned)
    try:
        with scope:
            return quantize_apply(quantize_annotate_model(bridged), scheme)
    except (RuntimeError, ValueError) as e:
        raise RunError(f"tfmot cannot quantize the net: {str(e).splitlines()[0]}") from e


def require_wiring(model: Any, net: Any, pictures: NDArray[np.uint8]) -> None:
    """Raise RunError unless tfmot's net, not quantizing, computes what the Keras 3 `model` does."""
    with looking_on():
        bridge.require_parity(model, net, pictures, "tfmot's net, with nothing quantized (a permuted Concatenate?),")


def _convert(net: Any, model: Any, folder: Path, way: Literal["float32", "trained int8"]) -> bytes:
    import tensorflow as tf

    names = bridge.output_order(model)
    image = tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.float32, name=model.inputs[0].name)
    serve = tf.function(lambda image: by_name(names, net(image, training=False)), input_signature=[image])
    tf.saved_model.save(net, str(folder), signatures={tflite.SIGNATURE: serve})
    return tflite.convert(folder, way)


def _require_zeros(content: bytes, kernels: list[Kernel]) -> None:
    wanted = sum(int((kernel.values == 0).sum()) for kernel in kernels)
    found = sum(int((weights == 0).sum()) for weights in tflite_weights(content))
    if found < wanted:
        raise RunError(
            f"quantization-aware training: {wanted} zeros of the pruned net expected in the file, found {found}"
        )


def _trained_kernels(net: Any) -> dict[str, NDArray[np.float32]]:
    """Kernels of tfmot's net by the name of their layer, as they were before rounding."""
    return {
        layer.layer.name: weight.numpy()
        for layer in net.layers
        if hasattr(layer, "layer")
        for weight in layer.weights
        if weight.name.endswith(("/kernel:0", "/depthwise_kernel:0"))
    }


def _action(trained: NDArray[np.float32], kernel: Kernel, settings: Quantize) -> str:
    shared = settings.preserve == "clusters" and kernel.kind != "depthwise"
    return f"int8, {len(np.unique(trained))} values" if shared else "int8"
