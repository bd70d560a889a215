"""Fitting a net to pictures and labels: backend-neutral Keras 3, resumable, the same run from the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.errors import RecipeError
from sepilot_train.augment import Augmentation
from sepilot_train.drives import Pictures
from sepilot_train.limits import require_in

if TYPE_CHECKING:
    from sepilot_train.batches import Answers

__all__ = ["History", "OnEpoch", "Samples", "TrainingSettings", "compiled_training", "feed", "fit", "predict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How to fit.

    Attributes:
        epochs: passes over the training frames, at most.
        min_epoch_frames: an epoch of a small data set goes over it as often as it takes to see so many frames, so that
            a few minutes of driving are trained on for as many steps as a long drive.
        batch_size: frames per step.
        optimizer: `sgd` has Nesterov momentum 0.9.
        learning_rate: the highest that the schedule reaches.
        weight_decay: decoupled from the gradient, on kernels only; `adam` takes none, that is `adamw`.
        schedule: `constant`; `cosine` to 1/1000 over all epochs; `plateau`: times `plateau_factor` after
            `plateau_patience` epochs without a better validation loss.
        warmup_epochs: linear rise at the start of the cosine.
        early_stopping_patience: stop after so many epochs without a better validation loss; 0 never stops.
        ema: momentum per step of an exponential moving average of the weights, which is then what is validated and
            kept; 0 keeps the weights themselves.
        loss: on the labels, which are in [-1, 1].
        huber_delta: where `huber` goes from square to line.
        keep: the weights of the `best` epoch by validation loss, or of the `last` one. With `last` the validation
            frames have no influence on the result (unless it stops early or lowers the rate by them).
        seed: of order and augmentation. Weights and dropout take theirs when the net is built.
        straight_keep: the part of the nearly straight frames that an epoch uses, other ones each epoch; 1 uses all.
            Less makes turns count more, and biases the net away from straight ahead.
        straight_band: labels of at most this size are nearly straight.
        device_limit_mb: frames up to this size are held on the GPU or TPU, where there is one; larger data is fed from
            the host.
    """

    epochs: int = 30
    min_epoch_frames: int = 0
    batch_size: int = 128
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 0.002
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    warmup_epochs: float = 1.0
    plateau_factor: float = 0.5
    plateau_patience: int = 5
    early_stopping_patience: int = 0
    ema: float = 0.0
    loss: Literal["mse", "mae", "huber"] = "mse"
    huber_delta: float = 0.2
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    straight_keep: float = 1.0
    straight_band: float = 0.02
    device_limit_mb: int = 2048

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            require_in(name, getattr(self, name), low, high)
        if self.optimizer == "adam" and self.weight_decay:
            raise RecipeError("weight_decay: adam takes none; set optimizer to adamw")


_RANGES = (
    ("epochs", 1, 1e6),
    ("batch_size", 1, 1e6),
    ("learning_rate", 1e-9, 1e3),
    ("weight_decay", 0, 1),
    ("warmup_epochs", 0, 1e6),
    ("plateau_factor", 0.01, 1),
    ("plateau_patience", 1, 1e6),
    ("early_stopping_patience", 0, 1e6),
    ("ema", 0, 0.99999),
    ("huber_delta", 1e-6, 1e6),
    ("straight_keep", 0, 1),
    ("straight_band", 0, 1),
    ("device_limit_mb", 0, 1e9),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Pictures uint8 (n, height, width, channels), as the contract makes them, may lie in files; labels (n,)."""

    pictures: Pictures
    labels: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened: one row per epoch (`epoch` from 1, `loss`, `val_loss`, `val_mae`, `learning_rate`, `seconds`)."""

    rows: tuple[dict[str, float], ...]
    kept_epoch: int
    stopped_early: bool


class OnEpoch(Protocol):
    """Called with the row of each epoch, after its checkpoint is on disk."""

    def __call__(self, row: dict[str, float], /) -> None: ...


def fit(
    net: Any,
    train: Samples,
    validation: Samples,
    settings: TrainingSettings,
    augmentation: Augmentation,
    workdir: Path,
    *,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    show_progress: bool = False,
    answers: Answers | None = None,
    views: int = 0,
) -> History:
    """Fit `net` in place and leave the kept weights in it.

    Writes `history.csv`, `tensorboard/` (where the tensorboard package is installed) and `checkpoint/state.npz` into
    `workdir`, after each epoch. With `resume` it goes on from that checkpoint, and ends with the same weights as an
    uninterrupted run with the same settings on the same machine. `answers` and `views` are those of `batches.Batches`.

    Raises:
        RecipeError: the settings leave no frame to train on.
        RunError: `resume` without a checkpoint, or with one of other settings or data.
    """
    import keras

    from sepilot_train.epochs import EpochKeeper, ProgressBar

    model, data = compiled_training(net, train, settings, augmentation, answers=answers, views=views)
    keeper = EpochKeeper(
        model=model, net=net, data=data, validation=validation, settings=settings, augmentation=augmentation,
        workdir=workdir, on_epoch=on_epoch,
    )  # fmt: skip
    start = keeper.restore() if resume else 0
    if start < settings.epochs and not keeper.stopped_early:
        callbacks: list[keras.callbacks.Callback] = [keeper]
        if show_progress:
            callbacks.append(ProgressBar(keeper, steps=len(data)))
        epochs = {"initial_epoch": start, "epochs": settings.epochs}
        model.fit(feed(data), **epochs, callbacks=callbacks, verbose=0, shuffle=False)
    return keeper.finish()


def predict(net: Any, pictures: Pictures, batch: int = 256) -> NDArray[np.float32]:
    """The net's output, float32 (n,), for uint8 pictures, fed as the runtime feeds them: float32 times 1/255."""
    net.jit_compile = _jit()
    # Keras's own `predict` makes a pipeline for each call, whose end is waited for as that of an epoch is.
    parts = [
        np.asarray(net.predict_on_batch(pictures[start : start + batch] * np.float32(1 / 255)))
        for start in range(0, len(pictures), batch)
    ]
    return np.concatenate([np.zeros((0, 1), np.float32), *parts])[:, 0]


def compiled_training(
    net: Any,
    train: Samples,
    settings: TrainingSettings,
    augmentation: Augmentation,
    *,
    answers: Answers | None = None,
    views: int = 0,
) -> tuple[Any, Any]:
    """The compiled model around `net` and the data that its `fit` takes."""
    from sepilot_train.batches import Batches, training_model

    on_device = _has_accelerator() and train.pictures.nbytes <= settings.device_limit_mb * 2**20
    straight = np.abs(train.labels) <= settings.straight_band if settings.straight_keep < 1 else None
    data = Batches(
        None if on_device else train.pictures,
        train.labels,
        batch_size=settings.batch_size,
        seed=settings.seed,
        straight=np.zeros(len(train.labels), bool) if straight is None else straight,
        straight_keep=settings.straight_keep,
        min_frames=settings.min_epoch_frames,
        answers=answers,
        views=views,
    )
    if len(data) == 0:
        raise RecipeError(
            f"training.straight_keep: {settings.straight_keep} leaves none of {len(train.labels)} frames to train on"
        )
    model = training_model(
        net, augmentation, np.asarray(train.pictures) if on_device else None, train.pictures.shape[1:]
    )
    optimizer = _optimizer(settings, steps_per_epoch=len(data))
    model.compile(optimizer=optimizer, loss=_loss(settings), jit_compile=_jit())
    optimizer.build(model.trainable_variables)
    return model, data


def feed(data: Any) -> Any:
    """The data of `compiled_training` as this back end's `fit` goes through it the fastest."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return data
    from sepilot_train.on_tensorflow import dataset

    return dataset(data)


def _has_accelerator() -> bool:
    """Is there a device with a memory of its own? On the CPU the frames are as near in their files."""
    import keras

    return any(not device.startswith("cpu") for device in keras.distribution.list_devices())


def _jit() -> bool:
    """Compile by XLA? Not TensorFlow's: its XLA makes depthwise convolutions many times slower on a CPU."""
    import keras

    return bool(keras.backend.backend() != "tensorflow")


def _loss(settings: TrainingSettings) -> Any:
    import keras

    if settings.loss == "huber":
        return keras.losses.Huber(delta=settings.huber_delta)
    return keras.losses.MeanSquaredError() if settings.loss == "mse" else keras.losses.MeanAbsoluteError()


def _optimizer(settings: TrainingSettings, *, steps_per_epoch: int) -> Any:
    import keras

    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        warmup = min(round(settings.warmup_epochs * steps_per_epoch), settings.epochs * steps_per_epoch - 1)
        rate = keras.optimizers.schedules.CosineDecay(
            rate / 100 if warmup else rate,
            decay_steps=settings.epochs * steps_per_epoch - warmup,
            alpha=1e-3,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    options: dict[str, Any] = {"weight_decay": settings.weight_decay or None}
    if settings.ema:
        options |= {"use_ema": True, "ema_momentum": settings.ema}
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **options)
    else:
        # Keras's Adam with weight decay is AdamW.
        optimizer = keras.optimizers.Adam(rate, **options)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer
