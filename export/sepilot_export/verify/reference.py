"""reference.npz: the held-out pictures and what the training model said to them, so that a check needs neither."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import atomic_file
from sepilot_runtime.contract.contract import Contract
from sepilot_train.base.metrics import ScalarMetrics, scalar_metrics

__all__ = ["EXPORT_NAME", "REFERENCE_NAME", "Reference", "read_reference"]

EXPORT_NAME = "export.json"
REFERENCE_NAME = "reference.npz"

TRAINING_MODEL = "the training model"

PLAIN, VECTOR = "plain:", "vector:"
"""Before the names of formats, and of inputs, in the file."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reference:
    """What every file is compared with.

    Attributes:
        pictures: (n, h, w, c) uint8, in the order of the drives.
        drives, names: of each frame.
        labels: (n,) float32, NaN where there is none.
        predictions: (n,) float32, the training model's answers, not cut off.
        constant: the mean of the training labels; the answer that costs nothing.
        contract: of the training run.
        source: whose answers they are, in words.
        frames: (n, H, W, 3) uint8 BGR, what the pictures were made of, for files that take frames; None for others.
        vectors: (n, size) float32 of each vector input, by name, given with the pictures.
        plain: for such files by format, (n,) float32, what the same file without the preprocessing said to the
            pictures.
    """

    pictures: NDArray[np.uint8]
    drives: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.float32]
    predictions: NDArray[np.float32]
    constant: float
    contract: Contract
    source: str = TRAINING_MODEL
    frames: NDArray[np.uint8] | None = None
    plain: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def task(self, answers: NDArray[np.floating]) -> ScalarMetrics | None:
        """How good (n,) answers are against the labels; None without labels."""
        known = np.isfinite(self.labels)
        return scalar_metrics(self.labels[known], answers[known], self.constant) if known.any() else None

    def save(self, path: Path) -> None:
        """Write it, atomically."""
        more: dict[str, Any] = {f"{PLAIN}{name}": answers for name, answers in self.plain.items()}
        more |= {f"{VECTOR}{name}": values for name, values in self.vectors.items()}
        if self.frames is not None:
            more["frames"] = self.frames
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file,
                pictures=self.pictures,
                drives=np.array(self.drives),
                names=np.array(self.names),
                labels=self.labels,
                predictions=self.predictions,
                constant=np.array(self.constant),
                source=np.array(self.source),
                contract=np.array(self.contract.to_json()),
                **more,
            )


def read_reference(folder: Path) -> Reference:
    """The reference of an export directory.

    Raises:
        RunError: it is missing, damaged, or does not fit its own contract.
    """
    path = folder / REFERENCE_NAME
    if not path.exists():
        raise RunError(f"{folder}: no {REFERENCE_NAME}; a directory of `sepilot export` expected")
    try:
        with np.load(path) as data:
            reference = Reference(
                pictures=data["pictures"],
                drives=tuple(data["drives"].tolist()),
                names=tuple(data["names"].tolist()),
                labels=data["labels"],
                predictions=data["predictions"],
                constant=float(data["constant"]),
                source=str(data["source"]) if "source" in data.files else TRAINING_MODEL,
                contract=Contract.from_json(str(data["contract"]), str(path)),
                frames=data.get("frames"),
                plain={key.removeprefix(PLAIN): data[key] for key in data.files if key.startswith(PLAIN)},
                vectors={key.removeprefix(VECTOR): data[key] for key in data.files if key.startswith(VECTOR)},
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise RunError(f"{path}: damaged, export again: {e}") from e
    count = len(reference.pictures)
    lengths = {len(reference.drives), len(reference.names), len(reference.labels), len(reference.predictions)}
    lengths |= {len(values) for values in (*reference.plain.values(), *reference.vectors.values())}
    if count == 0 or lengths != {count} or reference.pictures.shape[1:] != reference.contract.picture.shape:
        raise RunError(f"{path}: damaged, export again: pictures {reference.pictures.shape}, lengths {sorted(lengths)}")
    frame = reference.contract.frame
    expected = (count, *frame.shape) if frame else None
    found = None if reference.frames is None else reference.frames.shape
    if found != expected:
        raise RunError(f"{path}: damaged, export again: frames {expected} expected, found {found}")
    return reference
