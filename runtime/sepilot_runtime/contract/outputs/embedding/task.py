"""Arithmetic of vectors that are compared: how alike they are, and what a file may change about it.

A label says only which pictures show the same identity; the identities that a file is judged by are others than those
of the training. So an answer is judged by the answers to the other pictures: its error is 0 where the picture that is
most like it is of the same identity, 1 where it is not.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.embedding.output import Embedding
from sepilot_runtime.contract.outputs.increase import increase, increase_fault, increase_remark
from sepilot_runtime.contract.outputs.protocol import Array, Box, Color, Evidence, GateRule, Tail, Window

__all__ = ["EmbeddingTask", "evenly", "identity_number", "normalized"]

Values = NDArray[np.float64]

LIMITS: Mapping[str, Mapping[str, float]] = {
    "max_error": {"float32": 1e-5, "float16": 1e-3, "dynamic": 1e-2, "int8": 1e-2, "int8-float-head": 1e-2},
    "mae_increase": {"float32": 1e-5, "float16": 2e-3, "dynamic": 1e-2, "int8": 1e-2, "int8-float-head": 1e-2},
    "flips": {"float32": 1e-3, "float16": 1e-2, "dynamic": 0.1, "int8": 0.1, "int8-float-head": 0.1},
}
"""By gate and precision. A cosine of 0.99 is an angle of 8 degrees; different faces are 60 to 100 degrees apart."""

MOST_PICTURES = 2000
"""All pairs of so many are two million."""

ROWS = 512

TIE = 1e-9
"""Of a cosine: what int8 files and constants say of two pictures can be the same to the last bit."""

DECIMALS = 4
"""Of a vector in JSON: enough for a cosine, and half of the digits."""


class EmbeddingTask:
    """Answers (n, size) of any length are compared by their directions."""

    has_places = False
    ends = ("less alike", "more alike")
    span = (-1.0, 1.0)
    contrary_means = "that would not be taken for the same identity"

    def __init__(self, output: Embedding) -> None:
        self.output = output

    def decode(self, raw: NDArray[np.float32]) -> dict[str, Any]:
        """{"vector": size numbers, of length 1}. Whose it is, a gallery tells."""
        return {"vector": normalized(raw.reshape(1, -1))[0].round(DECIMALS).tolist()}

    def in_frame(self, value: Any, window: Window) -> Any:
        return value

    def labels(self, recorded: Array, names: Sequence[str], windows: Values) -> NDArray[np.float32]:
        """(n,) a number for each identity, the same for a name wherever it stands; NaN where none is known."""
        table = np.array([identity_number(name) for name in names] + [np.nan], np.float32)
        known = np.isfinite(recorded) & (recorded >= 0) & (recorded < len(names))
        return np.asarray(table[np.where(known, np.nan_to_num(recorded), len(names)).astype(np.int64)])

    def known(self, labels: Array) -> NDArray[np.bool_]:
        """Of an identity that is there twice: one picture alone is like no other."""
        _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return np.asarray(np.isfinite(labels) & (counts[place.reshape(-1)] > 1))

    def deviation(self, a: Array, b: Array) -> Values:
        """Distance by the mean length: of a file that normalizes by itself the vectors are others."""
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        lengths = (np.linalg.norm(a, axis=1) + np.linalg.norm(b, axis=1)) / 2
        return np.asarray(np.linalg.norm(a - b, axis=1) / np.maximum(lengths, 1e-30))

    def distance(self, a: Array, b: Array) -> Values:
        """1 - cosine."""
        return np.asarray(1 - (normalized(a) * normalized(b)).sum(axis=1))

    def error(self, said: Array, label: Array) -> Values:
        """0 where the nearest other picture is of the same identity, 1 where not, the share of wrong ones of several.

        NaN for identities with one picture. All that are given are the others.
        """
        found, vectors = np.full(len(label), np.nan), normalized(said)
        known = np.flatnonzero(self.known(label))
        mine, labels = vectors[known], label[known]
        for rows, likeness in similarities(mine):
            nearest = likeness >= likeness.max(axis=1, keepdims=True) - TIE
            same = labels[rows, None] == labels[None]
            found[known[rows]] = (nearest & ~same).sum(axis=1) / nearest.sum(axis=1)
        return found

    def label_error(self, said: Array, label: Array) -> Values:
        return np.where(np.isfinite(said) & np.isfinite(label), said != label, np.nan).astype(np.float64)

    def constant(self, labels: Array) -> list[float]:
        """One vector for all: no picture is like another one more than any other is."""
        return [1.0] + [0.0] * (self.output.size - 1)

    def r2(self, said: Array, labels: Array) -> float | None:
        return None

    def reading(self, said: Array, about: Array | None = None) -> Values:
        """The cosine to `about`."""
        mine = normalized(said)
        return np.asarray((mine * (mine if about is None else normalized(about))).sum(axis=1))

    def contrary(self, a: Array, b: Array) -> NDArray[np.bool_]:
        return np.asarray(self.reading(a, b) < self.output.threshold)

    def asked(self, labels: Array) -> Mapping[str, tuple[float, float]]:
        return {}

    def ordered(self, said: Array) -> NDArray[np.int64]:
        """Along the direction in which the vectors differ most."""
        apart = normalized(said)
        apart = apart - apart.mean(axis=0)
        axis = np.linalg.eigh(apart.T @ apart)[1][:, -1]
        axis = axis * np.sign(axis[np.abs(axis).argmax()])
        return np.argsort(apart @ axis, kind="stable")

    def tails(self, said: Array, label: Array | None) -> list[Tail]:
        mine = normalized(said)
        return [
            Tail(reason="least like the rest", share=0.16, order=np.argsort(mine @ mine.mean(axis=0), kind="stable")),
            Tail(reason="largest number", share=0.16, order=np.argsort(-np.abs(said).max(axis=1), kind="stable")),
        ]

    def words(self, value: Any) -> str:
        """Of an answer "vector of 64", or whom a gallery took it for; of a label "identity 1234567"."""
        if not isinstance(value, Mapping):
            return f"identity {int(value)}" if np.isfinite(value) else "unknown"
        if "similarity" in value:
            return f"{value['name'] or 'not recognized'} {value['similarity']:.2f}"
        return f"vector of {self.output.size}"

    def draw(self, canvas: NDArray[np.uint8], value: Any, box: Box, color: Color, recorded: Any = None) -> None:
        from sepilot_runtime.contract.outputs.embedding.drawing import draw_similarity, draw_vector

        if "similarity" in value:
            draw_similarity(canvas, value["similarity"], self.output.threshold, box, color)
        else:
            draw_vector(canvas, np.array(value["vector"]), box, color)

    def ranked(self, said: Array) -> Sequence[tuple[str, float]]:
        return ()

    def draw_on(self, frame: NDArray[np.uint8], value: Any, recorded: Any = None) -> None:
        """The whole picture is what is compared."""

    def gates(self) -> tuple[GateRule, ...]:
        return (
            GateRule(name="max_error", figure=self._max_error, fault=_error_fault, limits=LIMITS["max_error"]),
            GateRule(
                name="mae_increase", figure=self._increase, fault=increase_fault("share of wrong neighbours"),
                remark=increase_remark("share of wrong neighbours"), limits=LIMITS["mae_increase"],
            ),
            GateRule(name="flips", figure=self._flips, fault=_flip_fault, limits=LIMITS["flips"]),
        )  # fmt: skip

    def _max_error(self, found: Evidence) -> float:
        return float(self.distance(found.said, found.expected).max())

    def _increase(self, found: Evidence) -> Any:
        return increase(self, found)

    def _flips(self, found: Evidence) -> float | None:
        """Pairs of pictures that are taken for the same by one of the two alone, by the pairs that the model takes so.

        Most pairs are of different identities and far from the threshold; by all pairs no file would change anything.
        """
        chosen = evenly(len(found.said), MOST_PICTURES)
        taken = [
            np.concatenate([(cosines >= self.output.threshold)[cosines > -np.inf] for _, cosines in similarities(v)])
            for v in (normalized(answers[chosen]) for answers in (found.said, found.expected))
        ]
        said, expected = taken
        return float((said != expected).sum() / expected.sum()) if expected.any() else None


def normalized(vectors: Array) -> Values:
    """(n, size) brought to length 1; one of zeros stays, and is like none."""
    vectors = np.asarray(vectors, np.float64)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30))


def similarities(vectors: Values) -> Iterator[tuple[NDArray[np.int64], Values]]:
    """Cosines of vectors (n, size) of length 1 to all (rows, n), some rows at a time; -inf to itself."""
    for start in range(0, len(vectors), ROWS):
        rows = np.arange(start, min(start + ROWS, len(vectors)))
        found = vectors[rows] @ vectors.T
        found[np.arange(len(rows)), rows] = -np.inf
        yield rows, found


def identity_number(name: str) -> int:
    """24 bits, which float32 holds. Two of a thousand names have the same with a probability of 3 %."""
    return zlib.crc32(name.encode()) >> 8


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Places of at most `most` of `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _error_fault(error: float, limit: float, _pictures: int) -> str:
    return "" if error <= limit else f"a vector's cosine to the model's is {1 - error:.6g}, {1 - limit:g} needed"


def _flip_fault(flips: float | None, limit: float, _pictures: int) -> str:
    if flips is None or flips <= limit:
        return ""
    return f"{flips:.1%} as many pairs are taken for the same or no longer, as the model takes so; {limit:.1%} allowed"
