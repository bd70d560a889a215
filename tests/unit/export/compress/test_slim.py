"""The step `slim`: what is worth little goes first, sizes are as asked, and the smaller net still steers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_export.compress.channels import wire
from sepilot_export.compress.importance import choose, taylor
from sepilot_export.compress.recipe import Finetune, Slim, load_compression
from sepilot_export.compress.slim import require_supported, slim
from sepilot_export.compress.step import StepOutcome, Work
from sepilot_runtime.base.errors import RecipeError, RunError
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.fit import fit
from sepilot_train.fit.outputs.scalar.target import ScalarTarget
from sepilot_train.fit.predict import predict
from sepilot_train.fit.settings import TrainingSettings
from sepilot_train.models import build_model

SHAPE = (16, 24, 1)
TARGETS = {"steering": ScalarTarget(mirror="negate")}
SETTINGS = Slim(
    blocks=0.5, macs=0.6, min_channels=2, multiple_of=2,
    finetune=Finetune(epochs=5, min_epoch_frames=512, batch_size=32, learning_rate=0.01),
)  # fmt: skip


def samples(count: int = 256, seed: int = 0) -> FrameSet:
    """A bright column whose place is the label."""
    random = np.random.default_rng(seed)
    place = random.integers(0, 24, count)
    pictures = random.integers(0, 60, (count, *SHAPE), np.uint8)
    pictures[np.arange(count), :, place] += 180
    return FrameSet(pictures=pictures, labels={"steering": ((place - 11.5) / 11.5).astype(np.float32)})


def net() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    return build_model("swift", SHAPE, {"stem": 4, "widths": [8, 16], "repeats": [1, 1], "dense": [8], "dropout": 0.1})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = net()
    settings = TrainingSettings(epochs=8, min_epoch_frames=512, batch_size=32, learning_rate=0.01, keep="last")
    fit(
        model,
        samples(),
        samples(64, seed=1),
        TARGETS,
        settings,
        Augmentation(mirror=0.0),
        tmp_path_factory.mktemp("fit"),
    )
    return model


def work(folder: Path) -> Work:
    return Work(
        train=samples(), validation=samples(64, seed=1), targets=TARGETS, augmentation=Augmentation(mirror=0.0),
        seed=3, folder=folder, log=folder / "log.txt",
    )  # fmt: skip


@pytest.fixture(scope="module")
def outcome(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> StepOutcome:
    return slim(trained, SETTINGS, work(tmp_path_factory.mktemp("slim")))


def error(model: Any) -> float:
    held = samples(200, seed=2)
    return float(np.abs(predict(model, held.pictures)["steering"] - held.labels["steering"]).mean())


def macs(model: Any) -> int:
    wiring = wire(model)
    return wiring.macs(np.ones(wiring.count, bool))


def test_the_net_is_as_small_as_asked_and_still_steers(trained: Any, outcome: StepOutcome) -> None:
    assert macs(outcome.model) <= 0.6 * macs(trained)
    assert outcome.model.input.shape == trained.input.shape
    assert outcome.model.output.shape == (None, 1)
    assert error(trained) < 0.15
    assert error(outcome.model) < 0.2  # always straight ahead: 0.5
    assert outcome.int8 is None


def test_what_happened_to_every_kernel_is_told(trained: Any, outcome: StepOutcome) -> None:
    notes = {(n.layer, n.kind): n for n in outcome.layers}
    assert len(notes) == len(wire(trained).kernels)
    assert sum(n.weights_before for n in outcome.layers) == sum(
        np.size(w) for layer in trained.layers for w in layer.get_weights() if w.ndim > 1
    )
    block = notes["stage1_block1_pointwise", "pointwise"]
    assert (block.action, block.weights_before, block.weights_after) == ("removed with its block", 64, 0)
    narrowed = next(n for n in outcome.layers if n.action.endswith(" channels") and n.kind == "pointwise")
    kernel = outcome.model.get_layer(narrowed.layer).kernel
    assert narrowed.action.endswith(f" -> {kernel.shape[-1]} channels")
    assert narrowed.weights_after == np.prod(kernel.shape) < narrowed.weights_before
    assert notes["steering", "dense"].action.endswith("input channels")


def test_the_same_seed_gives_the_same_net(trained: Any, outcome: StepOutcome, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(99)
    again = slim(trained, SETTINGS, work(tmp_path)).model
    for a, b in zip(outcome.model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_training_only_the_statistics_are_new(trained: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, blocks=0.5, macs=0.6, rounds=2, finetune=Finetune(epochs=0))
    found = slim(trained, settings, work(tmp_path))
    assert sum(n.action == "removed with its block" for n in found.layers) == 2  # one block: two kernels
    assert macs(found.model) <= 0.6 * macs(trained)
    assert not list(tmp_path.iterdir())
    kept = found.model.get_layer("steering").kernel
    original = np.asarray(trained.get_layer("steering").kernel)
    assert all(row in original for row in np.asarray(kept))


def test_worth_is_the_squared_slope_of_the_error_along_the_channel(trained: Any) -> None:
    """Against central differences: ReLU lets a channel grow in proportion to its norm's scale and shift."""
    wiring, few = wire(trained), samples(20, seed=5)
    worth = taylor(trained, wiring, few, TARGETS, batch=7)

    def errors(channel: int, factor: float) -> NDArray[np.float64]:
        norm = trained.get_layer("stage1_down_norm")
        weights = norm.get_weights()
        changed = [w.copy() for w in weights]
        changed[0][channel] *= factor
        changed[1][channel] *= factor
        norm.set_weights(changed)
        found = (predict(trained, few.pictures)["steering"].astype(np.float64) - few.labels["steering"]) ** 2
        norm.set_weights(weights)
        return found

    numbers = wiring.makes["stage1_down_pointwise"]
    slopes = [np.mean(((errors(c, 1.001) - errors(c, 0.999)) / 0.002) ** 2) for c in range(len(numbers))]
    np.testing.assert_allclose(worth[numbers], slopes, rtol=0.05, atol=1e-5)
    assert max(slopes) > 1e-3


def test_idle_channels_go_first_and_limits_are_kept(trained: Any) -> None:
    import keras

    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    norm = model.get_layer("stage2_block1_norm")
    idle = [1, 4, 11]
    gamma, beta, *moving = norm.get_weights()
    gamma[idle], beta[idle] = 0, 0
    norm.set_weights([gamma, beta, *moving])
    wiring = wire(model)
    worth = taylor(model, wiring, samples(), TARGETS)
    settings = Slim(min_channels=3, multiple_of=1)
    kept = choose(wiring, worth, 0.98 * macs(model), settings)
    assert set(wiring.makes["stage2_block1_pointwise"][idle]) <= set(np.flatnonzero(~kept))
    for multiple, least in ((4, 4), (3, 5), (8, 1)):
        kept = choose(wiring, worth, 0, Slim(min_channels=least, multiple_of=multiple))
        for group in wiring.groups:
            before, after = len(group.channels), int(kept[group.channels].sum())
            assert after == before or after >= least
            assert after % multiple == 0 or after == before


def test_a_size_out_of_reach_and_a_net_that_cannot_be_cut_are_told_before_training(tmp_path: Path) -> None:
    import keras

    with pytest.raises(RecipeError, match=r"slim.macs: at least 0\.\d+ expected .* found 0.01"):
        slim(net(), dataclasses.replace(SETTINGS, macs=0.01), work(tmp_path))
    image = keras.Input(SHAPE, name="image")
    flat = keras.layers.Reshape((-1,), name="reshaped")(image)
    odd = keras.Model(image, keras.layers.Dense(1, name="steering")(flat))
    for attempt in (require_supported, lambda model: slim(model, SETTINGS, work(tmp_path))):
        with pytest.raises(RunError, match=r"^reshaped \(Reshape\)"):
            attempt(odd)
    assert not list(tmp_path.iterdir())


def test_another_backend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(RunError, match="KERAS_BACKEND=tensorflow expected, found jax"):
        require_supported(None)


def test_layers_too_narrow_to_cut_are_warned_about(trained: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, blocks=0.0, macs=0.95, multiple_of=4, min_channels=4, rounds=1)
    found = slim(trained, dataclasses.replace(settings, finetune=Finetune(epochs=0)), work(tmp_path))
    assert [w.split(":")[0] for w in found.warnings] == ["stem_conv"]


def test_the_shipped_recipe_loads() -> None:
    assert load_compression("slim").sections == ("slim",)
