"""TFLite files from the deploy graph.

The float files come from TensorFlow's converter, by way of an `ExportArchive`: handing it a Keras 3 model's concrete
function gives a file without weights that answers NaN, and says nothing. The int8 files come from ai-edge-quantizer,
with the smallest and largest values of all calibration frames. Its default, a moving average, shrinks the range of a
single output number to almost nothing, also without a word; the converter's own calibrator is wrong where a batch
normalization cannot be folded (tensorflow/tensorflow#127842), and leaves the input scale to chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract import Contract
from sepilot_runtime.errors import RunError
from sepilot_runtime.quantization import INT8_INPUT

__all__ = ["Calibrated", "Ranges", "calibrate", "convert", "output_range", "quantize", "save_graph"]

SIGNATURE = "serve"

STABLE = 0.2
"""Two halves of a good calibration set see ranges that differ by less: 0.03 to 0.05 on a real drive with 300 frames."""

Ranges = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""Tensor name to {"min", "max"}."""


def save_graph(deployed: Any, contract: Contract, folder: Path) -> None:
    """Write the deploy graph as a SavedModel with the one signature `serve`."""
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(deployed)
    archive.add_endpoint(
        SIGNATURE,
        lambda image: deployed(image, training=False),
        input_signature=[tf.TensorSpec((1, *contract.picture.shape), tf.float32, name=contract.picture.name)],
    )
    archive.write_out(str(folder), verbose=False)


def convert(saved: Path, precision: Literal["float32", "float16", "dynamic"]) -> bytes:
    """A SavedModel of `save_graph` as a TFLite file that needs no calibration."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[SIGNATURE])
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Calibrated:
    """Ranges seen over calibration pictures.

    Attributes:
        ranges: of every tensor, over all pictures.
        disagreement: tensor name to how much its range differs between two halves of the pictures, as a fraction of
            the whole range.
        output_ranges: contract's output name to the range that a quantized output gets.
    """

    ranges: Ranges
    disagreement: Mapping[str, float]
    output_ranges: Mapping[str, tuple[float, float]]

    def stability(self) -> dict[str, float]:
        """How much the two halves differ, for the manifest."""
        found = list(self.disagreement.values())
        return {"median": round(float(np.median(found)), 4), "worst": round(max(found), 4)}

    def warnings(self) -> list[str]:
        """A line when the set is too small or too uneven for its ranges to be trusted."""
        median = self.stability()["median"]
        if median <= STABLE:
            return []
        warning = (
            f"calibration: two halves of the frames disagree about the range of a typical tensor by {median:.0%} "
            f"(up to {STABLE:.0%} is usual); calibrate on more frames with --calibration-frames"
        )
        return [warning]


def calibrate(float32: bytes, contract: Contract, pictures: NDArray[np.uint8]) -> Calibrated:
    """Run pictures (n, h, w, c) uint8, n >= 2, through a float32 file and keep the smallest and largest values."""
    halves = [_ranges(float32, contract.picture.name, pictures[start::2]) for start in (0, 1)]
    ranges = {}
    disagreement = {}
    for name, a in halves[0].items():
        b = halves[1][name]
        low, high = np.minimum(a["min"], b["min"]), np.maximum(a["max"], b["max"])
        ranges[name] = {"min": low, "max": high}
        width = float((high - low).max())
        if width > 0:
            disagreement[name] = 1.0 - float(min(np.max(h["max"] - h["min"]) for h in (a, b))) / width
    tensors = _Tensors(float32)
    output_ranges = {}
    for output in contract.outputs:
        seen = ranges[tensors.outputs[output.name]]
        output_ranges[output.name] = output_range(float(seen["min"].min()), float(seen["max"].max()))
    return Calibrated(ranges=ranges, disagreement=disagreement, output_ranges=output_ranges)


def _ranges(float32: bytes, input_name: str, pictures: NDArray[np.uint8]) -> Ranges:
    from ai_edge_quantizer import calibrator, recipe, recipe_manager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    worker = calibrator.Calibrator(float32, num_threads=1, qsv_update_func=min_max_update)
    samples = [{input_name: p[None].astype(np.float32) * np.float32(1 / 255)} for p in pictures]
    worker.calibrate({SIGNATURE: samples}, manager)
    ranges: Ranges = worker.get_model_qsvs()
    return ranges


def output_range(low: float, high: float, headroom: float = 0.1) -> tuple[float, float]:
    """The range that a quantized output can say: what was seen, some headroom, and zero."""
    extra = max(headroom * (high - low), 1e-3)
    return min(low - extra, 0.0), max(high + extra, 0.0)


def quantize(float32: bytes, contract: Contract, calibrated: Calibrated, *, float_head: bool = False) -> bytes:
    """An int8 file from a float32 file and its calibrated ranges.

    The input gets scale 1/255 and zero point -128 by definition, so that `pixel - 128` is its exact value; the outputs
    get the range of `output_range`.

    Args:
        float_head: leave the layers that make the outputs, and the outputs, in float32.

    Raises:
        RunError: the file that came out does not have the input that the runtime writes.
    """
    from ai_edge_quantizer import quantizer, recipe, recipe_manager

    graph = _Tensors(float32)
    fixed = {name: dict(r) for name, r in calibrated.ranges.items()}
    _set_range(fixed, graph.inputs[contract.picture.name], 0.0, 1.0)
    for name, (low, high) in calibrated.output_ranges.items():
        _set_range(fixed, graph.outputs[name], low, high)
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    if float_head:
        _leave_outputs_float(manager, list(graph.outputs.values()))
    work = quantizer.Quantizer(float32)
    work.load_quantization_recipe(manager.get_quantization_recipe())
    content = bytes(work.quantize(fixed, enable_progress_report=False).quantized_model)
    _require_exact_input(content, contract)
    return content


def _leave_outputs_float(manager: Any, outputs: list[str]) -> None:
    import re

    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    for name in outputs:
        manager.add_quantization_config(
            re.escape(name), qtyping.TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )


def _set_range(ranges: dict[str, dict[str, NDArray[np.float32]]], name: str, low: float, high: float) -> None:
    shape = ranges[name]["min"].shape
    ranges[name] = {"min": np.full(shape, low, np.float32), "max": np.full(shape, high, np.float32)}


class _Tensors:
    """Tensor names behind the signature's names."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        (signature,) = model.signatureDefs
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        self.inputs = {m.name.decode(): tensors[m.tensorIndex].name.decode() for m in signature.inputs}
        self.outputs = {m.name.decode(): tensors[m.tensorIndex].name.decode() for m in signature.outputs}


def _require_exact_input(content: bytes, contract: Contract) -> None:
    from ai_edge_litert.interpreter import Interpreter

    (detail,) = Interpreter(model_content=content).get_input_details()
    scale, zero_point = detail["quantization"]
    exact = np.float32(scale) == np.float32(INT8_INPUT.scale) and zero_point == INT8_INPUT.zero_point
    if detail["dtype"] != np.int8 or not exact:
        raise RunError(
            f"the int8 file's input {contract.picture.name!r}: int8 with scale 1/255 and zero point -128 expected, "
            f"found {np.dtype(detail['dtype'])}, {scale:.9g} and {zero_point}"
        )
