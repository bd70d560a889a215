"""What training asks of every kind of output; it knows no kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.kinds import Output
from sepilot_train.fit.settings import TrainingSettings

__all__ = ["Metrics", "Motion", "Target"]

Labels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Motion:
    """How augmentation moved pictures sideways, of any shape (...,), and so what is to be said to them.

    Attributes:
        sign: -1 where the picture was mirrored, 1 elsewhere, float32.
        turned: how far the car seems turned to the left by the shift of the picture, in label units, float32.
    """

    sign: NDArray[np.float32]
    turned: NDArray[np.float32]


class Metrics(Protocol):
    """How good answers are, in label units, beside always answering `constant`."""

    @property
    def mae(self) -> float: ...

    @property
    def constant(self) -> float: ...

    @property
    def constant_mae(self) -> float: ...


class Target(Protocol):
    """An output as a recipe asks for it.

    Attributes:
        label: the recordings' column that it learns; "" for the one of its own name.
        weight: of its loss in the sum of all.
    """

    @property
    def label(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def sideways(self) -> bool:
        """A mirrored picture asks for the opposite; straight ahead is 0."""
        ...

    def output(self, name: str, full_scale_deg: float) -> Output:
        """What the contract says of it, for drives of this full scale."""
        ...

    def loss_of(self, settings: TrainingSettings) -> Any:
        """A Keras loss of labels and answers, (batch, 1) each; `settings` are meant where the output names none."""
        ...

    def moved(self, labels: Labels, motion: Motion) -> Labels:
        """The labels (...,) of pictures that augmentation moved so."""
        ...

    def metrics(self, labels: Labels, answers: Labels, constant: float) -> Metrics:
        """Answers (n,) beside labels (n,) that they were not trained on; `constant` is the training labels' mean."""
        ...
