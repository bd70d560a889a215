"""Weight clustering with tfmot. Imported by the worker alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from sepilot_export.compress.bridge import carry_back, require_parity, to_tf_keras
from sepilot_export.compress.finetune import Course, finetune
from sepilot_export.compress.kernels import Kernel, kernels_of, note, own_values_reason
from sepilot_export.compress.recipe import Cluster
from sepilot_export.record.compressions import LayerNote
from sepilot_runtime.base.errors import RunError

__all__ = ["cluster"]


def cluster(model: Any, settings: Cluster, course: Course) -> list[LayerNote]:
    """Cluster the kernels of a Keras 3 `model` in place, training it meanwhile; one note per kernel.

    Raises:
        RunError: a layer does not come over to tf_keras, or a kernel came back with more values than it should.
    """
    import tensorflow_model_optimization as tfmot

    kernels = {k.bridged: k for k in kernels_of(model)}
    bridged = to_tf_keras(model)
    require_parity(model, bridged, course.train.pictures[:32], "its tf_keras copy")
    chosen = {name: kernel for name, kernel in kernels.items() if not own_values_reason(kernel, settings)}
    wrapped = _wrapped(bridged, chosen, settings.clusters)
    finetune(wrapped, settings.finetune, course, "clustering")
    carry_back(tfmot.clustering.keras.strip_clustering(wrapped), model)
    return [_verified(kernel, kernels[kernel.bridged], settings) for kernel in kernels_of(model)]


def _wrapped(bridged: Any, chosen: dict[str, Kernel], clusters: int) -> Any:
    import tf_keras
    from tensorflow_model_optimization.clustering.keras import CentroidInitialization

    # The public name of this one, tfmot.clustering.keras.experimental, is empty in version 0.8.
    from tensorflow_model_optimization.python.core.clustering.keras.experimental.cluster import cluster_weights

    def wrap(layer: Any) -> Any:
        if layer.name not in chosen:
            return layer
        return cluster_weights(
            layer,
            number_of_clusters=clusters,
            cluster_centroids_init=CentroidInitialization.KMEANS_PLUS_PLUS,
            preserve_sparsity=chosen[layer.name].is_pruned and clusters > 2,
        )

    # The wrappers take centroids from the weights that a layer has when it is built, so it must have them already.
    return tf_keras.models.clone_model(bridged, clone_function=wrap)


def _verified(kernel: Kernel, before: Kernel, settings: Cluster) -> LayerNote:
    if reason := own_values_reason(kernel, settings):
        return note(kernel, f"own values: {reason}")
    values = len(np.unique(kernel.values))
    if values > settings.clusters:
        raise RunError(
            f"layer {kernel.layer}: at most {settings.clusters} values expected after clustering, found {values}"
        )
    if before.is_pruned and kernel.sparsity < before.sparsity - 1e-6:
        raise RunError(f"layer {kernel.layer}: clustering lost zeros, {before.sparsity:.1%} to {kernel.sparsity:.1%}")
    return note(kernel, f"{values} values")
