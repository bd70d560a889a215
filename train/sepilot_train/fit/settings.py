"""What a training is told, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.base.ranges import require_in

__all__ = ["History", "LossName", "OnEpoch", "TrainingSettings", "stated"]


LossName = Literal["mse", "mae", "huber"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How to fit.

    Attributes:
        epochs: passes over the training frames, at most.
        min_epoch_frames: an epoch of a small data set goes over it as often as it takes to see so many frames, so that
            a few minutes of driving are trained on for as many steps as a long drive.
        batch_size: frames per step.
        optimizer: `sgd` has Nesterov momentum 0.9; the others are as Keras has them.
        learning_rate: the highest that the schedule reaches.
        weight_decay: decoupled from the gradient, on kernels only; `adam` takes none, that is `adamw`.
        schedule: `constant`; `cosine` to 1/1000 over all epochs; `plateau`: times `plateau_factor` after
            `plateau_patience` epochs without a better validation loss.
        warmup_epochs: linear rise at the start of the cosine.
        early_stopping_patience: stop after so many epochs without a better validation loss; 0 never stops.
        ema: momentum per step of an exponential moving average of the weights, which is then what is validated and
            kept; 0 keeps the weights themselves.
        loss: on the labels, which are in [-1, 1]; an output may name its own.
        huber_delta: where `huber` goes from square to line.
        keep: the weights of the `best` epoch by validation loss, or of the `last` one. With `last` the validation
            frames have no influence on the result (unless it stops early or lowers the rate by them).
        seed: of order and augmentation. Weights and dropout take theirs when the net is built.
        straight_keep: the part of the nearly straight frames that an epoch uses, other ones each epoch; 1 uses all.
            Less makes turns count more, and biases the net away from straight ahead.
        straight_band: labels of at most this size are nearly straight.
        training_frames_judged: so many training frames, evenly, are answered after each epoch as the held-out ones are,
            so that a net shows what it learned by heart; 0 answers none.
        device_limit_mb: frames up to this size are held on the GPU or TPU, where there is one; larger data is fed from
            the host.
    """

    epochs: int = 30
    min_epoch_frames: int = 0
    batch_size: int = 128
    optimizer: Literal["adam", "adamw", "nadam", "rmsprop", "sgd"] = "adam"
    learning_rate: float = 0.002
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    warmup_epochs: float = 1.0
    plateau_factor: float = 0.5
    plateau_patience: int = 5
    early_stopping_patience: int = 0
    ema: float = 0.0
    loss: LossName = "mse"
    huber_delta: float = 0.2
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    straight_keep: float = 1.0
    straight_band: float = 0.02
    training_frames_judged: int = 0
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
    ("training_frames_judged", 0, 1e9),
    ("device_limit_mb", 0, 1e9),
)


def stated(settings: TrainingSettings) -> dict[str, Any]:
    """What they say, without what came later and says nothing: sums of recipes and checkpoints stay what they were."""
    said = asdict(settings)
    return said if settings.training_frames_judged else {k: v for k, v in said.items() if k != "training_frames_judged"}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened: one row per epoch (`epoch` from 1, `loss`, `val_loss`, `val_mae`, `learning_rate`, `seconds`).

    Where there are several outputs, `val_mae` is that of the first, and `loss`, `val_loss` are sums by weight, of which
    `loss:NAME`, `val_loss:NAME` and `val_mae:NAME` tell the parts, before the weight. `train_mae` is the error of the
    first on training frames as they are, where `training_frames_judged` asks for it. `spread:NAME` is that of
    an output whose answers are compared, see `outputs.protocol.Comparing`.
    """

    rows: tuple[dict[str, float], ...]
    kept_epoch: int
    stopped_early: bool


OnEpoch = Callable[[dict[str, float]], None]
"""Called with the row of each epoch, after its checkpoint is on disk."""
