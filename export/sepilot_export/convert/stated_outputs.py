"""What a person says about an output of a model file that was made elsewhere, by kind. A new kind is a class here.

Each says where the output's numbers stand in the file, what the contract says of it, and which statements that differ
in this output alone the labels are to be asked about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.contract.contract import Output, Scalar
from sepilot_runtime.contract.outputs.classes.output import Classes
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.engine.bare import Tensor
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.labelled import in_order, quoted

__all__ = ["AnyStated", "StatedClasses", "StatedOutput", "StatedScalar", "Taken", "Wrong"]

Wrong = Callable[[str, str], UsageError]
"""Makes the error of a key and what was expected there."""

Restated = tuple[str, NDArray[np.float32]]
"""Another statement in words, and what the file says under it."""

DEGREES_PER_RADIAN = 57.29578


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """The numbers of a file's tensor that are an output of the contract, and what they are multiplied by."""

    tensor: Tensor
    places: tuple[int, ...]
    factor: float = 1.0

    @property
    def as_it_is(self) -> bool:
        """The tensor needs another name, and nothing else."""
        size = int(np.prod(self.tensor.shape))
        return self.factor == 1.0 and self.places == tuple(range(size)) and (size == 1 or self.tensor.shape[1:-1] == ())

    def of(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """(places,) of what the file gives."""
        values = stored if self.tensor.affine is None else self.tensor.affine.dequantize(stored)
        return values.reshape(-1)[list(self.places)].astype(np.float32) * np.float32(self.factor)


class StatedOutput(Protocol):
    """A frozen dataclass."""

    kind: ClassVar[Any]

    @property
    def tensor(self) -> str:
        """In the file; "" for the only one."""

    @property
    def full_scale_deg(self) -> float | None:
        """The wheels' angle at a label of 1; None where there is no such thing."""

    def settled(self, name: str, drives: Sequence[Drive]) -> tuple[Self, str]:
        """With what the recordings know, and a line about it; "" where they were not asked."""

    def found_out(self, name: str, taken: Taken, said: NDArray[np.float32]) -> tuple[Self, str]:
        """With what the file's answers (n, ...) tell, and a line about it; "" where they were not asked.

        Raises UsageError where they contradict.
        """

    def made(self, name: str, tensor: Tensor, wrong: Wrong) -> tuple[Taken, Output]:
        """Where it stands in its tensor, and what it is in the contract. Raises what `wrong` makes."""

    def restated(self, output: Output, said: NDArray[np.float32], labels: NDArray[np.floating]) -> Iterator[Restated]:
        """The usual wrong statements of this kind, each as what would be right, of answers and labels (n, ...)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedScalar:
    """One number of the file, which is multiplied by `factor` to be one of the contract's.

    Attributes:
        tensor: in the file; "" for the only one.
        index: of the number in its tensor.
        unit, scale, low, high: as in `Scalar`.
        positive: "left" turns its sign, as the car knows no other direction than "right".
    """

    kind: ClassVar[Literal["scalar"]] = "scalar"

    tensor: str = ""
    index: int = 0
    factor: float = 1.0
    unit: str = ""
    scale: float = 1.0
    low: float = -1.0
    high: float = 1.0
    positive: Literal["", "right", "left", "forward"] = ""

    @property
    def full_scale_deg(self) -> float | None:
        return self.scale if self.unit == "deg" else None

    def settled(self, name: str, drives: Sequence[Drive]) -> tuple[Self, str]:
        return self, ""

    def found_out(self, name: str, taken: Taken, said: NDArray[np.float32]) -> tuple[Self, str]:
        return self, ""

    def made(self, name: str, tensor: Tensor, wrong: Wrong) -> tuple[Taken, Output]:
        if not 0 <= self.index < int(np.prod(tensor.shape)) or not (np.isfinite(self.factor) and self.factor):
            raise wrong(f"outputs.{name}", f"index of a number in {tensor}, factor other than 0")
        factor = self.factor * (-1.0 if self.positive == "left" else 1.0)
        limits = {key: getattr(self, key) for key in ("unit", "scale", "low", "high")}
        positive = "right" if self.positive == "left" else self.positive
        return Taken(tensor=tensor, places=(self.index,), factor=factor), Scalar(name=name, positive=positive, **limits)

    def restated(self, output: Output, said: NDArray[np.float32], labels: NDArray[np.floating]) -> Iterator[Restated]:
        """The other sign, degrees, radians."""
        factors = {-1.0: "the other sign", 1 / output.scale: "degrees", DEGREES_PER_RADIAN / output.scale: "radians"}
        for factor, what in factors.items():
            if factor < 0 or (output.unit == "deg" and abs(np.log(factor)) >= 0.2):
                words = f"--set outputs.{output.name}.factor={factor:.4g} on top ({what})"
                yield words, said * np.float32(factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedClasses:
    """A tensor with a number for each class.

    Attributes:
        tensor: in the file; "" for the only one.
        names: of the classes, in the file's order; none takes the recordings', in natural order.
        gives: as in `Classes`; "" finds it out from the answers.
        reject_below: as in `Classes`.
    """

    kind: ClassVar[Literal["classes"]] = "classes"

    tensor: str = ""
    names: tuple[str, ...] = ()
    gives: Literal["", "logits", "probabilities"] = ""
    reject_below: float = 0.0

    @property
    def full_scale_deg(self) -> float | None:
        return None

    def settled(self, name: str, drives: Sequence[Drive]) -> tuple[Self, str]:
        found = in_order([n for drive in drives for n in drive.label_names.get(name, ())])
        if self.names or not found:
            return self, ""
        return dataclasses.replace(self, names=found), (
            f"{name}: the file's classes are taken to be in the natural order of the recordings' names: "
            f"{quoted(found, 12)}; state outputs.{name}.names where it has another"
        )

    def found_out(self, name: str, taken: Taken, said: NDArray[np.float32]) -> tuple[Self, str]:
        """Whether its numbers are probabilities: 0 or more, with a sum of 1."""
        step = taken.tensor.affine.scale if taken.tensor.affine else 0.0
        positive = bool((said >= 0).all())
        sums = positive and float(np.abs(said.sum(axis=1) - 1).max()) <= 1e-3 + step * len(self.names) / 2
        if self.gives == "probabilities" and not sums:
            raise UsageError(f"outputs.{name}.gives: logits expected, as its numbers do not add up to 1")
        if self.gives:
            return self, ""
        gives: Literal["logits", "probabilities"] = "probabilities" if sums else "logits"
        why = "are 0 or more and add up to 1" if sums else "do not add up to 1"
        line = f"{name}: gives {gives}, as its numbers {why}"
        if positive and not sums and float(said.max()) <= 1:
            line += "; they lie in 0..1, as those of a sigmoid for each class do, which is no answer of one class"
        return dataclasses.replace(self, gives=gives), line

    def made(self, name: str, tensor: Tensor, wrong: Wrong) -> tuple[Taken, Output]:
        size = int(np.prod(tensor.shape))
        if name in ("steering", "throttle"):
            raise wrong(f"outputs.{name}.kind", "scalar, which recordings have labels of,")
        if len(self.names) != size:
            found = f", found {len(self.names)}," if self.names else ""
            raise wrong(f"outputs.{name}.names", f"{size} names, one for each number of {tensor}{found}")
        output = Classes(name=name, names=self.names, gives=self.gives or "logits", reject_below=self.reject_below)
        return Taken(tensor=tensor, places=tuple(range(size))), output

    def restated(self, output: Output, said: NDArray[np.float32], labels: NDArray[np.floating]) -> Iterator[Restated]:
        """The names in the order in which most labels agree, where either half of the pictures asks for the same."""
        known = np.flatnonzero(task_of(output).known(labels))
        orders = [_order(said[half], labels[half]) for half in (known[::2], known[1::2])]
        if (orders[0] == orders[1]).all() and (orders[0] != np.arange(len(self.names))).any():
            names = [self.names[place] for place in orders[0]]
            answers = np.empty_like(said)
            answers[:, orders[0]] = said
            yield f"--set 'outputs.{output.name}.names={_toml(names)}'", answers


def _order(said: NDArray[np.float32], labels: NDArray[np.floating]) -> NDArray[np.int64]:
    """The class that each of the file's numbers stands for, by labels (n,); its own where nothing tells."""
    agree = np.eye(said.shape[1]) / 2
    np.add.at(agree, (said.argmax(axis=1), labels.astype(np.int64)), 1)
    order = np.empty(len(agree), np.int64)
    for _ in order:  # The pair that most pictures agree about, then that of what is left.
        place, stands_for = np.unravel_index(agree.argmax(), agree.shape)
        order[place] = stands_for
        agree[place], agree[:, stands_for] = -1, -1
    return order


def _toml(names: Sequence[str]) -> str:
    import json

    return json.dumps(names, ensure_ascii=False)


if TYPE_CHECKING:
    AnyStated = StatedOutput  # Nobody may lean on what one kind alone has.
else:
    AnyStated = StatedScalar | StatedClasses  # The first is meant where nothing is said.
