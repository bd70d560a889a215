"""The two quantizers, each around one float32 file and its ranges: which layers are int8 is all that can be chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import onnx_file, tflite
from sepilot_export.convert.in_memory import Suffix
from sepilot_export.convert.layer_names import LayerNames, Parts, onnx_layers, tflite_layers
from sepilot_export.convert.ranges import Range
from sepilot_export.quantize.bias_correction import correct_biases
from sepilot_export.quantize.onnx_biases import OnnxBiases
from sepilot_export.quantize.pair_sums import fit_onnx, fit_tflite, kernel_bits, onnx_kernels, tflite_kernels
from sepilot_export.quantize.sqnr import Noise, onnx_noise, tflite_noise
from sepilot_export.quantize.tflite_biases import TfliteBiases
from sepilot_runtime.contract.contract import Contract

__all__ = ["OnnxQuantizer", "TfliteQuantizer"]


class TfliteQuantizer:
    """ai-edge-quantizer on a float32 TFLite file, with kernels that fit (`pair_sums`) and corrected biases."""

    suffix: Suffix = "tflite"

    def __init__(
        self,
        float32: bytes,
        contract: Contract,
        ranges: Mapping[str, Range],
        layers: LayerNames,
        heads: Mapping[str, str],
        pictures: NDArray[np.uint8],
    ) -> None:
        """`heads`: output to the layer that makes it; `pictures`: for calibration, to correct the biases by."""
        self._float32, self._contract, self._ranges, self._pictures = float32, contract, ranges, pictures
        tensors = tflite.tensor_names(float32)
        self._parts: Parts = tflite_layers(float32, layers, {tensors[o]: layer for o, layer in heads.items()})

    @property
    def layers(self) -> Sequence[str]:
        return list(self._parts)

    def float32(self) -> bytes:
        return self._float32

    def quantize(self, kept: Sequence[str]) -> bytes:
        tensors = [name for layer in kept for name in self._parts[layer]]
        content = tflite.quantize(self._float32, self._contract, self._ranges, keep_float=tensors)
        content = fit_tflite(content, self._float32)
        return correct_biases(TfliteBiases(content, self._float32), self._pictures)

    def quantize_alone(self, layer: str) -> bytes:
        content = tflite.quantize_alone(self._float32, self._contract, self._ranges, self._parts[layer])
        return fit_tflite(content, self._float32)

    def noise(self, int8: bytes, pictures: NDArray[np.uint8]) -> list[Noise]:
        """What a file of `quantize` does to each tensor."""
        return tflite_noise(self._float32, int8, self._parts, pictures)

    def kernel_bits(self, int8: bytes) -> dict[str, float]:
        """Bits that the kernels of a file of `quantize` make use of, by layer; see `pair_sums.kernel_bits`."""
        return _by_layer(self._parts, tflite_kernels(int8))


class OnnxQuantizer:
    """ONNX Runtime's quantizer on a file of `onnx_file.prepare`, with kernels that fit and corrected biases."""

    suffix: Suffix = "onnx"

    def __init__(
        self,
        prepared: bytes,
        contract: Contract,
        ranges: Mapping[str, Range],
        layers: LayerNames,
        pictures: NDArray[np.uint8],
    ) -> None:
        """`pictures`: for calibration, to correct the biases by."""
        self._prepared, self._contract, self._ranges, self._pictures = prepared, contract, ranges, pictures
        self._parts: Parts = onnx_layers(prepared, layers)

    @property
    def layers(self) -> Sequence[str]:
        return list(self._parts)

    def float32(self) -> bytes:
        return self._prepared

    def quantize(self, kept: Sequence[str]) -> bytes:
        nodes = [name for layer in kept for name in self._parts[layer]]
        content = onnx_file.quantize(self._prepared, self._contract, self._few(), self._ranges, keep_float=nodes)
        content = fit_onnx(content, self._prepared)
        return correct_biases(OnnxBiases(content, self._prepared, self._contract), self._pictures)

    def quantize_alone(self, layer: str) -> bytes:
        parts = self._parts[layer]
        content = onnx_file.quantize(self._prepared, self._contract, self._few(), self._ranges, alone=parts)
        return fit_onnx(content, self._prepared)

    def _few(self) -> NDArray[np.uint8]:
        """Pictures for tensors without a range."""
        return self._pictures[:4]

    def noise(self, int8: bytes, pictures: NDArray[np.uint8]) -> list[Noise]:
        """What a file of `quantize` does to each tensor."""
        return onnx_noise(self._prepared, int8, self._parts, pictures, self._contract)

    def kernel_bits(self, int8: bytes) -> dict[str, float]:
        """Bits that the kernels of a file of `quantize` make use of, by layer; see `pair_sums.kernel_bits`."""
        return _by_layer(self._parts, onnx_kernels(int8))


def _by_layer(parts: Parts, kernels: Iterable[tuple[str, NDArray[np.int8]]]) -> dict[str, float]:
    layers = {part: layer for layer, names in parts.items() for part in names}
    return {layers[part]: round(kernel_bits(kernel), 2) for part, kernel in kernels if part in layers}
