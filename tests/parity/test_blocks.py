"""Every activation by name, an inception block and a shared tower, through both converters and quantizers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.bar_nets import bar_frames, contract_for
from sepilot_export.convert import deploy, onnx_file, tflite
from sepilot_export.convert.ranges import fit_ranges, output_range
from sepilot_export.quantize.quantizers import OnnxQuantizer, TfliteQuantizer
from sepilot_runtime.contract.contract import Picture
from sepilot_train.base.quiet import quiet
from sepilot_train.models import blocks

PICTURE = Picture(height=48, width=64, color="bgr")
CONTRACT = contract_for(PICTURE, "blocks")


def net(K: Any) -> Any:
    image = K.Input(PICTURE.shape, name="image")
    x = blocks.conv(K, image, 8, "stem", stride=2, activation="relu6")
    x = blocks.inception(K, x, (4, 8, 4, 4), "inception", activation="hard-swish")
    x = blocks.residual_blueprint(K, x, 16, "residual", stride=2, activation="leaky")
    x = blocks.separable(K, x, 16, "separable", activation="swish")
    look = blocks.tower(K, (16,), "tower")
    halves = {"left": (0, 8), "right": (8, 0)}
    seen = [look(K.layers.Cropping2D(((0, 0), cut), name=side)(x)) for side, cut in halves.items()]
    return blocks.with_heads(K, image, K.layers.Concatenate(name="both")(seen), "blocks", blocks.STEERING)


def worst(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Of the spread of what is expected."""
    return float(np.abs(found - expected).max() / np.ptp(expected))


def test_blocks_survive_every_conversion(tmp_path: Path) -> None:
    import tf_keras

    keras.utils.set_random_seed(0)
    frames, _ = bar_frames(24, 0)
    # Nothing is trained: light that differs, also between the halves, is what such a net tells apart.
    light = np.repeat(np.random.default_rng(0).uniform(0.1, 1, (24, 1, 2, 3)), 32, axis=2)
    pictures = (frames * light).astype(np.uint8)
    images = pictures * np.float32(1 / 255)
    ours, other = net(keras), net(tf_keras)
    for layer in ours.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.3
    for _ in range(12):
        ours(images, training=True)
    expected = np.asarray(ours(images))[:, 0]
    assert np.ptp(expected) > 0.2

    for layer in other.layers:
        layer.set_weights(ours.get_layer(layer.name).get_weights())
    assert worst(expected, np.asarray(other(images))[:, 0]) < 1e-5
    slopes = [layer for layer in other.layers if hasattr(layer, "alpha")]
    for layer in slopes:
        layer.alpha = 0.3  # The default, which a setting by Keras 3's name would have left.
    assert slopes and worst(expected, np.asarray(other(images))[:, 0]) > 1e-2

    with quiet("converting"):
        graph = deploy.plain_graph(ours, "image")
        for kind, ask in (
            (TfliteQuantizer, tflite.activations_of),
            (OnnxQuantizer, lambda content: onnx_file.activations_of(content, CONTRACT)),
        ):
            work = tmp_path / kind.suffix
            work.mkdir()
            plain: Any = kind.of(graph, CONTRACT, {"steering": "steering"}, pictures, work)
            fitted, head = fit_ranges(plain.activations(), pictures), plain.heads["steering"]
            ranges = {**fitted.ranges, head: output_range(fitted.seen[head])}
            int8 = dataclasses.replace(plain, ranges=ranges).quantize(())
            for content, limit in ((plain.float32, 1e-5), (int8, 0.1)):
                run = ask(content)
                found = np.array([run(picture)[head].item() for picture in pictures])
                assert worst(expected, found) < limit, (kind.suffix, limit, worst(expected, found))
