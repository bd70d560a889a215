"""What happens inside tfmot's process, for test_tfmot_worker.py: python -m parity.tfmot_cases OUT.json.

tfmot changes the process that imports it, so no test does; this module runs all cases in one process of its own and
leaves what each returned, or the message of the RunError that it raised.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parity.bar_nets import GRAY, bar_frames, frame_set
from sepilot_export.compress.recipe import Cluster, Finetune, Prune, Quantize
from sepilot_runtime.base.errors import RunError
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.outputs.scalar.target import ScalarTarget

SHORT = Finetune(epochs=2, min_epoch_frames=0, batch_size=32, learning_rate=0.002)


def course() -> Any:
    from sepilot_export.compress.finetune import Course

    frames, labels = bar_frames(256, 5)
    return Course(
        train=frame_set(frames, labels, GRAY, "train"),
        targets={"steering": ScalarTarget(mirror="negate")},
        augmentation=Augmentation(shift_y=0.05, brightness=0.1),
        seed=0,
        begin=lambda label, total: None,
        advance=lambda steps: None,
    )


def net(body: Callable[[Any, Any], Any]) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input(GRAY.shape, name="image")
    x = keras.layers.GlobalAveragePooling2D(name="average")(body(keras.layers, image))
    model = keras.Model(image, keras.layers.Dense(1, name="steering")(x))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            random = np.random.default_rng(1)
            layer.set_weights([random.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    return model


def branches(layers: Any, image: Any) -> Any:
    """The second branch ends in a convolution that tfmot rewrites, the first does not."""
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    left = layers.Conv2D(8, 3, padding="same", name="left")(x)
    left = layers.ReLU(name="left_relu")(layers.BatchNormalization(name="left_norm")(left))
    right = layers.MaxPooling2D(3, strides=1, padding="same", name="right")(x)
    both = layers.Concatenate(name="both")([left, right])
    return layers.Conv2D(8, 1, activation="relu", name="after")(both)


def separables(layers: Any, image: Any) -> Any:
    """A convolution of four input channels, a separable one whose norm does not fold, and a depthwise one."""
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    x = layers.SeparableConv2D(16, 3, padding="same", activation="relu", name="pair")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depth")(x)
    return layers.Conv2D(16, 1, activation="relu", name="point")(x)


def copied(model: Any) -> float:
    from sepilot_export.compress import bridge

    return bridge.require_parity(model, bridge.to_tf_keras(model), course().train.pictures[:16], "the copy")


def leaky(slope: float) -> Any:
    return net(lambda layers, image: layers.LeakyReLU(slope, name="leaky")(layers.Conv2D(8, 3, name="conv")(image)))


def case_bridge() -> float:
    return max(copied(net(branches)), copied(net(separables)), copied(leaky(0.05)))


def case_leaky_slope_forgotten() -> float:
    """As if the setting's other name were not known, and the strictness about settings were not there either."""
    from sepilot_export.compress import bridge

    renamed, needed = dict(bridge._RENAMED), set(bridge._NOT_NEEDED)
    bridge._RENAMED.clear()
    bridge._NOT_NEEDED.add("negative_slope")
    try:
        return copied(leaky(0.05))
    finally:
        bridge._RENAMED.update(renamed)
        bridge._NOT_NEEDED.discard("negative_slope")
        assert needed == bridge._NOT_NEEDED


def case_setting_without_counterpart() -> float:
    from sepilot_export.compress import bridge

    renamed = bridge._RENAMED.pop("LeakyReLU")
    try:
        return copied(leaky(0.05))
    finally:
        bridge._RENAMED["LeakyReLU"] = renamed


def hard() -> Any:
    return net(lambda layers, image: layers.Conv2D(8, 3, activation="hard_sigmoid", name="hard")(image))


def case_hard_sigmoid() -> float:
    return copied(hard())


def case_hard_sigmoid_let_through() -> float:
    from sepilot_export.compress import bridge

    allowed = bridge.SAME_ACTIVATIONS
    bridge.SAME_ACTIVATIONS = allowed | {"hard_sigmoid"}
    try:
        return copied(hard())
    finally:
        bridge.SAME_ACTIVATIONS = allowed


def quantized(model: Any, *, ordered: bool, fold: bool = False) -> tuple[Any, Any]:
    """tfmot's net and the calibration pictures."""
    from sepilot_export.compress import bridge, quantizing
    from sepilot_export.convert.deploy import plain_graph

    bridged = bridge.to_tf_keras(plain_graph(model, "image", fold=fold), fuse_relu=True)
    quantizing.freeze_norms(bridged)
    pictures = course().train.pictures[:60]
    if ordered:
        with quantizing.in_order():
            made = quantizing.quantized_copy(bridged, Quantize())
    else:
        made = quantizing.quantized_copy(bridged, Quantize())
    quantizing.require_wiring(model, made, pictures[:16])
    return made, pictures


def case_concatenate_in_order() -> bool:
    quantized(net(branches), ordered=True)
    return True


def case_concatenate_permuted() -> bool:
    quantized(net(branches), ordered=False)
    return True


def flat() -> Any:
    """Its answers depend on where the bar is, also with random weights."""
    import keras

    keras.utils.set_random_seed(0)
    image = x = keras.Input(GRAY.shape, name="image")
    for number in (1, 2):
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(image, keras.layers.Dense(1, name="steering")(x))


def case_ranges() -> dict[str, float]:
    """Mean error of the rounded net, of all answers' spread: with tfmot's ranges after ten steps, and with ours."""
    from sepilot_export.compress.fake_quantization import fixed_ranges, seed_ranges

    model = flat()
    made, pictures = quantized(model, ordered=True, fold=True)
    images = pictures * np.float32(1 / 255)
    expected = np.asarray(model(images, training=False))
    for _ in range(10):
        made(images, training=True)

    def error() -> float:
        with fixed_ranges():
            made(images[:2], training=True)
            return float(np.abs(np.asarray(made(images, training=False)) - expected).mean() / np.ptp(expected))

    unseeded = error()
    seed_ranges(made, pictures, {"steering": (0.0, 0.0)})
    bounds = {w.name: float(w.numpy()) for w in made.weights if "quantize_layer" in w.name and w.shape == ()}
    low, high = (next(v for n, v in bounds.items() if n.endswith(f"_{end}:0")) for end in ("min", "max"))
    return {"unseeded": unseeded, "seeded": error(), "input_low": low, "input_high": high}


def zeros(model: Any) -> dict[str, float]:
    from sepilot_export.compress.kernels import kernels_of

    return {kernel.bridged: round(kernel.sparsity, 4) for kernel in kernels_of(model)}


def case_prune() -> dict[str, Any]:
    from sepilot_export.compress.pruning import prune

    model = net(separables)
    kinds = ("pointwise", "convolution", "depthwise")
    notes = prune(model, Prune(sparsity=0.75, kinds=kinds, min_weights=32, skip=("point",), finetune=SHORT), course())
    return {"zeros": zeros(model), "actions": [n.action for n in notes]}


def case_two_of_four() -> dict[str, Any]:
    from sepilot_export.compress.kernels import kernels_of
    from sepilot_export.compress.pruning import is_two_of_four, prune

    model = net(separables)
    notes = prune(model, Prune(pattern="2:4", min_weights=16, finetune=SHORT), course())
    patterns = {k.bridged: is_two_of_four(k.values) for k in kernels_of(model) if k.sparsity > 0}
    return {"zeros": zeros(model), "patterns": patterns, "actions": [n.action for n in notes]}


def case_diverged() -> bool:
    from sepilot_export.compress.pruning import prune

    wild = Finetune(epochs=3, min_epoch_frames=0, batch_size=32, learning_rate=1e3, warmup_epochs=0)
    prune(net(separables), Prune(min_weights=16, finetune=wild), course())
    return True


def case_cluster() -> dict[str, Any]:
    """Prune, cluster, and quantize what that leaves: zeros and shared values stay, down into the file."""
    from sepilot_export.compress.clustering import cluster
    from sepilot_export.compress.kernels import kernels_of
    from sepilot_export.compress.pruning import prune
    from sepilot_export.compress.quantizing import quantize
    from sepilot_export.convert.embed import tflite_model

    model, where = net(separables), course()
    prune(model, Prune(sparsity=0.5, min_weights=64, finetune=SHORT), where)
    pruned = zeros(model)
    notes = cluster(model, Cluster(clusters=8, finetune=SHORT), where)
    counts = {k.bridged: len(np.unique(k.values)) for k in kernels_of(model)}
    folder = Path(sys.argv[1]).with_suffix("")
    folder.mkdir()
    _, content = quantize(model, Quantize(preserve="clusters", finetune=SHORT), where, folder)
    file = tflite_model(content)
    int8 = {}
    for tensor in file.subgraphs[0].tensors:
        data = file.buffers[tensor.buffer].data
        if data is not None and len(tensor.shape) > 1:
            channels = np.asarray(data, np.uint8).view(np.int8).reshape(tensor.shape[0], -1)
            int8[str(tuple(map(int, tensor.shape)))] = max(len(np.unique(channel)) for channel in channels)
    actions = [n.action for n in notes]
    return {"pruned": pruned, "clustered": zeros(model), "counts": counts, "int8": int8, "actions": actions}


def main() -> None:
    found: dict[str, Any] = {}
    for name, case in list(globals().items()):
        if name.startswith("case_"):
            print(name, file=sys.stderr, flush=True)
            try:
                found[name.removeprefix("case_")] = case()
            except RunError as e:
                found[name.removeprefix("case_")] = f"RunError: {e}"
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
