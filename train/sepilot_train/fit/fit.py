"""Fitting a net to pictures and labels: backend-neutral Keras 3, resumable, the same run from the same seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.numbers import Numbers
from sepilot_train.fit.outputs.protocol import Target, losses_of
from sepilot_train.fit.predict import compiles
from sepilot_train.fit.settings import History, OnEpoch, TrainingSettings

if TYPE_CHECKING:
    from sepilot_train.fit.data import Told

__all__ = ["compiled_training", "feed", "fit"]


def fit(
    net: Any,
    train: FrameSet,
    validation: FrameSet,
    targets: Mapping[str, Target],
    settings: TrainingSettings,
    augmentation: Augmentation,
    workdir: Path,
    *,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    show_progress: bool = False,
    told: Told | None = None,
    views: int = 0,
    numbers: Mapping[str, Numbers] | None = None,
) -> History:
    """Fit `net` in place to `targets`, by output, and leave the kept weights in it.

    Writes `history.csv`, `tensorboard/` (where the tensorboard package is installed) and `checkpoint/state.npz` into
    `workdir`, after each epoch. With `resume` it goes on from that checkpoint, and ends with the same weights as an
    uninterrupted run with the same settings on the same machine. `told` and `views` are those of
    `data.Batches`; `numbers`, what it is given beside the pictures, by input.

    Raises:
        RecipeError: the settings leave no frame to train on.
        RunError: `resume` without a checkpoint, or with one of other settings or data.
    """
    from sepilot_train.fit.callbacks import EpochKeeper, ProgressBar

    beside: Any = {"told": told, "views": views, "numbers": numbers}
    model, data = compiled_training(net, train, targets, settings, augmentation, **beside)
    keeper = EpochKeeper(
        model=model, net=net, data=data, train=train, validation=validation, targets=targets, settings=settings,
        augmentation=augmentation, workdir=workdir, on_epoch=on_epoch,
    )  # fmt: skip
    epochs = {"initial_epoch": keeper.restore() if resume else 0, "epochs": settings.epochs}
    if epochs["initial_epoch"] < settings.epochs and not keeper.stopped_early:
        callbacks = [keeper, *([ProgressBar(keeper, steps=len(data))] if show_progress else [])]
        model.fit(feed(data), **epochs, callbacks=callbacks, verbose=0, shuffle=False)
    return keeper.finish()


def compiled_training(
    net: Any,
    train: FrameSet,
    targets: Mapping[str, Target],
    settings: TrainingSettings,
    augmentation: Augmentation,
    *,
    told: Told | None = None,
    views: int = 0,
    numbers: Mapping[str, Numbers] | None = None,
) -> tuple[Any, Any]:
    """The compiled model around `net` and the data that its `fit` takes."""
    from sepilot_train.fit.data import Batches, training_model

    shape = train.pictures.shape[1:]
    on_device = _has_accelerator() and train.pictures.nbytes <= settings.device_limit_mb * 2**20
    data = Batches(
        None if on_device else train.pictures, train.labels, shape=shape, targets=targets, augmentation=augmentation,
        batch_size=settings.batch_size, seed=settings.seed, straight=_straight(train, targets, settings),
        straight_keep=settings.straight_keep, min_frames=settings.min_epoch_frames, told=told, views=views,
        vectors=train.vectors, numbers=numbers,
    )  # fmt: skip
    if len(data) == 0:
        raise RecipeError(
            f"training.straight_keep: {settings.straight_keep} leaves none of {len(train)} frames to train on"
        )
    model = training_model(net, augmentation, np.asarray(train.pictures) if on_device else None, shape,
                           {name: values.shape[1] for name, values in train.vectors.items()})  # fmt: skip
    losses, weights = losses_of(targets, settings)
    optimizer = _optimizer(settings, steps_per_epoch=len(data))
    model.compile(optimizer=optimizer, loss=losses, loss_weights=weights, jit_compile=compiles())
    optimizer.build(model.trainable_variables)
    return model, data


def feed(data: Any) -> Any:
    """The data of `compiled_training` as this back end's `fit` goes through it the fastest."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return data
    from sepilot_train.fit.on_tensorflow import dataset

    return dataset(data)


def _has_accelerator() -> bool:
    """Is there a device with a memory of its own? On the CPU the frames are as near in their files."""
    import keras

    return any(not device.startswith("cpu") for device in keras.distribution.list_devices())


def _straight(train: FrameSet, targets: Mapping[str, Target], settings: TrainingSettings) -> NDArray[np.bool_]:
    """The frames (n,) on which every output that turns is nearly straight; none where all frames are used anyway."""
    turning = [train.labels[name] for name, target in targets.items() if target.sideways]
    if settings.straight_keep < 1 and not turning:
        raise RecipeError('training.straight_keep: an output with mirror = "negate" expected, found none')
    if settings.straight_keep == 1:
        return np.zeros(len(train), bool)
    return np.asarray(np.max(np.abs(turning), axis=0) <= settings.straight_band)


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
        kinds = {"nadam": keras.optimizers.Nadam, "rmsprop": keras.optimizers.RMSprop}
        optimizer = kinds.get(settings.optimizer, keras.optimizers.Adam)(rate, **options)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer
