"""Fitting: exact labels under augmentation, one run from one seed, resumed to the same weights, kept as asked."""

from __future__ import annotations

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RecipeError, RunError
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.fit import compiled_training, fit
from sepilot_train.fit.outputs.scalar.target import ScalarTarget
from sepilot_train.fit.predict import predict
from sepilot_train.fit.settings import History, TrainingSettings

TURNS = {"steering": ScalarTarget(mirror="negate")}
FAST = TrainingSettings(epochs=4, batch_size=16, learning_rate=0.01, schedule="cosine", keep="last")
STRONG = Augmentation(mirror=0.5, shift_x=0.1, shift_x_label=1.0, brightness=0.1, noise=0.02, shadow=0.3)
LATER = dataclasses.replace(STRONG, rotate_deg=5.0, cutout=0.2, mixup=0.1)
"""With kinds that take numbers of their own."""


class Killed(Exception):
    """Stands for the process being killed between two epochs."""


def samples(count: int = 70, seed: int = 0) -> FrameSet:
    """A bright column whose place is the label."""
    random = np.random.default_rng(seed)
    place = random.integers(0, 12, count)
    pictures = random.integers(0, 60, (count, 8, 12, 1), np.uint8)
    pictures[np.arange(count), :, place] += 180
    return FrameSet(pictures=pictures, labels={"steering": ((place - 5.5) / 5.5).astype(np.float32)})


def small_net(seed: int = 0) -> Any:
    """Has what makes resuming hard: moving statistics and a random layer."""
    import keras

    keras.utils.set_random_seed(seed)
    image = x = keras.Input((8, 12, 1), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dropout(0.2, name="dropout")(x)
    return keras.Model(image, keras.layers.Dense(1, name="steering")(x))


def train(
    workdir: Path, settings: TrainingSettings = FAST, augmentation: Augmentation = STRONG, **options: Any
) -> tuple[list[NDArray[Any]], History]:
    net = small_net()
    history = fit(net, samples(), samples(40, seed=1), TURNS, settings, augmentation, workdir, **options)
    return [np.asarray(value) for value in net.get_weights()], history


def equal(first: list[NDArray[Any]], second: list[NDArray[Any]]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def kill_after(epoch: int) -> Any:
    def on_epoch(row: dict[str, float]) -> None:
        if row["epoch"] == epoch:
            raise Killed

    return on_epoch


def without_seconds(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


SETTINGS = {
    "rmsprop, cosine": dataclasses.replace(FAST, optimizer="rmsprop"),
    "nadam, plateau": dataclasses.replace(FAST, optimizer="nadam", schedule="plateau", plateau_patience=1, keep="best"),
    "averaged": dataclasses.replace(FAST, optimizer="adamw", weight_decay=0.01, ema=0.9, keep="best"),
    "sgd, from the host": dataclasses.replace(FAST, optimizer="sgd", straight_keep=0.5, device_limit_mb=0),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_resumed_after_a_kill_ends_in_the_same_weights(tmp_path: Path, settings: TrainingSettings) -> None:
    whole, history = train(tmp_path / "whole", settings, LATER)
    with pytest.raises(Killed):
        train(tmp_path / "cut", settings, LATER, on_epoch=kill_after(2))
    resumed, continued = train(tmp_path / "cut", settings, LATER, resume=True)
    assert equal(whole, resumed)
    assert without_seconds(history) == without_seconds(continued)
    assert history.kept_epoch == continued.kept_epoch


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "rmsprop", "sgd"])
def test_the_optimizer_is_the_one_that_was_asked_for(name: Any) -> None:
    settings = dataclasses.replace(FAST, optimizer=name, weight_decay=0.0 if name == "adam" else 0.25)
    model, _ = compiled_training(small_net(), samples(), TURNS, settings, STRONG)
    assert type(model.optimizer).__name__.lower() == name.removesuffix("w")
    assert model.optimizer.weight_decay == (settings.weight_decay or None)


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    first, _ = train(tmp_path / "a")
    second, _ = train(tmp_path / "b", dataclasses.replace(FAST, seed=1))
    assert not equal(first, second)


def test_frames_on_the_device_or_from_the_host_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sepilot_train.fit.fit._has_accelerator", lambda: True)
    device, _ = train(tmp_path / "device")
    host, _ = train(tmp_path / "host", dataclasses.replace(FAST, device_limit_mb=0))
    assert equal(device, host)


def test_it_learns_under_augmentation(tmp_path: Path) -> None:
    settings = dataclasses.replace(FAST, epochs=20, keep="best")
    _, history = train(tmp_path, settings, Augmentation(mirror=0.5, brightness=0.05))
    assert history.rows[history.kept_epoch - 1]["val_loss"] < 0.1 * float(np.var(samples().labels["steering"]))


def test_labels_move_as_their_pictures_do() -> None:
    """What a net that answers rightly is asked for is the right answer to the augmented picture."""
    from sepilot_train.fit.augment import apply
    from sepilot_train.fit.data import Batches

    data = samples(64)
    data = dataclasses.replace(data, labels={**data.labels, "brake": np.abs(data.labels["steering"])})
    targets = {**TURNS, "brake": ScalarTarget(low=0.0)}
    # A column is 2/11 of the label's unit wide, of 12 columns in all.
    moving = Augmentation(mirror=0.5, shift_x=0.1, shift_x_label=12 * 2 / 11)
    batches = Batches(
        data.pictures, data.labels, shape=(8, 12, 1), targets=targets, augmentation=moving, batch_size=64, seed=0,
        straight=np.zeros(64, bool), straight_keep=1.0,
    )  # fmt: skip
    inputs, labels = batches[0]
    changed = np.asarray(apply(inputs["pictures"], inputs["uniforms"], moving))
    bright = np.maximum(changed.mean(axis=(1, 3)) - 0.3, 0)
    place = (bright * np.arange(12)).sum(axis=1) / np.maximum(bright.sum(axis=1), 1e-6)
    inside = (place > 1.5) & (place < 9.5)
    np.testing.assert_allclose(labels["steering"][inside, 0], (place[inside] - 5.5) / 5.5, atol=0.06)
    # No side, no change.
    brakes = {round(float(value), 4) for value in data.labels["brake"]}
    assert {round(float(value), 4) for value in labels["brake"][:, 0]} <= brakes


def test_each_output_has_its_loss_and_its_weight(tmp_path: Path) -> None:
    import keras

    data = samples()
    brake = np.full(len(data), 0.5, np.float32)
    data = dataclasses.replace(data, labels={**data.labels, "brake": brake})
    net = small_net()
    heads = [net.output, keras.layers.Dense(1, name="brake")(net.layers[-2].output)]
    net = keras.Model(net.input, heads)
    targets = {**TURNS, "brake": ScalarTarget(low=0.0, loss="mae", weight=0.25)}
    settings = dataclasses.replace(FAST, epochs=16)
    history = fit(net, data, data, targets, settings, Augmentation(mirror=0.5), tmp_path)
    said, row = predict(net, data.pictures), history.rows[-1]
    losses = {
        "steering": float(np.mean((said["steering"] - data.labels["steering"]) ** 2)),
        "brake": float(np.mean(np.abs(said["brake"] - brake))),
    }
    for name, loss in losses.items():
        assert row[f"val_loss:{name}"] == pytest.approx(loss, rel=1e-4)
    assert row["val_loss"] == pytest.approx(losses["steering"] + 0.25 * losses["brake"], rel=1e-4)
    assert row["loss"] == pytest.approx(row["loss:steering"] + 0.25 * row["loss:brake"], rel=1e-4)
    assert losses["steering"] < 0.2 * float(np.var(data.labels["steering"])) and losses["brake"] < 0.2


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    """The learning rate is far too high later on, so the last epoch is not the best."""
    settings = dataclasses.replace(FAST, epochs=6, schedule="constant", learning_rate=0.05, keep="best")
    net = small_net()
    validation = samples(40, seed=1)
    history = fit(net, samples(), validation, TURNS, settings, STRONG, tmp_path)
    losses = [row["val_loss"] for row in history.rows]
    assert history.kept_epoch == 1 + int(np.argmin(losses))
    again = float(np.mean((predict(net, validation.pictures)["steering"] - validation.labels["steering"]) ** 2))
    assert again == pytest.approx(min(losses), rel=1e-4)


def test_early_stopping_stops_and_stays_stopped(tmp_path: Path) -> None:
    settings = dataclasses.replace(FAST, epochs=50, early_stopping_patience=2, keep="best")
    first, history = train(tmp_path, settings)
    assert history.stopped_early
    assert len(history.rows) == history.kept_epoch + 2
    again, resumed = train(tmp_path, settings, resume=True)
    assert equal(first, again)
    assert resumed == history


def test_plateau_lowers_the_rate(tmp_path: Path) -> None:
    settings = dataclasses.replace(FAST, epochs=12, schedule="plateau", plateau_patience=1, plateau_factor=0.5)
    _, history = train(tmp_path, settings)
    rates = [row["learning_rate"] for row in history.rows]
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] < rates[0]
    assert {round(np.log2(rates[0] / rate), 3) for rate in rates} <= set(range(12))


def test_history_file(tmp_path: Path) -> None:
    _, history = train(tmp_path)
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert float(rows[-1]["val_loss"]) == history.rows[-1]["val_loss"]


def test_straight_frames_are_thinned_and_change_each_epoch() -> None:
    from sepilot_train.fit.data import Batches

    labels = np.where(np.arange(100) < 80, 0.0, 0.5).astype(np.float32)
    data = Batches(
        None, {"steering": labels}, shape=(8, 12, 1), targets=TURNS, augmentation=Augmentation(), batch_size=8,
        seed=0, straight=labels == 0, straight_keep=0.25,
    )  # fmt: skip
    seen = []
    for data.epoch in (0, 1, 0):
        index = np.concatenate([data[step][0]["index"] for step in range(len(data))])
        assert len(index) == len(set(index)) == 40
        assert (labels[index] == 0).sum() == 20
        seen.append(set(index.tolist()))
    assert seen[0] == seen[2] != seen[1]


def test_predict_scales_as_the_runtime_does_and_takes_any_count() -> None:
    net = small_net()
    data = samples(5000)
    expected = np.asarray(net(data.pictures[4990:] * np.float32(1 / 255)))[:, 0]
    answers = predict(net, data.pictures)["steering"]
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers[4990:], expected, atol=1e-6)
    assert predict(net, data.pictures[:0])["steering"].shape == (0,)


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="learning_rate: expected a value"):
        TrainingSettings(learning_rate=-1)
    with pytest.raises(RecipeError, match="adamw"):
        TrainingSettings(optimizer="adam", weight_decay=0.1)
    with pytest.raises(RunError, match="no checkpoint"):
        train(tmp_path / "none", resume=True)
    train(tmp_path / "run")
    with pytest.raises(RunError, match=r"settings was epochs = 4 and is now epochs = 5"):
        train(tmp_path / "run", dataclasses.replace(FAST, epochs=5), resume=True)
    with pytest.raises(RunError, match="noise"):
        train(tmp_path / "run", augmentation=dataclasses.replace(STRONG, noise=0.03), resume=True)
    (tmp_path / "run" / "checkpoint" / "state.npz").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(RunError, match="not a checkpoint"):
        train(tmp_path / "run", resume=True)


def test_divergence_is_told(tmp_path: Path) -> None:
    wild = dataclasses.replace(FAST, optimizer="sgd", schedule="constant", learning_rate=900.0)
    with pytest.raises(RunError, match="diverged in epoch"):
        train(tmp_path, wild)


@pytest.mark.slow
def test_trains_and_resumes_on_jax_without_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    code = f"""
import sys
for name in ("tensorflow", "tf_keras"):
    sys.modules[name] = None
sys.path[:0] = {[*sys.path, str(Path(__file__).parent)]!r}
import dataclasses
from pathlib import Path
import test_fit as t
settings = dataclasses.replace(t.FAST, ema=0.9)
whole, _ = t.train(Path({str(tmp_path)!r}) / "whole", settings, t.LATER)
try:
    t.train(Path({str(tmp_path)!r}) / "cut", settings, t.LATER, on_epoch=t.kill_after(2))
except t.Killed:
    pass
resumed, history = t.train(Path({str(tmp_path)!r}) / "cut", settings, t.LATER, resume=True)
assert t.equal(whole, resumed)
import keras
print(keras.backend.backend(), len(history.rows))
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-2:] == ["jax", "4"]


def test_answers_take_the_place_of_labels_and_views_come_again() -> None:
    from sepilot_train.fit.data import Batches, Epoch

    asked: list[int] = []

    def told(epoch: Epoch) -> dict[str, NDArray[np.float32]]:
        asked.append(int(epoch.index[0, 0]))
        return {"steering": epoch.index[..., None].astype(np.float32) / 10}

    labels = np.full(40, -1.0, np.float32)
    data = Batches(
        None,
        {"steering": labels},
        shape=(8, 12, 1),
        targets=TURNS,
        augmentation=Augmentation(mirror=1.0),
        batch_size=8,
        seed=3,
        straight=np.zeros(40, bool),
        straight_keep=1.0,
        told=told,
        views=2,
    )
    seen = []
    for number in range(5):
        data.epoch = number
        inputs, targets = data[1]
        assert targets["steering"][:, 0] == pytest.approx(inputs["index"] / 10)
        seen.append((inputs["index"].tolist(), inputs["uniforms"].sum()))
    assert seen[0] == seen[2] == seen[4] and seen[1] == seen[3] and seen[0] != seen[1]
    assert len(asked) == 2, "each view is asked about once"


def test_a_student_fits_what_it_is_told_instead_of_the_labels(tmp_path: Path) -> None:
    """The labels are noise; the answers are right, also for mirrored pictures."""
    from sepilot_train.fit.data import Epoch, asked

    told = samples()
    noise = np.random.default_rng(1).uniform(-1, 1, len(told)).astype(np.float32)
    net = small_net()
    settings = dataclasses.replace(FAST, epochs=24)
    mirrored = Augmentation(mirror=0.5)

    def answers(epoch: Epoch) -> dict[str, NDArray[np.float32]]:
        steps = zip(epoch.index, epoch.uniforms, strict=True)
        shape = told.pictures.shape[1:]
        right = [asked(told.labels, index, uniforms, TURNS, mirrored, shape)["steering"] for index, uniforms in steps]
        return {"steering": np.stack(right)}

    noisy = dataclasses.replace(told, labels={"steering": noise})
    fit(
        net, noisy, told, TURNS, settings, mirrored, tmp_path, views=3,
        told=answers,
    )  # fmt: skip
    error = np.abs(predict(net, told.pictures)["steering"] - told.labels["steering"]).mean()
    assert error < 0.35 * np.abs(told.labels["steering"]).mean()
