"""What tfmot can handle, said before anything is trained and without importing it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sepilot_export.compress.kernels import dense_reason, kernels_of, own_values_reason, require_names
from sepilot_export.compress.recipe import Compression, Prune, Quantize
from sepilot_export.convert.deploy import foldable_norms
from sepilot_export.quantize.calibration import MINIMUM
from sepilot_runtime.base.errors import RunError
from sepilot_train.inspect.keras_graph import graph_of

__all__ = ["SAME_ACTIVATIONS", "require_supported"]

SAME_ACTIVATIONS = frozenset(
    {"elu", "exponential", "gelu", "linear", "mish", "relu", "selu", "sigmoid", "silu", "softmax", "softplus",
     "softsign", "swish", "tanh"}
)  # fmt: skip
"""Equal in Keras 3 and tf_keras. hard_sigmoid is relu6(x + 3) / 6 in one and 0.2 x + 0.5, cut off, in the other."""

_TRAINING_ONLY = {"Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D"}
_QUANTIZED = _TRAINING_ONLY | {
    "Activation", "Add", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D", "Cropping2D", "Dense",
    "DepthwiseConv2D", "Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "InputLayer", "LeakyReLU",
    "MaxPooling2D", "ReLU", "Reshape", "SeparableConv2D", "UpSampling2D", "ZeroPadding2D",
}  # fmt: skip
_BRIDGED = _QUANTIZED | {
    "Average", "Conv2DTranspose", "ELU", "LayerNormalization", "Maximum", "Multiply", "PReLU", "Permute", "Rescaling",
    "Softmax", "Subtract",
}  # fmt: skip
_INT8_ACTIVATIONS = frozenset({"linear", "relu", "sigmoid", "silu", "swish", "tanh"})

_OTHERS = "recipes with slim or distill only can take it"
_OTHERS_THAN_QUANTIZE = "recipes without a quantize section can take it, and `sepilot export` makes int8 files"


def require_supported(model: Any, compression: Compression, earlier: Collection[str] = ()) -> None:
    """Raise RunError naming the layer that `compression` cannot handle, and what can; cheap.

    Args:
        model: Keras 3 Functional.
        earlier: sections that will have been done to it by then.
    """
    if len(model.inputs) != 1:
        raise RunError(f"one input expected, found {len(model.inputs)}")
    graph = graph_of(model)
    for call in graph.calls:
        _require_bridged(call.layer, graph.uses(call.layer))
    if compression.prune is not None:
        _require_prunable(model, compression.prune)
    if compression.cluster is not None:
        require_names(model, compression.cluster.skip, "cluster.skip")
        if all(own_values_reason(kernel, compression.cluster) for kernel in kernels_of(model)):
            raise RunError("cluster: no kernel with more weights than cluster.clusters is left to cluster")
    if compression.quantize is not None:
        _require_quantizable(model)
        _require_to_preserve(model, compression.quantize, {*earlier, *compression.sections})


def _require_bridged(operation: Any, places: int) -> None:
    import keras

    kind = type(operation).__name__
    own = type(operation).__module__.startswith("keras.") and isinstance(operation, keras.layers.Layer)
    if not own or kind not in _BRIDGED:
        raise RunError(f"layer {operation.name}: {kind} is not known to tfmot; {_OTHERS}")
    activation = _activation(operation)
    if activation not in SAME_ACTIVATIONS:
        raise RunError(f"layer {operation.name}: activation {activation} is not the same in tf_keras; {_OTHERS}")
    if places > 1:
        raise RunError(f"layer {operation.name}: is used in {places} places, which tfmot cannot follow; {_OTHERS}")


def _activation(operation: Any) -> str:
    function = getattr(operation, "activation", None)
    return "linear" if function is None else str(getattr(function, "__name__", function))


def _require_prunable(model: Any, settings: Prune) -> None:
    require_names(model, settings.skip, "prune.skip")
    if settings.finetune.epochs < 1:
        raise RunError("prune.finetune.epochs: at least 1 expected, found 0: weights are removed while the net trains")
    if all(dense_reason(kernel, settings) for kernel in kernels_of(model)):
        raise RunError("prune: kinds, min_weights and skip leave no kernel to prune")


def _require_quantizable(model: Any) -> None:
    """Every layer has an int8 form in tfmot and in TFLite."""
    foldable = foldable_norms(model)
    for layer in model.layers:
        kind, activation = type(layer).__name__, _activation(layer)
        reason = ""
        if kind not in _QUANTIZED:
            reason = f"{kind} cannot be quantized by tfmot"
        elif activation not in _INT8_ACTIVATIONS:
            reason = f"activation {activation} cannot be quantized by tfmot"
        elif kind == "BatchNormalization" and layer.name not in foldable:
            whole = layer.center and layer.scale and len(layer.output.shape) == 4 and layer.axis in (-1, 3)
            reason = "" if whole else "this BatchNormalization folds into no layer"
        elif kind == "ReLU" and (layer.max_value is not None or layer.negative_slope or layer.threshold):
            reason = "only a plain ReLU is quantized together with the layer before it"
        if reason:
            raise RunError(f"layer {layer.name}: {reason}; {_OTHERS_THAN_QUANTIZE}")


def _require_to_preserve(model: Any, settings: Quantize, done: Collection[str]) -> None:
    if settings.calibration_frames < MINIMUM:
        raise RunError(f"quantize.calibration_frames: at least {MINIMUM} expected, found {settings.calibration_frames}")
    kernels = kernels_of(model)
    if settings.preserve == "sparsity" and "prune" not in done and not any(k.is_pruned for k in kernels):
        raise RunError('quantize.preserve: "sparsity" expects a pruned net or a prune section, found neither')
    if settings.preserve == "clusters" and "cluster" not in done and not any(k.is_clustered for k in kernels):
        raise RunError('quantize.preserve: "clusters" expects a clustered net or a cluster section, found neither')
