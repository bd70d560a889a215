"""What int8 does to each activation: how much of the answers survives, and what a picture costs, on this machine.

A small separable net (64x96x3, 16 to 64 channels, residual blocks, batch normalization on statistics of the pictures
that it sees) with weights drawn anew for each seed, nothing trained, goes through the quantizers of `sepilot export`.
Pictures are smooth random blots, other ones than those of the calibration.

    dB       how answers differ between pictures, to what int8 changes in them, as powers: over eight outputs, the median
             of the seeds; 20 dB is one part in ten, 40 one in a hundred
    us       median of a picture in LiteRT, one thread, all activations taking turns: float32 and int8
    float    operations that stay in float32 in int8.tflite
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import deploy, onnx_file, tflite
from sepilot_export.convert.embed import tflite_model
from sepilot_export.convert.ranges import fit_ranges, output_range
from sepilot_export.quantize.quantizers import OnnxQuantizer, TfliteQuantizer
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.base.latency import Way, interleave
from sepilot_runtime.contract.contract import Contract, Picture, Provenance
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.engine.bare import open_bare, random_inputs
from sepilot_train.base.quiet import quiet
from sepilot_train.models import blocks

PICTURE = Picture(height=64, width=96, color="bgr")
OURS = ("relu", "relu6", "leaky", "swish", "hard-swish")
OTHERS = ("elu", "gelu", "tanh", "mish", "selu", "softplus")

OUTPUTS = tuple(f"y{number}" for number in range(8))

Act = Callable[[Any, str], Any]


def activations() -> Mapping[str, Act]:
    import keras

    def ours(name: str) -> Act:
        return lambda x, layer: blocks.activation(keras, name, layer)(x)

    def others(name: str) -> Act:
        return lambda x, layer: keras.layers.Activation(name, name=layer)(x)

    return {name: ours(name) for name in OURS} | {name: others(name) for name in OTHERS}


def net_with(act: Act, seed: int, pictures: NDArray[np.uint8]) -> Any:
    """The net, normalized on `pictures` (n, h, w, c) as a training would have done it."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = keras.Input(PICTURE.shape, name="image")

    def finished(x: Any, name: str) -> Any:
        return act(layers.BatchNormalization(momentum=0.8, name=f"{name}_norm")(x), f"{name}_act")

    def separable(x: Any, width: int, name: str, stride: int) -> Any:
        x = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
        return finished(layers.Conv2D(width, 1, use_bias=False, name=f"{name}_pointwise")(x), name)

    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    x = finished(x, "stem")
    for number, width in enumerate((24, 48, 64), start=1):
        x = separable(x, width, f"stage{number}", 2)
        x = layers.Add(name=f"add{number}")([x, separable(x, width, f"block{number}", 1)])
    x = layers.GlobalAveragePooling2D(name="average")(x)
    net = blocks.with_heads(keras, image, x, "activations", dict.fromkeys(OUTPUTS, 1))
    for _ in range(30):
        net(pictures * np.float32(1 / 255), training=True)
    return net


def blots(count: int, seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, 8, 12, 3)).astype(np.uint8)
    return np.stack([cv2.resize(c, (PICTURE.width, PICTURE.height), interpolation=cv2.INTER_CUBIC) for c in coarse])


def contract() -> Contract:
    provenance = Provenance(
        recipe="activations", recipe_sha256="0" * 64, dataset_fingerprint="0" * 64, drives=("blots",),
        validation_drives=("blots",), validation={}, versions={},
    )  # fmt: skip
    outputs = tuple(Scalar(name=name, low=-1e3, high=1e3) for name in OUTPUTS)
    tolerance = dict.fromkeys(OUTPUTS, 1.0)
    return Contract(inputs=(PICTURE,), outputs=outputs, tolerance=tolerance, provenance=provenance)


def quantized(kind: Any, graph: Any, pictures: NDArray[np.uint8], work: Path) -> tuple[Any, bytes]:
    """The quantizer, with ranges as `sepilot export` fits them, and what it makes."""
    plain = kind.of(graph, contract(), {name: name for name in OUTPUTS}, pictures, work)
    fitted = fit_ranges(plain.activations(), pictures)
    heads = {tensor: output_range(fitted.seen[tensor]) for tensor in plain.heads.values()}
    ready = dataclasses.replace(plain, ranges={**fitted.ranges, **heads})
    return ready, ready.quantize(())


def decibels(quantizer: Any, int8: bytes, pictures: NDArray[np.uint8]) -> float:
    """Of the answers: their spread over `pictures`, to what int8 changes in them."""
    found = []
    for content in (quantizer.float32, int8):
        if quantizer.suffix == "tflite":
            ask = tflite.activations_of(content, tuple(quantizer.heads.values()))
        else:
            ask = onnx_file.activations_of(content, contract(), OUTPUTS)
        answers = [ask(picture) for picture in pictures]
        found.append(np.array([[a[t].item() for t in quantizer.heads.values()] for a in answers]))
    expected, changed = found
    return float(10 * np.log10(expected.var(axis=0).sum() / ((changed - expected) ** 2).mean(axis=0).sum()))


def float_operations(content: bytes) -> int:
    from ai_edge_litert import schema_py_generated as schema

    graph = tflite_model(content).subgraphs[0]
    return sum(
        all(graph.tensors[o].type == schema.TensorType.FLOAT32 for o in (*op.outputs, op.inputs[0]))
        for op in graph.operators
    )


def measured(name: str, act: Act, seed: int, folder: Path) -> dict[str, Any]:
    """Decibels by file, and the files to be timed."""
    pictures = blots(64, seed)
    with quiet(name):
        graph = deploy.plain_graph(net_with(act, seed, pictures), "image")
        row: dict[str, Any] = {}
        for kind in (TfliteQuantizer, OnnxQuantizer):
            work = folder / f"{name}-{seed}-{kind.suffix}"
            work.mkdir()
            try:
                quantizer, content = quantized(kind, graph, pictures, work)
            except (SepilotError, ValueError, RuntimeError) as e:
                row[f"{kind.suffix}_failed"] = str(e).splitlines()[0]
                continue
            row[kind.suffix] = decibels(quantizer, content, blots(64, seed + 1000))
            if kind is TfliteQuantizer:
                row |= {"files": (quantizer.float32, content), "float": float_operations(content)}
    return row


def timed(files: Mapping[str, tuple[bytes, bytes]]) -> dict[str, tuple[float, float]]:
    """Median microseconds of the float32 and the int8 file, all taking turns."""
    ways = []
    for pair in files.values():
        for content in pair:
            model = open_bare(Path("net.tflite"), engine="litert", content=content)
            ways.append(Way(run=model.run, items=[random_inputs(model, 0)], calls=50))
    medians = [float(np.median(taken)) for taken in interleave(ways, rounds=20)]
    return dict(zip(files, zip(medians[::2], medians[1::2], strict=True), strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=(*OURS, *OTHERS), help="activations to measure")
    parser.add_argument("--seeds", type=int, default=3, help="nets of each; 3")
    arguments = parser.parse_args(argv)
    wanted = {name: act for name, act in activations().items() if name in (arguments.only or (*OURS, *OTHERS))}
    with tempfile.TemporaryDirectory(prefix="sepilot-activations-") as folder:
        rows = {
            name: [measured(name, act, seed, Path(folder)) for seed in range(arguments.seeds)]
            for name, act in wanted.items()
        }
    times = timed({name: found[0]["files"] for name, found in rows.items() if "files" in found[0]})
    print(f"{'':12} {'int8.tflite':>12} {'int8.onnx':>12} {'float32':>9} {'int8':>9}  float")
    for name, found in rows.items():
        left = [
            f"{np.median([row[kind] for row in found]):9.1f} dB" if kind in found[0] else f"{'fails':>12}"
            for kind in ("tflite", "onnx")
        ]
        us = "".join(f" {value:6.0f} us" for value in times.get(name, ()))
        print(f"{name:12} {' '.join(left)}{us}  {found[0].get('float', '')}")
        for why in {row[key] for row in found for key in row if key.endswith("_failed")}:
            print(f"{'':12} {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
