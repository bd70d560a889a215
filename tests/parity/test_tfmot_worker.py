"""Pruning, clustering and quantization by tfmot; its traps, each planted and each caught.

The cases run in one process of their own (`tfmot_cases.py` tells what each does); the last two tests go the whole way
through `tfmot.compress`, as a user's call does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.bar_nets import GRAY, bar_frames, fitted, frame_set
from sepilot_export.compress import tfmot
from sepilot_export.compress.kernels import kernels_of
from sepilot_export.compress.recipe import Compression, Finetune, Prune, Quantize
from sepilot_export.compress.step import StepOutcome, Work
from sepilot_export.convert.embed import tflite_model, tflite_weights
from sepilot_export.quantize.pair_sums import LARGEST_PAIR, largest_pairs, tflite_kernels
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.outputs.scalar.target import ScalarTarget
from sepilot_train.fit.predict import predict

FOLDER = Path(__file__).parent
SHORT = Finetune(epochs=3, min_epoch_frames=0, batch_size=32, learning_rate=0.001)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each case returned, or the message of its error."""
    out = tmp_path_factory.mktemp("tfmot") / "cases.json"
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(FOLDER.parent)}
    command = [sys.executable, "-m", "parity.tfmot_cases", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert out.exists(), done.stderr[-2000:]
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_bridge_gives_the_same_net(cases: dict[str, Any]) -> None:
    assert cases["bridge"] < 1e-6


def test_leaky_relu_slope(cases: dict[str, Any]) -> None:
    """tf_keras calls it alpha, and without that word takes 0.3."""
    assert "leaky: tf_keras's LeakyReLU has no setting negative_slope" in cases["setting_without_counterpart"]
    assert "the copy differs from the net" in cases["leaky_slope_forgotten"]


def test_hard_sigmoid(cases: dict[str, Any]) -> None:
    """Another function of the same name."""
    assert "hard: activation hard_sigmoid is not the same function" in cases["hard_sigmoid"]
    assert "the copy differs from the net" in cases["hard_sigmoid_let_through"]


def test_permuted_concatenate(cases: dict[str, Any]) -> None:
    """tfmot swaps the inputs of a Concatenate and says nothing."""
    assert cases["concatenate_in_order"] is True
    assert "tfmot's net, with nothing quantized" in cases["concatenate_permuted"]


def test_ranges_are_seeded(cases: dict[str, Any]) -> None:
    """tfmot's own start at [-6, 6] and hardly move in a short training."""
    ranges = cases["ranges"]
    assert ranges["seeded"] < 0.05 and ranges["unseeded"] > 5 * ranges["seeded"]
    assert (ranges["input_low"], ranges["input_high"]) == (0.0, 1.0)


def test_sparsity_of_each_kernel(cases: dict[str, Any]) -> None:
    """Both kernels of a SeparableConv2D, and depthwise ones, of which tfmot by itself prunes neither."""
    pruned = {"stem": 0.75, "pair_depthwise": 0.75, "pair_pointwise": 0.75, "depth": 0.75}
    assert cases["prune"]["zeros"] == {**pruned, "point": 0.0, "steering": 0.0}
    assert cases["prune"]["actions"] == ["75% zeros"] * 4 + ["dense: in skip", "dense: not in kinds"]


def test_two_of_four(cases: dict[str, Any]) -> None:
    assert cases["two_of_four"]["patterns"] == {"pair_pointwise": True, "point": True, "steering": True}
    assert cases["two_of_four"]["actions"][0] == "dense: 1 input channel"
    assert cases["two_of_four"]["zeros"]["point"] == 0.5


def test_divergence_is_an_error(cases: dict[str, Any]) -> None:
    assert "diverged in epoch" in cases["diverged"] and "learning_rate" in cases["diverged"]


def test_clusters_and_zeros_stay(cases: dict[str, Any]) -> None:
    found = cases["cluster"]
    assert found["clustered"] == found["pruned"]
    assert found["pruned"]["point"] == found["pruned"]["pair_pointwise"] == 0.5
    for name in ("stem", "pair_pointwise", "point", "steering"):
        assert found["counts"][name] <= 8
    assert found["actions"][1] == "own values: depthwise"
    # In the file, too: (16, 1, 1, 16) weights have 16 a channel, of which at most 8 differ.
    assert found["int8"]["(16, 1, 1, 16)"] <= 8 and found["int8"]["(1, 16)"] <= 8


class Compressed:
    """A fitted net, pruned and quantized through the front door."""

    def __init__(self, folder: Path) -> None:
        options = {"stem": 8, "widths": (8, 16), "repeats": (1, 1), "dense": (8,), "dropout": 0.0}
        self.net = fitted("swift", GRAY, options, seed=3)
        frames, labels = bar_frames(800, 30)
        train = frame_set(frames, labels, GRAY, "t")
        frames, labels = bar_frames(300, 31)
        self.held = frame_set(frames, labels, GRAY, "h")
        folder.joinpath("job").mkdir()
        work = Work(
            train=train, validation=self.held, targets={"steering": ScalarTarget(mirror="negate")},
            augmentation=Augmentation(mirror=0.0), seed=0, folder=folder / "job",
            log=folder / "job.log",
        )  # fmt: skip
        compression = Compression(
            name="test", summary="", prune=Prune(sparsity=0.6, min_weights=100, finetune=SHORT),
            quantize=Quantize(preserve="sparsity", calibration_frames=100, finetune=SHORT),
        )  # fmt: skip
        self.weights = self.net.get_weights()
        self.outcome: StepOutcome = tfmot.compress(self.net, compression, work)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    return Compressed(tmp_path_factory.mktemp("compressed"))


@pytest.mark.slow
def test_pruned_net_and_its_notes(compressed: Compressed) -> None:
    outcome, net = compressed.outcome, compressed.net
    assert all(np.array_equal(a, b) for a, b in zip(net.get_weights(), compressed.weights, strict=True))
    notes = {(n.layer, n.kind): n for n in outcome.layers}
    for kernel in kernels_of(outcome.model):
        note = notes[kernel.layer, kernel.kind]
        assert note.sparsity == pytest.approx(kernel.sparsity, abs=1e-4)
        is_pruned = kernel.kind != "depthwise" and kernel.values.size >= 100
        assert kernel.sparsity == pytest.approx(0.6 if is_pruned else 0.0, abs=0.5 / kernel.values.size + 1e-6)
        assert note.action.endswith("; int8") and note.action.startswith("60% zeros" if is_pruned else "dense: ")
    labels = compressed.held.labels["steering"]
    after = predict(outcome.model, compressed.held.pictures)["steering"]
    assert np.abs(after - labels).mean() < 0.4 * np.abs(labels).mean()


def test_int8_file(compressed: Compressed) -> None:
    from ai_edge_litert.interpreter import Interpreter

    content = compressed.outcome.int8
    assert content is not None
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    assert interpreter.get_signature_list() == {"serve": {"inputs": ["image"], "outputs": ["steering"]}}
    (image,), (steering,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["quantization"] == (np.float32(1 / 255), -128)
    types = {np.dtype(t["dtype"]) for t in interpreter.get_tensor_details()}
    assert types <= {np.dtype(np.int8), np.dtype(np.int32)}
    answers = []
    for picture in compressed.held.pictures:
        interpreter.set_tensor(image["index"], (picture.astype(np.int16) - 128).astype(np.int8)[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(steering["index"]).item())
    scale, zero_point = steering["quantization"]
    expected = predict(compressed.outcome.model, compressed.held.pictures)["steering"]
    error = np.abs((np.array(answers) - zero_point) * scale - expected)
    assert np.ptp(expected) > 1.0 and error.max() < 0.08 and error.mean() < 0.015
    # Headroom: nothing that was seen reaches the ends of what the output can say.
    assert min(answers) > -128 and max(answers) < 127


def test_trained_kernels_fit_into_16_bits_as_well(compressed: Compressed) -> None:
    content = compressed.outcome.int8
    assert content is not None
    largest = {name: int(largest_pairs(kernel).max()) for name, kernel in tflite_kernels(content)}
    assert len(largest) >= 5 and max(largest.values()) <= LARGEST_PAIR, largest


def test_zeros_and_short_scales_in_the_file(compressed: Compressed) -> None:
    content = compressed.outcome.int8
    assert content is not None
    wanted = sum(int((k.values == 0).sum()) for k in kernels_of(compressed.outcome.model))
    assert sum(int((w == 0).sum()) for w in tflite_weights(content)) >= wanted > 300
    kernels = [
        t for t in tflite_model(content).subgraphs[0].tensors if len(t.shape) == 4 and len(t.quantization.scale) > 1
    ]
    fractions = np.frexp(np.concatenate([np.asarray(t.quantization.scale, np.float64) for t in kernels]))[0] * 256
    assert len(kernels) > 5 and np.array_equal(fractions, np.rint(fractions))
