"""The two quantizers, each around one float32 file and its ranges: which layers are int8 is all that can be chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import onnx_file, tflite
from sepilot_export.convert.in_memory import Suffix
from sepilot_export.convert.layer_names import Parts, names_of, onnx_layers, tflite_layers
from sepilot_export.convert.ranges import Activations, Range
from sepilot_export.quantize.bias_correction import correct_biases
from sepilot_export.quantize.onnx_biases import OnnxBiases
from sepilot_export.quantize.pair_sums import fit_onnx, fit_tflite, kernel_bits, onnx_kernels, tflite_kernels
from sepilot_export.quantize.sqnr import Noise, onnx_noise, tflite_noise
from sepilot_export.quantize.tflite_biases import TfliteBiases
from sepilot_runtime.contract.contract import Contract

__all__ = ["OnnxQuantizer", "Quantizer", "TfliteQuantizer"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _FileQuantizer:
    """A float32 file, and how its int8 files are made.

    Attributes:
        parts: of the file, by layer.
        heads: output to the tensor that it is.
        pictures: for calibration, (n, h, w, c) uint8; the biases are corrected by them.
        ranges: of the file's activations by tensor name, to be fitted first.
    """

    float32: bytes
    contract: Contract
    parts: Parts
    heads: Mapping[str, str]
    pictures: NDArray[np.uint8]
    ranges: Mapping[str, Range] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """In the order of computation; without those that take numbers beside the picture, which are never int8."""
        beside = set(self._beside())
        return [layer for layer, parts in self.parts.items() if not beside.intersection(parts)]

    def _beside(self) -> list[str]:
        """Parts that depend on a vector: a few small dense layers, whose ranges pictures do not tell."""
        raise NotImplementedError

    def _parts_of(self, layers: Iterable[str]) -> list[str]:
        return [name for layer in layers for name in self.parts[layer]]

    def _bits(self, kernels: Iterable[tuple[str, NDArray[np.int8]]]) -> dict[str, float]:
        layers = {part: layer for layer, names in self.parts.items() for part in names}
        return {layers[part]: round(kernel_bits(kernel), 2) for part, kernel in kernels if part in layers}


class TfliteQuantizer(_FileQuantizer):
    """ai-edge-quantizer on a float32 TFLite file, with kernels that fit (`pair_sums`) and corrected biases."""

    suffix: ClassVar[Suffix] = "tflite"

    @classmethod
    def of(
        cls, graph: Any, contract: Contract, makers: Mapping[str, str], pictures: NDArray[np.uint8], work: Path
    ) -> TfliteQuantizer:
        """Around the file of a deploy graph. `makers`: output to the layer that makes it; `work`: an own folder."""
        tflite.save_graph(graph, contract, work / "equalized")
        content = tflite.convert(work / "equalized", "float32")
        tensors = tflite.tensor_names(content)
        parts = tflite_layers(content, names_of(graph), {tensors[name]: layer for name, layer in makers.items()})
        heads = {name: tensors[name] for name in makers}
        return cls(float32=content, contract=contract, parts=parts, heads=heads, pictures=pictures)

    def activations(self) -> Activations:
        """Of the float32 file."""
        return tflite.activations_of(self.float32)

    def quantize(self, kept: Sequence[str]) -> bytes:
        """All layers but `kept` in int8."""
        float_ = [*self._parts_of(kept), *self._beside()]
        content = tflite.quantize(self.float32, self.contract, self.ranges, keep_float=float_)
        return correct_biases(TfliteBiases(fit_tflite(content, self.float32), self.float32), self.pictures)

    def _beside(self) -> list[str]:
        return tflite.beside_pictures(self.float32)

    def quantize_alone(self, layer: str) -> bytes:
        """One layer in int8, all others in float32."""
        content = tflite.quantize_alone(self.float32, self.contract, self.ranges, self.parts[layer])
        return fit_tflite(content, self.float32)

    def noise(self, int8: bytes, pictures: NDArray[np.uint8]) -> list[Noise]:
        """What a file of `quantize` does to each tensor."""
        return tflite_noise(self.float32, int8, self.parts, pictures)

    def kernel_bits(self, int8: bytes) -> dict[str, float]:
        """Bits that the kernels of a file of `quantize` make use of, by layer; see `pair_sums.kernel_bits`."""
        return self._bits(tflite_kernels(int8))


class OnnxQuantizer(_FileQuantizer):
    """ONNX Runtime's quantizer on a file of `onnx_file.prepare`, with kernels that fit and corrected biases."""

    suffix: ClassVar[Suffix] = "onnx"

    @classmethod
    def of(
        cls, graph: Any, contract: Contract, makers: Mapping[str, str], pictures: NDArray[np.uint8], work: Path
    ) -> OnnxQuantizer:
        """Around the file of a deploy graph, as `TfliteQuantizer.of`."""
        content = onnx_file.prepare(onnx_file.convert_float32(graph, contract))
        parts = onnx_layers(content, names_of(graph))
        heads = {name: name for name in makers}
        return cls(float32=content, contract=contract, parts=parts, heads=heads, pictures=pictures)

    def activations(self) -> Activations:
        """Of the float32 file."""
        return onnx_file.activations_of(self.float32, self.contract)

    def quantize(self, kept: Sequence[str]) -> bytes:
        """All layers but `kept` in int8."""
        content = self._converted(keep_float=[*self._parts_of(kept), *self._beside()])
        return correct_biases(OnnxBiases(content, self.float32, self.contract), self.pictures)

    def _beside(self) -> list[str]:
        return onnx_file.beside_pictures(self.float32, self.contract)

    def quantize_alone(self, layer: str) -> bytes:
        """One layer in int8, all others in float32."""
        return self._converted(alone=self.parts[layer])

    def _converted(self, **nodes: Sequence[str]) -> bytes:
        # A few pictures for the tensors without a range.
        content = onnx_file.quantize(self.float32, self.contract, self.pictures[:4], self.ranges, **nodes)
        return fit_onnx(content, self.float32)

    def noise(self, int8: bytes, pictures: NDArray[np.uint8]) -> list[Noise]:
        """What a file of `quantize` does to each tensor."""
        return onnx_noise(self.float32, int8, self.parts, pictures, self.contract)

    def kernel_bits(self, int8: bytes) -> dict[str, float]:
        """Bits that the kernels of a file of `quantize` make use of, by layer; see `pair_sums.kernel_bits`."""
        return self._bits(onnx_kernels(int8))


Quantizer = TfliteQuantizer | OnnxQuantizer
"""Makes int8 files of one float32 file."""
