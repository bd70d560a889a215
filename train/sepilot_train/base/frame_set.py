"""Frames of drives in a row, and what a model says to them: what is trained on, judged by, calibrated with, compared.

Every array goes with the frames in their order, so that a part of all of it is taken at once.
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import atomic_file
from sepilot_train.base.stored import Pictures, StoredPictures

__all__ = ["Answers", "FrameLabels", "FrameSet", "Index", "read_answers"]

Index = NDArray[np.integer[Any]] | Sequence[int]

LABEL, ANSWER = "label:", "answer:"
"""Before the outputs' names in the file of `Answers`."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameLabels:
    """Which frames, and what was to be said to them.

    Attributes:
        labels: by output, float32 (n,), NaN where none is known.
        drives, names: id and frame name of each frame; both empty where nobody asks.
        vectors: what a model is given beside the pictures, float32 (n, size) by input.
    """

    labels: Mapping[str, NDArray[np.float32]]
    drives: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))

    def take(self, index: Index) -> Self:
        """The frames at `index`, in its order."""
        return dataclasses.replace(
            self,
            labels={name: values[index] for name, values in self.labels.items()},
            drives=tuple(self.drives[i] for i in index) if self.drives else (),
            names=tuple(self.names[i] for i in index) if self.names else (),
            vectors={name: values[index] for name, values in self.vectors.items()},
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameSet(FrameLabels):
    """Frames with their pictures, uint8 (n, height, width, channels) as the contract makes them; may lie in files."""

    pictures: Pictures

    def take(self, index: Index) -> Self:
        pictures = self.pictures
        taken: Pictures = (
            StoredPictures.joined([(pictures, np.asarray(index))])
            if isinstance(pictures, StoredPictures)
            else pictures[index]
        )
        return dataclasses.replace(FrameLabels.take(self, index), pictures=taken)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Answers:
    """What a model says to frames: `values` by output, float32 (n,), beside the frames' labels."""

    frames: FrameLabels
    values: Mapping[str, NDArray[np.float32]]

    def save(self, path: Path) -> None:
        """Write them, without pictures."""
        arrays: dict[str, Any] = {"drives": self.frames.drives, "names": self.frames.names}
        arrays |= {f"{LABEL}{name}": values for name, values in self.frames.labels.items()}
        arrays |= {f"{ANSWER}{name}": values for name, values in self.values.items()}
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)


def read_answers(path: Path, output: str) -> Answers:
    """The answers in a file.

    Args:
        output: whose answers they are in a file from before there were several, which does not say.

    Raises:
        RunError: it cannot be read.
    """
    try:
        with np.load(path) as data:
            found = {key: data[key] for key in data.files}
            if "predictions" in found:
                found |= {f"{LABEL}{output}": found["labels"], f"{ANSWER}{output}": found["predictions"]}
            drives, names = (tuple(found[key].tolist()) for key in ("drives", "names"))
            frames = FrameLabels(labels=_named(found, LABEL), drives=drives, names=names)
            return Answers(frames=frames, values=_named(found, ANSWER))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise RunError(f"{path}: cannot be read: {e}") from e


def _named(arrays: Mapping[str, Any], prefix: str) -> dict[str, NDArray[np.float32]]:
    return {key.removeprefix(prefix): values for key, values in arrays.items() if key.startswith(prefix)}
