"""What happens at the end of each epoch: validate, keep, lower the rate, stop, log, write the checkpoint."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import atomic_file
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.base.progress import progress_bar
from sepilot_train.fit.augment import Augmentation, stated
from sepilot_train.fit.data import Batches
from sepilot_train.fit.measuring import error, figures
from sepilot_train.fit.outputs.protocol import Target
from sepilot_train.fit.settings import History, OnEpoch, TrainingSettings
from sepilot_train.fit.settings import stated as stated_settings

Arrays = list[NDArray[Any]]


@dataclass(slots=True, kw_only=True)
class _Watch:
    """What the validation loss did so far; part of the checkpoint."""

    best_loss: float = math.inf
    kept_epoch: int = 0
    since_best: int = 0
    since_drop: int = 0  # epochs without a better loss since the learning rate was lowered
    stopped_early: bool = False


class EpochKeeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Owns the state of a fit beyond the weights: history, kept weights, patience, files.

    One callback, not one per purpose, because all of it together is the state that a resumed run needs.
    """

    def __init__(
        self,
        *,
        model: Any,
        net: Any,
        data: Batches,
        train: FrameSet,
        validation: FrameSet,
        targets: Mapping[str, Target],
        settings: TrainingSettings,
        augmentation: Augmentation,
        workdir: Path,
        on_epoch: OnEpoch | None,
    ) -> None:
        super().__init__()
        self._net = net
        self._optimizer = model.optimizer
        self._losses, self._targets = model.loss, targets
        self._outputs = {name: target.output(name, 1.0) for name, target in targets.items()}
        self._data = data
        self._validation = validation
        judged = min(settings.training_frames_judged, len(train))
        self._of_training = train.take(np.linspace(0, len(train) - 1, judged).astype(np.int64))
        self._settings = settings
        self._workdir = workdir
        self._on_epoch = on_epoch
        self._watch = _Watch()
        self._kept: Arrays = []
        self._started = 0.0
        self._board = _tensorboard(workdir)
        self._identity = {
            "settings": stated_settings(settings),
            "augmentation": stated(augmentation),
            "frames": [len(data), len(validation)],
            "shapes": [list(variable.shape) for variable in net.variables],
            "backend": keras.backend.backend(),
        }
        self.rows: list[dict[str, float]] = []

    @property
    def stopped_early(self) -> bool:
        return self._watch.stopped_early

    @property
    def _path(self) -> Path:
        return self._workdir / "checkpoint" / "state.npz"

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._data.epoch = epoch
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        rate = float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))
        measured = self._validate()
        found = logs or {}
        loss = float(found["loss"])
        parts = {
            f"loss:{name}": sum(float(found[f"{tensor}_loss"]) for tensor in output.tensors)
            for name, output in self._outputs.items()
            if len(self._outputs) > 1
        }
        if not math.isfinite(loss + measured["val_loss"]):
            raise RunError(f"training diverged in epoch {epoch + 1}: the loss is {loss}; lower training.learning_rate")
        seconds = time.perf_counter() - self._started
        rest = {"learning_rate": rate, "seconds": round(seconds, 3)}
        row = {"epoch": epoch + 1, "loss": loss, **parts, **measured, **rest}
        self.rows.append(row)
        self._judge(epoch + 1, measured["val_loss"])
        self._log(row)
        self._save(epoch + 1)
        if self._on_epoch is not None:
            self._on_epoch(row)

    def _validate(self) -> dict[str, float]:
        """Measure the weights that would be kept, and set them aside; the averaged ones where there is an average."""
        trained = _values(self._net.variables)
        if self._settings.ema:
            self._optimizer.finalize_variable_values(self._net.trainable_variables)
        self._candidate = _values(self._net.variables)
        if self._settings.ema:
            # On JAX the net now shares its arrays with the optimizer, and predicting would consume them.
            _assign(self._net.variables, self._candidate)
        row = figures(self._net, self._validation, self._targets, self._losses, self._settings.batch_size)
        if len(self._of_training):
            row["train_mae"] = error(self._net, self._of_training, self._targets)
        if self._settings.ema:
            _assign(self._net.variables, trained)
        return row

    def _judge(self, epoch: int, loss: float) -> None:
        watch, settings = self._watch, self._settings
        if better := loss < watch.best_loss:
            watch.best_loss, watch.since_best, watch.since_drop = loss, 0, 0
        else:
            watch.since_best += 1
            watch.since_drop += 1
        if better or settings.keep == "last":
            self._kept, watch.kept_epoch = self._candidate, epoch
        if settings.schedule == "plateau" and watch.since_drop >= settings.plateau_patience:
            self._optimizer.learning_rate.assign(self._optimizer.learning_rate * settings.plateau_factor)
            watch.since_drop = 0
        if settings.early_stopping_patience and watch.since_best >= settings.early_stopping_patience:
            watch.stopped_early = True
            self.model.stop_training = True

    def _log(self, row: dict[str, float]) -> None:
        with atomic_file(self._workdir / "history.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(self.rows)
        if self._board is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._board.add_scalar(name, value, step=int(row["epoch"]))
            self._board.flush()

    def _save(self, epoch: int) -> None:
        state = {"epoch": epoch, "watch": asdict(self._watch), "rows": self.rows, "identity": self._identity}
        arrays: dict[str, Any] = {
            "state": np.array(json.dumps(state)),
            **_numbered("net", _values(self._net.variables)),
            **_numbered("optimizer", _values(self._optimizer.variables)),
            **_numbered("kept", self._kept),
        }
        with atomic_file(self._path) as part:
            np.savez(part, **arrays)

    def restore(self) -> int:
        """Set everything to what the checkpoint holds; returns the number of finished epochs.

        Raises:
            RunError: there is none, it cannot be read, or it belongs to other settings, data or another net.
        """
        try:
            with np.load(self._path, allow_pickle=False) as file:
                arrays = dict(file)
            state = json.loads(str(arrays.pop("state")))
        except FileNotFoundError as e:
            raise RunError(f"{self._path}: no checkpoint to resume from") from e
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
            raise RunError(f"{self._path}: not a checkpoint of sepilot ({e})") from e
        for key, value in self._identity.items():
            if state["identity"].get(key) != value:
                was, now = _difference(state["identity"].get(key), value)
                raise RunError(f"{self._path}: cannot resume: {key} was {was} and is now {now}")
        _assign(self._net.variables, _unnumbered("net", arrays))
        _assign(self._optimizer.variables, _unnumbered("optimizer", arrays))
        self._kept = _unnumbered("kept", arrays)
        self._watch = _Watch(**state["watch"])
        self.rows = state["rows"]
        return int(state["epoch"])

    def finish(self) -> History:
        """Leave the kept weights in the net."""
        _assign(self._net.variables, self._kept)
        if self._board is not None:
            self._board.close()
        return History(
            rows=tuple(self.rows), kept_epoch=self._watch.kept_epoch, stopped_early=self._watch.stopped_early
        )


class ProgressBar(keras.callbacks.Callback):  # type: ignore[misc]
    """A bar on standard error over all steps of the fit."""

    #: Keras would otherwise wait for the device after each step, to hand over the loss.
    async_safe = True

    def __init__(self, keeper: EpochKeeper, *, steps: int) -> None:
        super().__init__()
        self._keeper, self._steps, self._done = keeper, steps, 0
        self._bars = contextlib.ExitStack()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._advance = self._bars.enter_context(progress_bar("training", self.params["epochs"] * self._steps))

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        rows = self._keeper.rows
        last = f", loss {rows[-1]['loss']:.4f}, validation {rows[-1]['val_loss']:.4f}" if rows else ""
        # A training that goes on begins in the middle.
        self._advance(epoch * self._steps - self._done, label=f"epoch {epoch + 1}/{self.params['epochs']}{last}")
        self._done = epoch * self._steps

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._done += 1
        self._advance()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._bars.close()


def _values(variables: Sequence[Any]) -> Arrays:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[Any], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _numbered(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {f"{name}/{number}": array for number, array in enumerate(arrays)}


def _unnumbered(name: str, arrays: dict[str, NDArray[Any]]) -> Arrays:
    count = sum(key.startswith(f"{name}/") for key in arrays)
    return [arrays[f"{name}/{number}"] for number in range(count)]


def _difference(was: Any, now: Any) -> tuple[Any, Any]:
    """The first entry that differs, of two mappings; else the two values."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key, value in now.items():
            if was.get(key) != value:
                return f"{key} = {was.get(key)}", f"{key} = {value}"
    return was, now


def _tensorboard(workdir: Path) -> Any:
    """A writer for the tensorboard package, which needs no TensorFlow; None where it is not installed."""
    try:
        from tensorboard.summary import Writer
    except ModuleNotFoundError:
        return None
    return Writer(str(workdir / "tensorboard"))
