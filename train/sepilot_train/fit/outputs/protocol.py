"""What training asks of every kind of output; it knows no kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.protocol import Array, Output
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.plots import Plot
from sepilot_train.base.stored import Pictures
from sepilot_train.fit.settings import TrainingSettings

__all__ = ["COLLAPSED", "Comparing", "Labels", "Metrics", "Motion", "Target", "Told", "losses_of"]

COLLAPSED = 0.1
"""`Comparing.spread` below which answers say nothing any more: all lie within 6 degrees."""

Labels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Motion:
    """How augmentation moved pictures, of any shape (...,), and so what is to be said to them.

    Attributes:
        sign: -1 where the picture was mirrored, 1 elsewhere, float32.
        turned: how far the car seems turned to the left by the shift of the picture, in label units, float32.
        vertical: was it flipped top and bottom? bool.
        matrix: float32 (..., 2, 3): (x, y, 1) of the picture as it was to (x, y) of what it became, both in fractions
            of its width and height from its left upper corner.
    """

    sign: NDArray[np.float32]
    turned: NDArray[np.float32]
    vertical: NDArray[np.bool_]
    matrix: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A figure for people; `plain`: the mean error, or the constant's, which may be told with an interval instead."""

    name: str
    value: str
    remark: str
    plain: bool = False


class Metrics(Protocol):
    """How good answers are, in label units, beside always answering the same. A frozen dataclass."""

    kind: ClassVar[Any]

    @property
    def count(self) -> int:
        """Of frames."""

    @property
    def mae(self) -> float:
        """Mean error."""

    @property
    def constant(self) -> Any:
        """`OutputTask.constant` of the training labels."""

    @property
    def constant_mae(self) -> float:
        """The mean error of that."""

    @property
    def r2(self) -> float | None: ...

    @property
    def constant_r2(self) -> float | None: ...

    @property
    def figures(self) -> Mapping[str, float]:
        """What the contract says of them."""

    def told(self, output: Output) -> Sequence[Told]:
        """Them for people, the constant's among them."""


class Target(Protocol):
    """An output as a recipe asks for it. A frozen dataclass."""

    kind: ClassVar[Any]

    @property
    def label(self) -> str:
        """The recordings' column that it learns; "" for the one of its own name."""

    @property
    def weight(self) -> float:
        """Of its loss in the sum of all."""

    @property
    def sideways(self) -> bool:
        """A mirrored picture asks for the opposite; straight ahead is 0."""

    @property
    def mirrors(self) -> bool:
        """Does it know what is asked of a mirrored picture?"""

    @property
    def mixes(self) -> bool:
        """Half of what is asked of one picture and half of another's is asked of a picture that is half of each."""

    def fitted(self, picture: Picture) -> Self:
        """With what follows from the picture that the net takes, such as a number of cells."""

    def settled(self, name: str, drives: Sequence[Drive], picture: Picture) -> Self:
        """With what only the recordings know, such as the names of classes; `picture` is what the net takes.

        Raises:
            DriveError: they contradict each other, or the recipe.
        """

    def output(self, name: str, full_scale_deg: float) -> Output:
        """What the contract says of it, for drives of this full scale."""

    def remarks(self, train: Labels, validation: Labels) -> Sequence[str]:
        """What a user should know of the labels (n, ...) before time is spent on them, a line each."""

    def losses(self, name: str, settings: TrainingSettings) -> Mapping[str, Any]:
        """By tensor, a Keras loss, one number, of what `wanted` gives and answers (batch, *shape of the tensor).

        `settings` are meant where the output names none.
        """

    def moved(self, labels: Labels, motion: Motion) -> Labels:
        """The labels (..., *shape of one) of pictures that augmentation moved so."""

    def wanted(self, name: str, labels: Labels) -> Mapping[str, Labels]:
        """By tensor, labels (batch, ...) as its loss takes them."""

    def taught(self, name: str, said: Mapping[str, Labels]) -> Mapping[str, Labels]:
        """By tensor, another net's answers (batch, *shape of the tensor) as the loss takes labels."""

    def mae(self, labels: Labels, answers: Labels) -> float:
        """Mean error of answers (n, *shape), in label units."""

    def metrics(self, labels: Labels, answers: Labels, constant: Any) -> Metrics:
        """Answers (n, *shape) beside labels (n, ...) not trained on; `constant`: `OutputTask.constant`."""

    def plots(self, labels: Array, answers: Array, metrics: Any, output: Any) -> Sequence[Plot]:
        """The figures of held-out frames; `metrics` and `output` are this target's own."""


@runtime_checkable
class Comparing(Protocol):
    """What a target has besides, whose answers are compared with each other, where a label says what belongs together.

    It is judged by labels that it was not trained on: whole classes are held out, and what they tell of the answers,
    such as a threshold, goes into the contract.
    """

    def arranged(self, labels: Labels, random: np.random.Generator) -> NDArray[np.int64]:
        """The order (n,) of an epoch's pictures (n,) in which every batch has what is to be compared."""

    def spread(self, answers: Labels) -> float:
        """How different answers (n, *shape) are, 0 to 1: below `COLLAPSED`, all the same."""

    def beside_pixels(self, metrics: Any, labels: Labels, pictures: Pictures) -> Metrics:
        """The metrics with what comparing the pictures alone would give."""

    def judged(self, output: Any, metrics: Any) -> Output:
        """What the contract says of it once it is known how good it is."""


def losses_of(targets: Mapping[str, Target], settings: TrainingSettings) -> tuple[dict[str, Any], dict[str, float]]:
    """The losses of all outputs by tensor, and the weight of each."""
    losses, weights = dict[str, Any](), dict[str, float]()
    for name, target in targets.items():
        own = target.losses(name, settings)
        losses |= own
        weights |= dict.fromkeys(own, target.weight)
    return losses, weights
