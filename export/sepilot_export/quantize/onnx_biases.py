"""The biases of an int8 ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.onnx_file import Constants, activations_of
from sepilot_export.convert.ranges import Activations
from sepilot_export.quantize.bias_correction import Operation, with_shift
from sepilot_runtime.contract.contract import Contract

__all__ = ["OnnxBiases"]


class OnnxBiases:
    """A `BiasedFile`, with quantize / dequantize pairs as `onnx_file.quantize` writes them."""

    channel_axis = 1

    def __init__(self, int8: bytes, prepared: bytes, contract: Contract) -> None:
        """`prepared`: the float32 file that it was made from, each of whose biases has one reader."""
        import onnx

        self._model, self._prepared, self._contract = onnx.load_model_from_string(int8), prepared, contract
        graph = self._model.graph
        self._constants = Constants(self._model)
        makers = {name: node for node in graph.node for name in node.output}
        readers = {name: node for node in graph.node for name in node.input}
        heads = {output.name for output in graph.output}
        self._biases: dict[Operation, Any] = {}
        for node in graph.node:
            bias = makers.get(node.input[2]) if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 else None
            rounding = readers.get(node.output[0])
            if bias is None or rounding is None or rounding.op_type != "QuantizeLinear":
                continue
            restored = readers[rounding.output[0]].output[0]
            operation = Operation(
                float32=restored if restored in heads else node.output[0],
                int8=restored,
                floor=int(self._constants[rounding.input[2]]) == -128,
            )
            self._biases[operation] = bias

    def operations(self) -> Sequence[Operation]:
        return list(self._biases)

    def float32(self, tensors: Sequence[str]) -> Activations:
        return activations_of(self._prepared, self._contract, tensors)

    def int8(self, tensors: Sequence[str]) -> Activations:
        return activations_of(self.content(), self._contract, tensors)

    def shift_bias(self, operation: Operation, shift: NDArray[np.float64]) -> None:
        values, scale, *_ = self._biases[operation].input
        self._constants[values] = with_shift(self._constants[values], shift, self._constants[scale])

    def content(self) -> bytes:
        return bytes(self._model.SerializeToString(deterministic=True))
