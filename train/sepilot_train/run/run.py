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

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.caps import CONTRACT_BYTES
from sepilot_runtime.base.documents import read_document
from sepilot_runtime.base.errors import DriveError, RunError
from sepilot_runtime.base.files import atomic_file
from sepilot_runtime.base.reading import read_regular, require_regular
from sepilot_runtime.contract.contract import Contract, Picture
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import open_drives
from sepilot_train.base.cache import PictureSet, load_pictures
from sepilot_train.base.frame_set import Answers, FrameSet, read_answers
from sepilot_train.run.material import Material, Side, columns_of, labels_of, material_of, vectors_of
from sepilot_train.run.recipe import Recipe, load_recipe
from sepilot_train.run.request import Request, wanted_frames
from sepilot_train.run.split import DriveSplit, Split, SplitRecord

__all__ = ["Run", "open_run", "read_split"]

Found = tuple[PictureSet, NDArray[np.int64], NDArray[np.int64]]
"""The pictures of a drive, and which of them are on the training and on the validation side."""

MODELS = (".keras", ".h5", ".tflite", ".onnx")
"""Suffixes of files that others train and save."""


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
        from sepilot_train.base.keras_file import load_keras

        return load_keras(self.model_path)

    def predictions(self) -> Answers:
        """What the training model said to the held-out frames, as training left it. Raises RunError."""
        return read_answers(self.path / "predictions.npz", self.contract.outputs[0].name)

    def frames(self, side: Side, *, moved_to: Sequence[Path] = (), progress: bool = True) -> FrameSet:
        """The frames that trained the model, or those that judged it.

        Args:
            moved_to: where the drives are now, when not where they were at training.

        Raises:
            RunError: a drive is missing or has changed since training.
        """
        return self.material(side=side, moved_to=moved_to, progress=progress).frames(side)

    def material(
        self,
        *,
        side: Side | None = None,
        moved_to: Sequence[Path] = (),
        picture: Picture | None = None,
        progress: bool = True,
    ) -> Material:
        """The drives of the run in the order of split.json, under the names and split as they were in training.

        Args:
            side: only the drives with frames on this side; at least one.
            moved_to: as in `frames`.
            picture: of another net; the run's own where there is none.

        Raises:
            RunError: a drive is missing or has changed since training.
        """
        split = read_document(SplitRecord, self.path / "split.json", RunError)
        here = self.drives(moved_to)
        found = [
            self._found(entry, here, picture or self.recipe.picture, progress=progress)
            for entry in split.drives
            if side is None or getattr(entry, side)
        ]
        if not found:
            raise RunError(f"{self.path / 'split.json'}: drives: frames of {side or 'any side'} expected, found none")
        sets, train, validation = zip(*found, strict=True)
        parts = Split(kind=split.kind, train=train, validation=validation)
        seen = dataclasses.replace(self.recipe, picture=picture) if picture else self.recipe
        return material_of(seen, sets, labels_of(seen, sets), vectors_of(seen, sets), parts)

    def drives(self, moved_to: Sequence[Path] = ()) -> list[Drive]:
        """All recordings of the run, as they are now.

        Args:
            moved_to: as in `frames`.

        Raises:
            RunError, DriveError: one is no longer there, or cannot be read.
        """
        paths = [Path(p) for p in (*self.request.drives, *self.request.validation_drives)]
        gone = [p for p in paths if not p.exists()]
        if gone and not moved_to:
            raise RunError(f"{gone[0]}: the drive is no longer there; say where it is now with --drives")
        return open_drives(list(moved_to) or paths, self.request.reader, labelled=True)

    def _found(self, entry: DriveSplit, here: Sequence[Drive], picture: Picture, *, progress: bool) -> Found:
        """The drive of an entry of split.json.

        Known by its fingerprint, as its name depends on the folders that it lies in and on the drives beside it. A
        drive that went on growing has another fingerprint; there the name counts, and the frames must all be there.
        """
        labels = tuple(columns_of(self.recipe).values())
        name, names = entry.id, {*entry.train, *entry.validation}
        own = [d for d in here if d.id == name]
        others = [d for d in here if d.id != name and names.issubset(d.names)]
        for drive in (*own, *others):
            with contextlib.suppress(DriveError):
                kept = wanted_frames(drive, self.request.filter, self.recipe.data.min_throttle)
                pictures = load_pictures(kept, picture, labels=labels, progress=progress)
                if pictures.fingerprint == entry.fingerprint:
                    return _placed(pictures, entry, self.path)
        if not own:
            raise RunError(f"{self.path}: drive {name!r} expected, found {', '.join(d.id for d in here)}")
        return _placed(load_pictures(own[0], picture, labels=labels, progress=progress), entry, self.path)


def open_run(path: Path) -> Run:
    """Open a finished run.

    Raises:
        RunError: not a run directory, or a training that has not finished.
    """
    if path.is_file():
        way = f"; `sepilot adopt {path}` takes a model file" if path.suffix in MODELS else ""
        raise RunError(f"{path}: a run directory of `sepilot train` expected, found a file{way}")
    if not path.is_dir():
        found = "something else" if path.exists() else "nothing"
        raise RunError(f"{path}: a run directory of `sepilot train` expected, found {found}")
    if not (path / "request.json").exists():
        raise RunError(f"{path}: not a run directory of `sepilot train` (no request.json)")
    if not (path / "model.keras").exists():
        raise RunError(f"{path}: the training has not finished; continue it with: sepilot train --resume --out {path}")
    _require_files(path)
    contract_path = path / "contract.json"
    try:
        text = read_regular(contract_path, CONTRACT_BYTES).decode("utf-8")
    except OSError as e:
        raise RunError(f"{contract_path}: cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise RunError(f"{contract_path}: cannot be read: {e}") from e
    return Run(
        path=path,
        recipe=load_recipe(str(path / "recipe.toml")),
        contract=Contract.from_json(text, str(contract_path)),
        request=read_request(path),
    )


def read_request(path: Path) -> Request:
    """The request of a run directory, finished or not."""
    return read_document(Request, path / "request.json", RunError)


def read_split(path: Path) -> tuple[DriveSplit, ...]:
    """The split of a run directory. Raises RunError."""
    return read_document(SplitRecord, path / "split.json", RunError).drives


def _placed(pictures: PictureSet, entry: DriveSplit, where: Path) -> Found:
    place = {name: i for i, name in enumerate(pictures.drive.names)}
    missing = [name for name in (*entry.train, *entry.validation) if name not in place]
    if missing:
        raise RunError(
            f"{where}: drive {entry.id} has changed since training: {len(missing)} of its frames are gone, "
            f"the first is {missing[0]}"
        )
    train, validation = (
        np.array([place[name] for name in getattr(entry, side)], dtype=np.int64) for side in ("train", "validation")
    )
    drive = dataclasses.replace(pictures.drive, id=entry.id)
    return dataclasses.replace(pictures, drive=drive), train, validation


def _require_files(run: Path) -> None:
    """Whoever opens a pipe in a run waits for ever: Keras and numpy open what they are told."""
    for place in sorted(run.iterdir()):
        try:
            if not place.is_dir():
                require_regular(place)
        except FileNotFoundError:  # A link to nothing; what needs it says so.
            continue
        except OSError as e:
            raise RunError(f"{place}: cannot be read: {e.strerror or e}") from e


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
