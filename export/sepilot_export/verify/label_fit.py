"""Is a file's picture what somebody says it is? The labels of a recording tell, where it has any.

A wrong crop, swapped colours or a wrong range make no file fail: it answers, and whoever gave the reference was fed the
same. So the statement is held against others that are wrong in the usual ways. One of them with a clearly smaller error
against the labels means that it is right; an error clearly above that of a constant, that something else is wrong.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.stated import RANGES, Plan, StatedContract
from sepilot_runtime.base.bootstrap import paired_bootstrap_mean
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of

__all__ = ["label_faults", "no_better", "other_pictures"]

CLEARLY = 0.03
"""By this share a mean error must be smaller, and by more than its noise.

A net of ours that was trained with a crop of 0.25, on 1,000 held-out frames of a real drive: its error was larger by
16 % without a crop (95 % within 13 to 19), by 3 % with 0.2 (1 to 5), by 6 % with 0.4 (3 to 9), by 7 % in another range
(4 to 9). Neighbours are below the noise: with 0.28 and 0.3 it was 0.5 % smaller (1.8 smaller to 0.9 larger), with the
other `resize` the same. So these are not tried; labels do not tell a crop that is off by a twentieth of the frame.
"""

CROPS = (0.0, 0.25, 1 / 3, 0.4, 0.5)
"""Of the top, as nets for roads have them."""

Answers = Mapping[str, NDArray[np.float32]]


def other_pictures(stated: StatedContract, plan: Plan) -> Iterator[tuple[str, StatedContract]]:
    """Statements that differ in one thing about the picture, each with its words for the command line."""

    def changed(**values: object) -> tuple[str, StatedContract]:
        words = " ".join(f"--set picture.{key}={value}" for key, value in values.items() if value != ())
        return words, dataclasses.replace(stated, picture=dataclasses.replace(stated.picture, **values))  # type: ignore[arg-type]

    if plan.picture.channels == 3:
        yield changed(color="bgr" if plan.reversed else "rgb")
    if plan.image.affine is None and plan.image.dtype.kind == "f":
        for name, (factor, offset) in RANGES.items():
            if not (np.allclose(plan.factor, factor) and np.allclose(plan.offset, offset)):
                yield changed(range=name, mean=(), std=())
    for crop in CROPS:
        if abs(crop - stated.picture.crop_top) > 0.02 and crop + stated.picture.crop_bottom < 1:
            yield changed(crop_top=round(crop, 3))


def label_faults(
    outputs: Sequence[Output],
    said: Answers,
    labels: Answers,
    drives: Sequence[str],
    others: Mapping[str, Callable[[], Answers]],
) -> list[str]:
    """What the labels have against a statement, a line each; nothing where there are none.

    Args:
        said, labels: (n,) of each output, labels NaN where there is none.
        others: words of another statement to the answers under it.
    """
    errors = _Errors(outputs, labels, drives)
    if not errors.known:
        return []
    found: dict[str, tuple[float, str]] = {}
    for words, answers in itertools.chain(_exchanged(outputs, said), ((w, ask()) for w, ask in others.items())):
        for name, share in errors.smaller(said, answers).items():
            if share > found.get(name, (0.0, ""))[0]:
                found[name] = share, words
    lines = [
        f"{name}: its error against {errors.count(name)} labels is {share:.0%} smaller with {words}: state that"
        for name, (share, words) in found.items()
    ]
    return lines or [
        f"{name}: its error against {errors.count(name)} labels is {own:.3f}, that of a constant {constant:.3f}: the "
        "picture or the output is not as stated"
        for name, own, constant in errors.worse_than_constant(said)
    ]


def no_better(outputs: Sequence[Output], said: Answers, labels: Answers, drives: Sequence[str]) -> list[str]:
    """The outputs that are not clearly nearer to their labels than a constant is, a line each."""
    errors = _Errors(outputs, labels, drives)
    return [f"{name}: no better against its labels than a constant" for name in errors.no_better_than_constant(said)]


def _exchanged(outputs: Sequence[Output], said: Answers) -> Iterator[tuple[str, Answers]]:
    """One output taken for another of its kind."""
    for one, other in itertools.combinations(outputs, 2):
        if (one.kind, one.shape) == (other.kind, other.shape):
            a, b = one.name, other.name
            yield f"{a} and {b} exchanged", {a: said[b], b: said[a]}


class _Errors:
    """Errors against the labels of the outputs that have any, compared frame by frame."""

    def __init__(self, outputs: Sequence[Output], labels: Answers, drives: Sequence[str]) -> None:
        self._tasks = {o.name: task_of(o) for o in outputs}
        self._labels, self._drives = labels, np.array(drives)
        self.known = {n: k for n, t in self._tasks.items() if n in labels and (k := t.known(labels[n])).sum() >= 8}

    def count(self, name: str) -> int:
        return int(self.known[name].sum())

    def _of(self, name: str, said: NDArray[np.float32]) -> NDArray[np.float64]:
        known = self.known[name]
        return self._tasks[name].error(said[known], self._labels[name][known])

    def smaller(self, said: Answers, other: Answers) -> dict[str, float]:
        """By which share the errors of `other` are smaller, where they clearly are."""
        found = {}
        for name in self.known.keys() & other.keys():
            mine, theirs = self._of(name, said[name]), self._of(name, other[name])
            change = paired_bootstrap_mean(theirs - mine, list(self._drives[self.known[name]]))
            if change.high < 0 and -change.mean > CLEARLY * mine.mean():
                found[name] = float(-change.mean / mine.mean())
        return found

    def worse_than_constant(self, said: Answers) -> Iterator[tuple[str, float, float]]:
        """Name, error and a constant's error, of outputs that are clearly worse."""
        for name, constant in self._constants():
            if self.smaller(said, {name: constant}):
                yield name, float(self._of(name, said[name]).mean()), float(self._of(name, constant).mean())

    def no_better_than_constant(self, said: Answers) -> Iterator[str]:
        for name, constant in self._constants():
            if not self.smaller({name: constant}, {name: said[name]}):
                yield name

    def _constants(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for name, known in self.known.items():
            constant = self._tasks[name].constant(self._labels[name][known])
            shape = len(known), *self._tasks[name].output.shape
            yield name, np.broadcast_to(np.asarray(constant, np.float32), shape)
