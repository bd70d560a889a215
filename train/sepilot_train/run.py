"""The run directory: what `sepilot train` leaves behind and everything after it reads.

command.txt       the command line that made it
request.json      the drives, options and overrides that were asked for
recipe.toml       the resolved recipe, every value written out
split.json        training and validation frames by drive and name
history.csv       one line per epoch
predictions.npz   held-out frames: drive, name, label, prediction of the training model
validation.json   figures on the held-out frames, the constant baseline and the leak figure
contract.json     what the exported files will promise
model.keras       written last: a directory without it is a training that has not finished
figures/ checkpoint/ tensorboard/
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract import Contract
from sepilot_runtime.errors import RunError
from sepilot_runtime.files import atomic_file, read_json
from sepilot_runtime.schema import parse
from sepilot_train.drives import Drive, DriveFilter, PictureSet, ReaderOptions, load_pictures, open_drives
from sepilot_train.recipe import Recipe, load_recipe

__all__ = [
    "FrameSet",
    "Predictions",
    "Request",
    "Run",
    "load_sets",
    "open_run",
    "read_split",
    "standing_still_left_out",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for; `--resume` and every later verb read the same drives the same way.

    Attributes:
        drives, validation_drives: paths; the latter empty where the split was left to sepilot.
        seed: of the split, the initial weights and the augmentation.
    """

    drives: tuple[str, ...]
    validation_drives: tuple[str, ...]
    reader: ReaderOptions
    filter: DriveFilter
    seed: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameSet:
    """Frames of several drives in a row: pictures (n, h, w, c) uint8, drive ids, frame names, labels (n,) float32."""

    pictures: NDArray[np.uint8]
    drives: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Predictions:
    """The training model's answers on the held-out frames, float32 (n,), beside the labels."""

    drives: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.float32]
    predictions: NDArray[np.float32]

    def save(self, path: Path) -> None:
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file, drives=self.drives, names=self.names, labels=self.labels, predictions=self.predictions
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished training."""

    path: Path
    recipe: Recipe
    contract: Contract
    request: Request

    @property
    def model_path(self) -> Path:
        return self.path / "model.keras"

    def load_model(self) -> Any:
        """The training model: Keras 3 Functional, float32 (n, h, w, c) in [0, 1] to (n, 1)."""
        from sepilot_train.quiet import start_keras

        start_keras()
        import keras

        try:
            return keras.saving.load_model(self.model_path, compile=False)
        except (OSError, ValueError, TypeError) as e:
            raise RunError(f"{self.model_path}: cannot be loaded: {str(e).splitlines()[0]}") from e

    def predictions(self) -> Predictions:
        """The held-out frames' labels and predictions, as training left them."""
        path = self.path / "predictions.npz"
        try:
            with np.load(path) as data:
                return Predictions(
                    drives=tuple(data["drives"].tolist()),
                    names=tuple(data["names"].tolist()),
                    labels=data["labels"],
                    predictions=data["predictions"],
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
            raise RunError(f"{path}: cannot be read: {e}") from e

    def frames(self, side: str, *, moved_to: Sequence[Path] = (), progress: bool = True) -> FrameSet:
        """The frames that trained the model (`side` "train") or judged it ("validation").

        Args:
            moved_to: where the drives are now, when not where they were at training.

        Raises:
            RunError: a drive is missing or has changed since training.
        """
        wanted = {d.id: getattr(d, side) for d in read_split(self.path) if getattr(d, side)}
        if not wanted:
            raise RunError(f"{self.path / 'split.json'}: drives: frames of {side} expected, found none")
        paths = [Path(p) for p in (*self.request.drives, *self.request.validation_drives)]
        gone = [p for p in paths if not p.exists()]
        if gone and not moved_to:
            raise RunError(f"{gone[0]}: the drive is no longer there; say where it is now with --drives")
        drives = {d.id: d for d in open_drives(list(moved_to) or paths, self.request.reader)}
        parts = []
        for drive_id, names in wanted.items():
            if drive_id not in drives:
                raise RunError(f"{self.path}: drive {drive_id!r} expected, found {', '.join(drives) or 'none'}")
            pictures = load_pictures(drives[drive_id], self.recipe.picture, progress=progress)
            parts.append(_take(pictures, names, self.path))
        return FrameSet(
            pictures=np.concatenate([p.pictures for p in parts]),
            drives=sum((p.drives for p in parts), ()),
            names=sum((p.names for p in parts), ()),
            labels=np.concatenate([p.labels for p in parts]),
        )


def open_run(path: Path) -> Run:
    """Open a finished run.

    Raises:
        RunError: not a run directory, or a training that has not finished.
    """
    if not path.is_dir():
        raise RunError(
            f"{path}: a run directory of `sepilot train` expected, found {'a file' if path.exists() else 'nothing'}"
        )
    if not (path / "request.json").exists():
        raise RunError(f"{path}: not a run directory of `sepilot train` (no request.json)")
    if not (path / "model.keras").exists():
        raise RunError(f"{path}: the training has not finished; continue it with: sepilot train --resume --out {path}")
    contract_path = path / "contract.json"
    try:
        text = contract_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise RunError(f"{contract_path}: cannot be read: {e}") from e
    return Run(
        path=path,
        recipe=load_recipe(str(path / "recipe.toml")),
        contract=Contract.from_json(text, str(contract_path)),
        request=read_request(path),
    )


def read_request(path: Path) -> Request:
    """The request of a run directory, finished or not."""
    return _parsed(Request, path / "request.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveSplit:
    """One drive of split.json: the names of its frames on each side."""

    id: str
    fingerprint: str
    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _SplitRecord:
    kind: str
    drives: tuple[DriveSplit, ...]


def read_split(path: Path) -> tuple[DriveSplit, ...]:
    """The split of a run directory. Raises RunError."""
    return _parsed(_SplitRecord, path / "split.json").drives


def _parsed(kind: type[T], where: Path) -> T:
    try:
        return parse(kind, read_json(where, RunError), "", RunError, complete=True)
    except RunError as e:
        raise RunError(f"{where}: {e}" if str(where) not in str(e) else str(e)) from e


def load_sets(
    paths: Sequence[Path], recipe: Recipe, reader: ReaderOptions, filter_: DriveFilter, *, progress: bool
) -> list[tuple[Drive, PictureSet]]:
    """Open, filter and decode drives; each with its pictures."""
    drives = [
        standing_still_left_out(drive.filtered(filter_), recipe.data.min_throttle)
        for drive in open_drives(paths, reader)
    ]
    return [(drive, load_pictures(drive, recipe.picture, progress=progress)) for drive in drives]


def standing_still_left_out(drive: Drive, min_throttle: float) -> Drive:
    """The drive without the frames at or below `min_throttle`, if its throttle says anything.

    Many cars record a constant throttle, or none; there it tells nothing about standing still.
    """
    throttle = drive.throttle[np.isfinite(drive.throttle)]
    if min_throttle <= 0 or not throttle.size or throttle.max() <= min_throttle or np.ptp(throttle) < 1e-6:
        return drive
    return drive.filtered(DriveFilter(min_throttle=min_throttle))


def _take(pictures: PictureSet, names: Sequence[str], where: Path) -> FrameSet:
    place = {name: i for i, name in enumerate(pictures.names)}
    missing = [name for name in names if name not in place]
    if missing:
        raise RunError(
            f"{where}: drive {pictures.drive_id} has changed since training: {len(missing)} of its frames are gone, "
            f"the first is {missing[0]}"
        )
    index = np.array([place[name] for name in names], dtype=np.int64)
    return FrameSet(
        pictures=pictures.pictures[index],
        drives=(pictures.drive_id,) * len(index),
        names=tuple(names),
        labels=pictures.steering[index],
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def same_request(found: Request, asked: Request) -> str:
    """The first key in which two requests differ, or ""."""
    names = (field.name for field in fields(Request))
    return next((name for name in names if getattr(found, name) != getattr(asked, name)), "")
