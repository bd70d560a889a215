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

from sepilot_export.verify.fidelity import Skill, skill
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import atomic_file
from sepilot_runtime.contract.contract import Contract

__all__ = ["REFERENCE_NAME", "Answers", "Reference", "read_reference"]

REFERENCE_NAME = "reference.npz"

TRAINING_MODEL = "the training model"

PLAIN, LABEL, ANSWER, CONSTANT, VECTOR = "plain:", "label:", "answer:", "constant:", "vector:"
"""Before the names of outputs, and of vector inputs, in the file; `PLAIN`, before a format's and an output's. Exports
from before there were several outputs have "labels", "predictions", "constant" and "plain:<format>" of the only one.
"""

Answers = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reference:
    """What every file is compared with.

    Attributes:
        pictures: (n, h, w, c) uint8, in the order of the drives.
        drives, names: of each frame.
        labels: by output, float32 (n,), NaN where there is none.
        predictions: by output, float32 (n, *shape) or (n,), the training model's answers, not cut off.
        constant: by output the one answer that is right for most training labels; it costs nothing.
        contract: of the training run.
        source: whose answers they are, in words.
        frames: (n, H, W, 3) uint8 BGR, what the pictures were made of, for files that take frames; None for others.
        vectors: (n, size) float32 of each vector input, by name, given with the pictures.
        plain: for such files by format, as `predictions`, what the same file without the preprocessing said to the
            pictures.
    """

    pictures: NDArray[np.uint8]
    drives: tuple[str, ...]
    names: tuple[str, ...]
    labels: Answers
    predictions: Answers
    constant: Mapping[str, Any]
    contract: Contract
    source: str = TRAINING_MODEL
    frames: NDArray[np.uint8] | None = None
    plain: Mapping[str, Answers] = field(default_factory=dict)
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.drives)

    def task(self, output: str, answers: NDArray[np.floating]) -> Skill | None:
        """How good answers (n, *shape) of one output are against its labels; None without labels."""
        return skill(answers, self.labels[output], self.constant[output], self.contract.output(output))

    def save(self, path: Path) -> None:
        """Write it, atomically."""
        more: dict[str, Any] = {
            f"{PLAIN}{form}:{name}": values for form, answers in self.plain.items() for name, values in answers.items()
        }
        named = ((LABEL, self.labels), (ANSWER, self.predictions), (CONSTANT, self.constant), (VECTOR, self.vectors))
        for key, found in named:
            more |= {f"{key}{name}": np.asarray(value) for name, value in found.items()}
        if self.frames is not None:
            more["frames"] = self.frames
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file,
                pictures=self.pictures,
                drives=np.array(self.drives),
                names=np.array(self.names),
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
            reference = _parsed({key: data[key] for key in data.files}, str(path))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise RunError(f"{path}: damaged, export again: {e}") from e
    contract, count = reference.contract, len(reference.pictures)
    every = [reference.labels, reference.predictions, *reference.plain.values()]
    lengths = {len(reference.drives), len(reference.names)}
    lengths |= {len(values) for found in (*every, reference.vectors) for values in found.values()}
    if count == 0 or lengths != {count} or reference.pictures.shape[1:] != contract.picture.shape:
        raise RunError(f"{path}: damaged, export again: pictures {reference.pictures.shape}, lengths {sorted(lengths)}")
    for values in (*every, reference.constant):
        if set(values) != {output.name for output in contract.outputs}:
            raise RunError(
                f"{path}: damaged, export again: answers of {', '.join(o.name for o in contract.outputs)} expected, "
                f"found {', '.join(values) or 'none'}"
            )
    expected = (count, *contract.frame.shape) if contract.frame else None
    found = None if reference.frames is None else reference.frames.shape
    if found != expected:
        raise RunError(f"{path}: damaged, export again: frames {expected} expected, found {found}")
    return reference


def _parsed(found: dict[str, Any], where: str) -> Reference:
    """Raises KeyError, ValueError."""
    contract = Contract.from_json(str(found["contract"]), where)
    first = contract.outputs[0].name
    if "predictions" in found:
        older = (("labels", LABEL), ("predictions", ANSWER), ("constant", CONSTANT))
        found |= {f"{key}{first}": found[name] for name, key in older}
    plain: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, values in _named(found, PLAIN).items():
        form, _, output = key.partition(":")
        plain.setdefault(form, {})[output or first] = values
    return Reference(
        pictures=found["pictures"],
        drives=tuple(found["drives"].tolist()),
        names=tuple(found["names"].tolist()),
        labels=_named(found, LABEL),
        predictions=_named(found, ANSWER),
        constant=_named(found, CONSTANT),
        contract=contract,
        source=str(found.get("source", TRAINING_MODEL)),
        frames=found.get("frames"),
        plain=plain,
        vectors=_named(found, VECTOR),
    )


def _named(found: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
