"""What every kind of output can do. Whoever compares, judges, chooses or draws answers asks here and knows no kind.

Answers of n pictures are arrays (n, *output.shape). Those of a scalar may also be (n,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval

__all__ = ["Array", "Box", "Color", "Evidence", "Figure", "GateRule", "OutputTask"]

Array = NDArray[np.floating]
Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

Color = tuple[int, int, int]
"""BGR."""

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
        labels: (n, *shape), NaN where none is known.
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
    """

    name: str
    figure: Callable[[Evidence], Figure]
    fault: Callable[[Any, float, int], str]
    remark: Callable[[Any, float], str] = lambda _figure, _limit: ""


class OutputTask(Protocol):
    """One output of a contract with the arithmetic of its kind. Numpy only."""

    @property
    def output(self) -> Any:
        """The contract's output: `name`, `shape` of one answer and `unit` whatever its kind."""

    def decode(self, raw: NDArray[np.float32]) -> Any:
        """One answer (*shape) as the car obeys it, in memory of its own."""

    def distance(self, a: Array, b: Array) -> NDArray[np.float64]:
        """(n,): how far two sets of answers are apart, decoded, in `output.unit`."""

    def error(self, said: Array, label: Array) -> NDArray[np.float64]:
        """(n,): error of decoded answers against labels, in label units; NaN where the label is unknown."""

    def gates(self) -> tuple[GateRule, ...]:
        """What a file must keep."""

    def tails(self, said: Array, label: Array | None) -> list[NDArray[np.int64]]:
        """Orders of all n pictures, each from the most to the least extreme in some way; ties keep their order.

        The first runs from one end of the answers to the other.
        """

    def words(self, value: Any) -> str:
        """A decoded answer for people."""

    def draw(self, canvas: NDArray[np.uint8], value: Any, box: Box, color: Color, recorded: Any = None) -> None:
        """Draw a decoded answer, and what was recorded, as a gauge into a box of a canvas (H, W, 3) BGR."""
