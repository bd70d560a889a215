"""tfmot's quantization schemes, with a scale per channel for depthwise kernels. Imported by the worker alone.

tfmot takes the last dimension of a kernel for its channels, which in a depthwise one has size 1: one scale for all,
where the TFLite file may have one for each channel, and channels differ by a factor of ten and more. (A dense kernel
has one scale as well; TensorFlow's converter fails on more.)
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import tensorflow as tf
from tensorflow_model_optimization.python.core.quantization.keras import quantize_registry
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
    default_8bit_cluster_preserve_quantize_scheme as cluster_preserve,
)
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
    default_8bit_prune_preserve_quantize_scheme as prune_preserve,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_registry,
    default_8bit_quantize_scheme,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantizers import LastValueQuantizer
from tensorflow_model_optimization.quantization.keras import QuantizeScheme, quantize_scope

__all__ = ["quantization_scheme"]


def quantization_scheme(
    preserve: Literal["nothing", "sparsity", "clusters"], *, pruned: bool
) -> tuple[Any, AbstractContextManager[Any]]:
    """The scheme to give to `quantize_apply`, and the scope to call it in."""
    inner = {
        "nothing": default_8bit_quantize_scheme.Default8BitQuantizeScheme,
        "sparsity": prune_preserve.Default8BitPrunePreserveQuantizeScheme,
        "clusters": lambda: cluster_preserve.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=pruned),
    }[preserve]()
    own = (DepthwiseQuantizeConfig, PerChannelQuantizer)
    scheme = _Scheme(inner, preserve_zeros=pruned and preserve != "nothing")
    return scheme, quantize_scope({c.__name__: c for c in own})


class PerChannelQuantizer(LastValueQuantizer):  # type: ignore[misc]
    """Quantizes a depthwise kernel (rows, columns, channels, multiplier) with a range for each output channel.

    Args:
        preserve_zeros: weights that are zero when the layer is built stay zero.
    """

    def __init__(self, preserve_zeros: bool = False) -> None:
        super().__init__(num_bits=8, per_axis=True, symmetric=True, narrow_range=True)
        self._preserve_zeros = preserve_zeros

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Make the variables of the ranges."""
        shape = (int(tensor_shape[-2] * tensor_shape[-1]),)
        made = {
            key: layer.add_weight(f"{name}_{key}", shape=shape, initializer=start, trainable=False)
            for key, start in (("min_var", "zeros"), ("max_var", "ones"))
        }
        kernel = getattr(layer.layer, name)
        return {**made, "mask": tf.cast(kernel != 0, kernel.dtype)} if self._preserve_zeros else made

    def __call__(self, inputs: Any, training: Any, weights: Any, **options: Any) -> Any:
        """Fake-quantized `inputs`."""
        rows, columns, channels, multiplier = inputs.shape
        kept = inputs * weights["mask"] if self._preserve_zeros else inputs
        flat = tf.reshape(kept, (rows, columns, 1, channels * multiplier))
        return tf.reshape(super().__call__(flat, training, weights, **options), inputs.shape)

    def get_config(self) -> dict[str, Any]:
        """For tfmot, which copies layers by their configuration."""
        return {"preserve_zeros": self._preserve_zeros}


class DepthwiseQuantizeConfig(default_8bit_quantize_registry.Default8BitQuantizeConfig):  # type: ignore[misc]
    """tfmot's configuration of a depthwise convolution, with the quantizer above."""

    def __init__(self, preserve_zeros: bool = False) -> None:
        super().__init__(["depthwise_kernel"], ["activation"], False)
        self.weight_quantizer = PerChannelQuantizer(preserve_zeros)

    def get_config(self) -> dict[str, Any]:
        """For tfmot, which copies layers by their configuration."""
        return self.weight_quantizer.get_config()


class _Registry(quantize_registry.QuantizeRegistry):  # type: ignore[misc]
    def __init__(self, inner: Any, preserve_zeros: bool) -> None:
        self._inner = inner
        self._preserve_zeros = preserve_zeros

    def supports(self, layer: Any) -> bool:
        return bool(self._inner.supports(layer))

    def get_quantize_config(self, layer: Any) -> Any:
        if type(layer).__name__ == "DepthwiseConv2D":
            return DepthwiseQuantizeConfig(self._preserve_zeros)
        return self._inner.get_quantize_config(layer)


class _Scheme(QuantizeScheme):  # type: ignore[misc]
    def __init__(self, inner: Any, *, preserve_zeros: bool) -> None:
        self._inner = inner
        self._preserve_zeros = preserve_zeros

    def get_layout_transformer(self) -> Any:
        return self._inner.get_layout_transformer()

    def get_quantize_registry(self) -> Any:
        return _Registry(self._inner.get_quantize_registry(), self._preserve_zeros)
