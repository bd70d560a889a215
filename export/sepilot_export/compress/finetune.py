"""Training of a tf_keras net as `sepilot train` trains a Keras 3 one: the same order, augmentation and loss.

Imported by the worker alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sepilot_export.compress.recipe import Finetune
from sepilot_export.compress.step import SQUARED
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Output
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit import augment
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.data import Batches
from sepilot_train.fit.outputs.protocol import Target, losses_of
from sepilot_train.fit.predict import by_name

__all__ = ["Course", "finetune"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Course:
    """What is trained on.

    Attributes:
        targets: what the outputs learn, by name.
        begin: told the name and the number of steps of a training.
        advance: told how many steps were done.
    """

    train: FrameSet
    targets: Mapping[str, Target]
    augmentation: Augmentation
    seed: int
    begin: Callable[[str, int], None]
    advance: Callable[[int], None]

    def outputs(self) -> list[Output]:
        """What is learned; their scale is not known here."""
        return [self.targets[name].output(name, 1.0) for name in sorted(self.targets)]

    def batches(self, settings: Finetune) -> Batches:
        """The batches of one epoch after the other."""
        return Batches(
            self.train.pictures,
            self.train.labels,
            shape=self.train.pictures.shape[1:],
            targets=self.targets,
            augmentation=self.augmentation,
            batch_size=settings.batch_size,
            seed=self.seed,
            straight=np.zeros(len(self.train), bool),
            straight_keep=1.0,
            min_frames=settings.min_epoch_frames,
        )


def finetune(
    net: Any,
    settings: Finetune,
    course: Course,
    label: str,
    *,
    teacher: Any = None,
    after_epoch: Callable[[], None] = lambda: None,
) -> None:
    """Fit a tf_keras `net` in place; the weights of the last step stay.

    Args:
        teacher: a net whose answers are learned instead of the labels.

    Raises:
        RunError: the loss is no longer finite.
    """
    batches = course.batches(settings)
    course.begin(label, settings.epochs * len(batches))
    if settings.epochs == 0:
        return
    train = _step(net, _optimizer(settings, len(batches)), course, teacher)
    for epoch in range(settings.epochs):
        batches.epoch = epoch
        losses = []
        for number in range(len(batches)):
            inputs, labels = batches[number]
            losses.append(train(inputs["pictures"], inputs["uniforms"], labels))
            course.advance(1)
        after_epoch()
        mean = float(np.mean([loss.numpy() for loss in losses]))
        print(f"{label}: epoch {epoch + 1} of {settings.epochs}, loss {mean:.5f}", flush=True)
        if not np.isfinite(mean):
            raise RunError(f"{label}: diverged in epoch {epoch + 1}, the loss is {mean}; lower finetune.learning_rate")


def _step(net: Any, optimizer: Any, course: Course, teacher: Any) -> Any:
    import tensorflow as tf

    variables = net.trainable_variables
    optimizer.build(variables)
    losses, weights = losses_of(course.targets, SQUARED)
    # The order in which tf_keras nets have their outputs.
    names = sorted(losses)
    if teacher is not None:
        losses = dict.fromkeys(names, lambda wanted, said: tf.reduce_mean(tf.square(said - wanted)))

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def train(pictures: Any, uniforms: Any, labels: Any) -> Any:
        changed = augment.apply(pictures, uniforms, course.augmentation)
        wanted = labels if teacher is None else by_name(names, teacher(changed, training=False))
        with tf.GradientTape() as tape:
            said = by_name(names, net(changed, training=True))
            parts = [weights[n] * losses[n](wanted[n], said[n]) for n in names]
            # Penalties that layers bring along.
            loss = tf.add_n([*parts, *net.losses])
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients((g, v) for g, v in zip(gradients, variables, strict=True) if g is not None)
        return loss

    return train


def _optimizer(settings: Finetune, steps_per_epoch: int) -> Any:
    import tf_keras

    steps = settings.epochs * steps_per_epoch
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), steps - 1)
    rate = tf_keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 100 if warmup else settings.learning_rate,
        decay_steps=steps - warmup,
        alpha=1e-3,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, jit_compile=False)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer
