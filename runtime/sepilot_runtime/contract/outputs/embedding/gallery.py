"""Galleries: whom a model is to recognize, by vectors of a few pictures of each. No picture is kept.

Vectors of faces are biometric data: the file is its owner's alone (0600), and a name can be forgotten.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.caps import TEXT_LENGTH
from sepilot_runtime.base.documents import parse
from sepilot_runtime.base.errors import ContractError, UsageError
from sepilot_runtime.base.files import read_json, write_json
from sepilot_runtime.base.terminal import one_line
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.outputs.embedding.output import Embedding

__all__ = ["Gallery", "Person", "embedding_of", "gallery_for", "model_of", "read_gallery"]

GALLERY_BYTES = 256 << 20
"""Of a gallery: 10,000 pictures with vectors of 1,000 numbers."""

LENGTH_ERROR = 1e-3
"""Of a vector of length 1, whose numbers are written with seven digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One identity, which may be a thing or a place as well, with the vector of each of its pictures, of length 1."""

    name: str
    vectors: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.name or one_line(self.name) != self.name or len(self.name) > TEXT_LENGTH:
            raise ContractError(f"name: a printable text expected, found {ascii(self.name)[:80]}")
        if not self.vectors:
            raise ContractError(f"vectors: at least one expected for {self.name}")
        for vector in self.vectors:
            if abs(math.hypot(*vector) - 1) > LENGTH_ERROR:
                raise ContractError(
                    f"vectors: of length 1 expected, found {math.hypot(*vector):g} for {self.name}; enrol again"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """A gallery file.

    Attributes:
        output, size: of the model's embedding.
        model: SHA-256 of what the files of one training have in common and those of no other one, see `model_of`.
        recipe: of the model, for people.
        threshold, false_accept_rate: as in the model's contract.
    """

    version: Literal[1] = 1
    output: str
    size: int
    model: str
    recipe: str
    threshold: float
    false_accept_rate: float
    people: tuple[Person, ...] = ()

    def __post_init__(self) -> None:
        names = [person.name for person in self.people]
        if len(set(names)) < len(names):
            raise ContractError(f"people: each name once expected, found {', '.join(sorted(names))[:200]}")
        for person in self.people:
            if any(len(vector) != self.size for vector in person.vectors):
                raise ContractError(f"people: vectors of {self.size} numbers expected for {person.name}")

    def person(self, name: str) -> Person:
        """Raises UsageError: nobody is called so."""
        for person in self.people:
            if person.name == name:
                return person
        known = ", ".join(p.name for p in self.people)[:200] or "nobody"
        raise UsageError(f"{name}: somebody who is enrolled expected; the gallery holds {known}")

    def centres(self) -> NDArray[np.float64]:
        """(people, size): the mean vector of each, of length 1."""
        means = np.array([np.mean(person.vectors, axis=0) for person in self.people]).reshape(-1, self.size)
        return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-30))

    def with_person(self, name: str, vectors: NDArray[np.float64], *, add: bool) -> Gallery:
        """With pictures of somebody: vectors (n, size) of length 1.

        Args:
            add: to those that are there; otherwise the name must be new.

        Raises:
            UsageError: the name is taken.
        """
        found = tuple(tuple(round(number, 7) for number in vector) for vector in vectors.tolist())
        known = {person.name: person for person in self.people}
        if name in known and not add:
            raise UsageError(
                f"{name}: enrolled already, by {len(known[name].vectors)} pictures; --add if these show the same, "
                f"another name if not, --forget {name} to begin anew"
            )
        known[name] = Person(name=name, vectors=(*(known[name].vectors if name in known else ()), *found))
        return dataclasses.replace(self, people=tuple(known.values()))

    def without(self, name: str) -> Gallery:
        """Raises UsageError: nobody is called so."""
        gone = self.person(name)
        return dataclasses.replace(self, people=tuple(p for p in self.people if p is not gone))

    def save(self, path: Path) -> None:
        """Write it for its owner alone, beside and renamed. Raises OutputError."""
        write_json(path, dataclasses.asdict(self), mode=0o600)


def read_gallery(path: Path) -> Gallery:
    """Raises ContractError: it cannot be read, or is no gallery; one line that names file and key."""
    value = read_json(path, ContractError, limit=GALLERY_BYTES)
    try:
        return parse(Gallery, value, "", ContractError, complete=True)
    except ContractError as e:
        raise ContractError(f"{path}: not a gallery: {e}") from e


def gallery_for(contract: Contract, where: str, path: Path | None = None) -> Gallery:
    """The gallery at `path`, an empty one without, for the files of this contract's training.

    Args:
        where: the model file, for messages.

    Raises:
        ContractError: the model says no vectors, or the gallery is another model's.
    """
    output = embedding_of(contract.outputs, where)
    mine = Gallery(
        output=output.name, size=output.size, model=model_of(contract, output), recipe=contract.provenance.recipe,
        threshold=output.threshold, false_accept_rate=output.false_accept_rate,
    )  # fmt: skip
    if path is None:
        return mine
    found = read_gallery(path)
    if found.model != mine.model:
        raise ContractError(
            f"{path}: a gallery of {where} expected, found one of another training of {found.recipe}; vectors of two "
            "models have nothing in common: enrol the pictures again"
        )
    return found


def embedding_of(outputs: Sequence[object], where: str) -> Embedding:
    """The output that recognizes. Raises ContractError: there is none."""
    found = [output for output in outputs if isinstance(output, Embedding)]
    if not found:
        raise ContractError(f"{where}: a model with an embedding expected, found none; train one with --recipe embed")
    return found[0]


def model_of(contract: Contract, output: Embedding) -> str:
    """SHA-256 over the training's recipe and data, and over what its net says to the golden frames.

    All files that are exported from one net have it in common, whatever their precision.
    """
    provenance = contract.provenance
    golden = [golden.expected[output.name] for golden in contract.golden]
    facts = [provenance.recipe_sha256, provenance.dataset_fingerprint, output.name, output.size, golden]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
