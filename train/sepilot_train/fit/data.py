"""What the compiled training step eats: batches by epoch, frames on the device, augmentation inside the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sepilot_train.base.stored import Pictures
from sepilot_train.fit import augment
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.numbers import Numbers, Vectors, given
from sepilot_train.fit.outputs.protocol import Comparing, Target
from sepilot_train.fit.predict import by_name, inputs_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Epoch:
    """The order and the random numbers of one epoch."""

    index: NDArray[np.int32]  # (steps, batch)
    uniforms: NDArray[np.float32]  # (steps, batch, augment.uniform_count)
    chances: NDArray[np.float32]  # (steps, batch, vectors)


Labels = Mapping[str, NDArray[np.float32]]

BESIDE = "beside_"
"""Before the names of vectors among the inputs of a training."""

Told = Callable[[Epoch], Labels]
"""What is to be said to the augmented pictures of an epoch in place of their labels: by tensor, as `Target.wanted` has
it, (steps, batch, ...).
"""


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of one epoch after the other, each a function of (seed, epoch) alone.

    Whoever fits sets `epoch` before each epoch; so training may start at any epoch and see what it would have seen.
    The incomplete last batch is left out: the order differs in each epoch, and one shape compiles once.

    Args:
        pictures: uint8 (n, height, width, channels), or None where the frames are on the device already.
        labels: by output, float32 (n, ...).
        shape: of a picture: height, width, channels.
        targets: what is learned, by output.
        augmentation: of the pictures, which moves their labels.
        straight: bool (n,), the frames of which only the part `straight_keep` is used, other ones each epoch.
        min_frames: of an epoch; a smaller data set is gone through as often as that takes, in a new order each time.
        told: takes the place of the labels.
        vectors: what goes beside the pictures, (n, size) by input, with what `numbers` says of each.
        views: so many epochs differ in order and augmentation, then they begin again; 0 repeats none. With `told`
            answers that cost much to get, which are kept.
    """

    def __init__(
        self,
        pictures: Pictures | None,
        labels: Labels,
        *,
        shape: tuple[int, ...],
        targets: Mapping[str, Target],
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        straight: NDArray[np.bool_],
        straight_keep: float,
        min_frames: int = 0,
        told: Told | None = None,
        views: int = 0,
        vectors: Vectors | None = None,
        numbers: Mapping[str, Numbers] | None = None,
    ) -> None:
        super().__init__()
        self._vectors, self._numbers = vectors or {}, numbers or {}
        self._pictures = pictures
        self._labels = {name: labels[name] for name in targets}
        self._shape = shape
        self._targets = targets
        self._augmentation = augmentation
        self._seed = seed
        self._turning = np.flatnonzero(~straight)
        self._straight = np.flatnonzero(straight)
        self._straight_kept = round(straight_keep * len(self._straight))
        used = len(self._turning) + self._straight_kept
        self._passes = max(1, -(-min_frames // max(used, 1)))
        self._batch_size = min(batch_size, used * self._passes)
        self._steps = used * self._passes // max(self._batch_size, 1)
        self._plan = lru_cache(maxsize=1)(self._draw)
        self._views = views
        self._told = lru_cache(maxsize=views or 1)(lambda epoch: told(self._plan(epoch))) if told else None
        self.epoch = 0

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.float32]]]:
        number = self.epoch % self._views if self._views else self.epoch
        epoch = self._plan(number)
        index, uniforms = epoch.index[step], epoch.uniforms[step]
        if self._told is None:
            wanted = asked(self._labels, index, uniforms, self._targets, self._augmentation, self._shape)
        else:
            wanted = {name: values[step] for name, values in self._told(number).items()}
        frames = {"index": index} if self._pictures is None else {"pictures": self._pictures[index]}
        return {**frames, **self._beside(index, uniforms, epoch.chances[step]), "uniforms": uniforms}, wanted

    def _beside(
        self, index: NDArray[np.int32], uniforms: NDArray[np.float32], chances: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        if not self._vectors:
            return {}
        here = {name: values[index] for name, values in self._vectors.items()}
        mirrored = augment.motion_of(uniforms, self._augmentation, self._shape).sign < 0
        found = given(self._numbers, here, mirrored, chances)
        if self._augmentation.mixup:
            shares = augment.shares_of(uniforms, self._augmentation)
            found = {name: _mixed(values, shares) for name, values in found.items()}
        return {BESIDE + name: values for name, values in found.items()}

    def _draw(self, epoch: int) -> Epoch:
        random = np.random.default_rng([self._seed, epoch])
        shape = (self._steps, self._batch_size)
        passes = []
        for _ in range(self._passes):
            straight = random.choice(self._straight, self._straight_kept, replace=False)
            passes.append(self._order(np.concatenate([self._turning, straight]), random))
        order = np.concatenate(passes)[: self._steps * self._batch_size]
        return Epoch(
            index=order.astype(np.int32).reshape(shape),
            uniforms=augment.draw_uniforms(random, shape, self._augmentation),
            chances=random.random((*shape, len(self._vectors)), np.float32),
        )

    def _order(self, places: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """By chance, or as the first target arranges them whose answers are compared within a batch."""
        for name, target in self._targets.items():
            if isinstance(target, Comparing):
                return places[target.arranged(self._labels[name][places], random)]
        return random.permutation(places)


def asked(
    labels: Labels,
    index: NDArray[np.int32],
    uniforms: NDArray[np.float32],
    targets: Mapping[str, Target],
    augmentation: Augmentation,
    shape: tuple[int, ...],
) -> dict[str, NDArray[np.float32]]:
    """By tensor, what is to be said to the pictures at `index` (batch,), of that shape, augmented by uniforms."""
    motion, found = augment.motion_of(uniforms, augmentation, shape), dict[str, NDArray[np.float32]]()
    for name, target in targets.items():
        found |= target.wanted(name, target.moved(labels[name][index], motion))
    if augmentation.mixup:
        found = {name: _mixed(values, augment.shares_of(uniforms, augmentation)) for name, values in found.items()}
    return found


def _mixed(wanted: NDArray[np.float32], shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """As the pictures are, with those of the batch in reverse order."""
    share = shares.reshape(-1, *(1,) * (wanted.ndim - 1))
    return (1 - share) * wanted + share * wanted[::-1]


class AugmentedPictures(keras.layers.Layer):  # type: ignore[misc]
    """uint8 frames and uniforms in, augmented float32 pictures out.

    With `frames` given they become one uint8 variable on the device, and the batch names them by index.
    """

    def __init__(self, augmentation: Augmentation, frames: NDArray[np.uint8] | None) -> None:
        super().__init__(name="augmented_pictures", trainable=False)
        self._apply = _applied(augmentation)
        self._frames = None
        if frames is not None:
            self._frames = self.add_weight(
                shape=frames.shape,
                dtype="uint8",
                initializer=lambda shape, dtype: keras.ops.convert_to_tensor(frames, dtype=dtype),
                trainable=False,
                name="frames",
            )

    def call(self, inputs: Mapping[str, Any]) -> Any:
        on_device = self._frames is not None
        pictures = keras.ops.take(self._frames, inputs["index"], axis=0) if on_device else inputs["pictures"]
        return self._apply(pictures, inputs["uniforms"])


def _applied(augmentation: Augmentation) -> Callable[[Any, Any], Any]:
    def apply(pictures: Any, uniforms: Any) -> Any:
        return augment.apply(pictures, uniforms, augmentation)

    if keras.backend.backend() == "tensorflow" and augment.gathers(augmentation):
        from sepilot_train.fit.on_tensorflow import by_xla

        return by_xla(apply)
    return apply


def training_model(
    net: Any,
    augmentation: Augmentation,
    frames: NDArray[np.uint8] | None,
    picture_shape: tuple[int, ...],
    vectors: Mapping[str, int] | None = None,
) -> Any:
    """A model around `net` that gathers, augments and answers, by the outputs' names. `vectors`: sizes by input."""
    inputs = {"uniforms": keras.Input((augment.uniform_count(augmentation),), name="uniforms")}
    if frames is None:
        inputs["pictures"] = keras.Input(picture_shape, dtype="uint8", name="pictures")
    else:
        inputs["index"] = keras.Input((), dtype="int32", name="index")
    pictures, names = AugmentedPictures(augmentation, frames)(inputs), net.output_names
    beside = {name: keras.Input((size,), name=BESIDE + name) for name, size in (vectors or {}).items()}
    fed = inputs_of(net, pictures, beside)
    inputs |= {BESIDE + name: tensor for name, tensor in beside.items()}
    if keras.backend.backend() == "tensorflow":
        from sepilot_train.fit.on_tensorflow import FusedNorms

        net = FusedNorms(net)
    return keras.Model(inputs, by_name(names, net(fed)), name="training")
