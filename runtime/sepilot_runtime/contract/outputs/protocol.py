"""What every kind of output can do. Whoever compares, judges, chooses or draws answers asks here and knows no kind.

Answers of n pictures are arrays (n, *output.shape); of one number they may also be (n,). Labels are (n, ...), as the
kind has them.

An output may come from several tensors of a model, such as boxes and scores, which a quantized file gives steps of
their own. They are called `<output>.<part>`, and the answer is all their numbers in a row, in the order of the names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval

__all__ = ["Array", "Box", "Color", "Evidence", "Figure", "GateRule", "Output", "OutputTask", "Tail",
           "Window", "joined", "parted"]  # fmt: skip

Array = NDArray[np.floating]
"""Answers (n, *output.shape), or labels, as the kind has them."""

Numbers = NDArray[np.float64]
Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

Color = tuple[int, int, int]
"""BGR."""

Window = tuple[float, float, float, float]
"""Left, top, width and height, in pixels of a frame, of what a picture shows; it may reach beyond the frame."""

Figure = float | Interval | None
"""What a gate goes by; None where there is nothing to go by."""


class Pictures(Protocol):
    """An array of pictures, or what gives them out one by one."""

    def __getitem__(self, place: Any, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """A file's answers with all that they are judged by.

    Attributes:
        said, expected: (n, *shape) of the file and of the training model, n >= 1, as the models gave them.
        labels: (n, ...), as the kind has them.
        drives: of each picture.
        pictures: (h, w, c) uint8 each.
    """

    said: Array
    expected: Array
    labels: Array
    drives: Sequence[str]
    pictures: Pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRule:
    """One demand on a file's answers.

    Attributes:
        name: key of its limit, and of its figure in documents.
        figure: what it goes by.
        fault: of a figure, the limit and the number of frames: what is wrong, for people; "" where the limit is kept.
        remark: of a figure and the limit: what the figure could not decide; "" for nothing.
        limits: by precision, of all of them; none where those of the table of formats are meant.
    """

    name: str
    figure: Callable[[Evidence], Figure]
    fault: Callable[[Any, float, int], str]
    remark: Callable[[Any, float], str] = lambda _figure, _limit: ""
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tail:
    """Pictures that are extreme in some way.

    Attributes:
        reason: in a word or two, for people.
        share: of a calibration set.
        order: of all n pictures, from the most to the least extreme; ties keep their order.
    """

    reason: str
    share: float
    order: NDArray[np.int64]


class Output(Protocol):
    """What a contract says of an output, whatever its kind."""

    kind: ClassVar[Any]

    @property
    def name(self) -> str:
        """Of the output in the model's signature."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one answer."""

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes, without the batch, of the tensors that make an answer, by their names in the model's signature."""

    @property
    def unit(self) -> str:
        """Of distances and errors that people are told of; "" where they are plain numbers."""

    @property
    def scale(self) -> float:
        """Of label units, in `unit`."""

    @property
    def magnitude(self) -> float:
        """Of `OutputTask.deviation`: what tolerances of golden frames are fractions of."""

    @property
    def full_scale(self) -> float:
        """The same in `unit`: what limits are fractions of."""

    @property
    def fine(self) -> float:
        """In `unit`: what is told of a difference at the finest."""


class OutputTask(Protocol):
    """One output of a contract with the arithmetic of its kind. Numpy only."""

    @property
    def output(self) -> Output: ...

    def decode(self, raw: NDArray[np.float32]) -> Any:
        """One answer (*shape) as the car obeys it: what JSON can hold, and a number where recordings have one."""

    def in_frame(self, value: Any, window: Window) -> Any:
        """A decoded answer with its places in pixels of the frame, of which the picture shows this window."""

    @property
    def has_places(self) -> bool:
        """Do answers name places, which `in_frame` moves?"""

    def labels(self, recorded: Array, names: Sequence[str], windows: Numbers) -> NDArray[np.float32]:
        """Labels as answers are held against, of those of a recording.

        Args:
            recorded: (n, ...), a column of `Drive.labels`.
            names: what its numbers stand for, if they stand for something (`Drive.label_names`).
            windows: (n, 4) left, top, width, height of what each picture shows, in fractions of its frame.
        """

    def known(self, labels: Array) -> NDArray[np.bool_]:
        """(n,): whether a label says anything."""

    def deviation(self, a: Array, b: Array) -> Numbers:
        """(n,): how far the models' own numbers are apart, before anything is cut off; golden frames go by it."""

    def distance(self, a: Array, b: Array) -> Numbers:
        """(n,): how far two sets of answers are apart, decoded, in `output.unit`."""

    def error(self, said: Array, label: Array) -> Numbers:
        """(n,): error of decoded answers against labels, in label units; NaN where the label is unknown."""

    def label_error(self, said: Array, label: Array) -> Numbers:
        """(n,): as `error`, of labels in place of answers: the cost of saying of a picture what is true of another."""

    def constant(self, labels: Array) -> Any:
        """The one answer that is right for most of these labels, as a model would give it: what costs nothing."""

    def r2(self, said: Array, labels: Array) -> float | None:
        """Share of the labels' variance that the answers explain; None where that means nothing."""

    def reading(self, said: Array, about: Array | None = None) -> Numbers:
        """(n,): how much each answer says of something, as one number in `output.unit`.

        Of a number, itself, also where it lies beyond `span`. Of other kinds, of what `about` says, (n, *shape) or
        (1, *shape), such as the class that it finds most probable; None: each of what it says itself. A kind whose
        `ends` are two opposite things ignores `about`.
        """

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest reading that the car obeys."""

    @property
    def ends(self) -> tuple[str, str]:
        """Where a lower and a higher reading go, in a word each."""

    def contrary(self, a: Array, b: Array) -> NDArray[np.bool_]:
        """(n,): whether the two answers say contrary things, whatever their distance."""

    @property
    def contrary_means(self) -> str:
        """What `contrary` goes by, behind a number of frames; "" where there is no such thing."""

    def asked(self, labels: Array) -> Mapping[str, tuple[float, float]]:
        """By tensor, the range of the numbers that a file has to be able to give to say these labels, where they tell.

        It holds zero.
        """

    def gates(self) -> tuple[GateRule, ...]:
        """What a file must keep."""

    def ordered(self, said: Array) -> NDArray[np.int64]:
        """All n pictures from one end of the answers to the other; what is picked evenly shows all that is said."""

    def tails(self, said: Array, label: Array | None) -> list[Tail]:
        """What calibration must not miss."""

    def ranked(self, said: Array) -> Sequence[tuple[str, float]]:
        """What an answer (1, *shape) could mean, in words, and how probable each is, the most probable first; nothing
        where an answer means one thing."""

    def words(self, value: Any) -> str:
        """A decoded answer, or a label, for people."""

    def draw(self, canvas: NDArray[np.uint8], value: Any, box: Box, color: Color, recorded: Any = None) -> None:
        """Draw a decoded answer, and the label that was recorded, as a gauge into a box of a canvas (H, W, 3) BGR."""

    def draw_on(self, frame: NDArray[np.uint8], value: Any, recorded: Any = None) -> None:
        """Draw the places that an answer names, in pixels of a frame (H, W, 3) BGR, into it, and the label that was
        recorded, which is in fractions of the frame. Not for outputs without places."""


def joined(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Answers (n, *shape) by output of those (n, ...) by tensor."""
    outputs: dict[str, list[str]] = {}
    for name in tensors:
        outputs.setdefault(name.partition(".")[0], []).append(name)
    return {
        output: tensors[names[0]]
        if len(names) == 1
        else np.concatenate([tensors[name].reshape(len(tensors[name]), -1) for name in sorted(names)], axis=1)
        for output, names in outputs.items()
    }


def parted(answers: Array, output: Output) -> dict[str, Array]:
    """Answers (n, *shape), or (n,), by tensor: the reverse of `joined`. Those of one answer are views of its memory."""
    flat, found, start = answers.reshape(len(answers), -1), dict[str, Array](), 0
    for name, shape in sorted(output.tensors.items()):
        size = math.prod(shape)
        found[name] = flat[:, start : start + size].reshape(len(answers), *shape)
        start += size
    return found
