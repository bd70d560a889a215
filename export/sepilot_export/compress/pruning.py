"""Pruning with tfmot. Imported by the worker alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.compress.bridge import carry_back, require_parity, to_tf_keras
from sepilot_export.compress.finetune import Course, finetune
from sepilot_export.compress.kernels import Kernel, dense_reason, kernels_of, note
from sepilot_export.compress.recipe import Prune
from sepilot_export.record.compressions import LayerNote
from sepilot_runtime.base.errors import RunError

__all__ = ["is_two_of_four", "prune"]

_UPDATES = 40
"""How often the mask is drawn anew during the ramp, about. tfmot's own 100 steps are longer than some trainings."""


def prune(model: Any, settings: Prune, course: Course) -> list[LayerNote]:
    """Prune a Keras 3 `model` in place, training it meanwhile; one note per kernel.

    Raises:
        RunError: a layer does not come over to tf_keras, or zeros got lost on the way back.
    """
    import tensorflow_model_optimization as tfmot

    chosen = {k.bridged: k for k in kernels_of(model) if not dense_reason(k, settings)}
    bridged = to_tf_keras(model)
    require_parity(model, bridged, course.train.pictures[:32], "its tf_keras copy")
    steps = settings.finetune.epochs * len(course.batches(settings.finetune))
    wrapped = _wrapped(bridged, chosen, settings, steps)
    # Without this callback's numbers the wrappers refuse to train.
    step = tfmot.sparsity.keras.UpdatePruningStep()
    step.set_model(wrapped)
    step.on_train_begin()
    finetune(wrapped, settings.finetune, course, "pruning", after_epoch=lambda: step.on_epoch_end(0))
    carry_back(tfmot.sparsity.keras.strip_pruning(wrapped), model)
    return [_verified(kernel, settings) for kernel in kernels_of(model)]


def _wrapped(bridged: Any, chosen: dict[str, Kernel], settings: Prune, steps: int) -> Any:
    import tf_keras
    from tensorflow_model_optimization.sparsity.keras import PrunableLayer, prune_low_magnitude

    class PrunableDepthwise(tf_keras.layers.DepthwiseConv2D, PrunableLayer):  # type: ignore[misc]
        """tfmot leaves a plain depthwise convolution dense and says nothing."""

        def get_prunable_weights(self) -> list[Any]:
            return [self.depthwise_kernel]

    options = {"pruning_schedule": _schedule(settings, steps)}
    if settings.pattern == "2:4":
        options["sparsity_m_by_n"] = (2, 4)

    def wrap(layer: Any) -> Any:
        if layer.name not in chosen:
            return layer
        if chosen[layer.name].kind == "depthwise":
            layer = PrunableDepthwise.from_config(layer.get_config())
        return prune_low_magnitude(layer, **options)

    weights = {layer.name: layer.get_weights() for layer in bridged.layers}
    wrapped = tf_keras.models.clone_model(bridged, clone_function=wrap)
    for layer in wrapped.layers:
        # A layer made anew starts from random weights.
        layer.set_weights(weights[getattr(layer, "layer", layer).name])
    return wrapped


def _schedule(settings: Prune, steps: int) -> Any:
    from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PolynomialDecay

    ramp = max(1, round(settings.ramp * steps))
    every = max(1, ramp // _UPDATES)
    # The full sparsity is reached in the last step of the ramp only if the mask is drawn in that very step.
    end = max(1, ramp // every) * every
    if settings.pattern == "2:4":
        return ConstantSparsity(0.5, begin_step=0, end_step=end, frequency=every)
    return PolynomialDecay(
        initial_sparsity=0.0, final_sparsity=settings.sparsity, begin_step=0, end_step=end, frequency=every
    )


def _verified(kernel: Kernel, settings: Prune) -> LayerNote:
    """What was done to a kernel of the model that came back, after counting its zeros."""
    if reason := dense_reason(kernel, settings):
        return note(kernel, f"dense: {reason}")
    size = kernel.values.size
    wanted = size - max(round(size * (1 - settings.sparsity)), 1)
    zeros = int((kernel.values == 0).sum())
    # tfmot rounds in float32, so that a half may go either way.
    if zeros < wanted - 1 or (settings.pattern == "2:4" and not is_two_of_four(kernel.values)):
        raise RunError(f"layer {kernel.layer}: {wanted} of {size} weights should be zero after pruning, {zeros} are")
    return note(kernel, "2 of 4 zeros" if settings.pattern == "2:4" else f"{zeros / size:.0%} zeros")


def is_two_of_four(values: NDArray[np.float32]) -> bool:
    """At least two zeros in any four neighbouring input channels; (..., c_in, c_out)."""
    groups = np.moveaxis(values, -2, -1).reshape(-1, 4)
    return bool(((groups == 0).sum(axis=1) >= 2).all())
