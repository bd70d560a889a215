"""How vectors are learned that tell identities apart, also such as were never seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.contract.outputs.embedding.output import Embedding
from sepilot_runtime.contract.outputs.embedding.task import EmbeddingTask
from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.plots import Plot
from sepilot_train.base.ranges import require_in
from sepilot_train.base.stored import Pictures
from sepilot_train.fit.outputs.embedding.metrics import EmbeddingMetrics, beside_pixels, embedding_metrics, spread_of
from sepilot_train.fit.outputs.embedding.plots import plots_of
from sepilot_train.fit.outputs.protocol import Labels, Motion
from sepilot_train.fit.settings import TrainingSettings

__all__ = ["EmbeddingTarget"]

FEWEST = 4
"""Identities: two to train on and two to judge on."""

FEWEST_LEARNED = 10
"""Identities that something is learned from which holds for others."""

FEWEST_ACCEPTED = 10
"""False accepts that a threshold is set by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingTarget:
    """A vector per picture, alike for pictures with the same label. One net sees one picture: the tower alone.

    Attributes:
        label: the recordings' label that says who or what a picture shows.
        size: numbers of the vector.
        weight: of its loss in the sum of all.
        loss: "contrastive" pulls each picture to all of its identity among all others in the batch; "triplet" compares
            it with one of its own and one other.
        temperature: of "contrastive"; the smaller, the more the hardest others count.
        margin: of "triplet": by how much, in squared distance (0 to 4), others are to be farther away.
        mining: of "triplet": which others. "semi-hard": the nearest that is farther than the own; "hard": the nearest;
            "warm-up": from the first to the second, by the share of pictures in the batch that are right already.
        pictures_of_each: that stand together in a batch, of one identity.
        false_accept_rate: share of pairs of different validation identities that the contract's threshold lets pass.
    """

    kind: ClassVar[Literal["embedding"]] = "embedding"
    sideways: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    mirrors: ClassVar[bool] = True

    label: str = "class"
    size: int = 64
    weight: float = 1.0
    loss: Literal["contrastive", "triplet"] = "contrastive"
    temperature: float = 0.1
    margin: float = 0.4
    mining: Literal["warm-up", "semi-hard", "hard"] = "warm-up"
    pictures_of_each: int = 4
    false_accept_rate: float = 0.01

    def __post_init__(self) -> None:
        require_in("weight", self.weight, 0, 1e6)
        require_in("temperature", self.temperature, 1e-3, 10)
        require_in("margin", self.margin, 0, 4)
        require_in("pictures_of_each", self.pictures_of_each, 2, 1000)

    def fitted(self, picture: Picture) -> Self:
        return self

    def settled(self, name: str, drives: Sequence[Drive], picture: Picture) -> Self:
        found = {n for drive in drives for n in drive.label_names.get(self.label, ())}
        if found and len(found) < FEWEST:
            raise DriveError(
                f"{drives[0].path}: {FEWEST} identities or more expected, found {', '.join(sorted(found))}"
            )
        return self

    def output(self, name: str, full_scale_deg: float) -> Embedding:
        return Embedding(name=name, size=self.size, false_accept_rate=self.false_accept_rate)

    def remarks(self, train: Labels, validation: Labels) -> Sequence[str]:
        _, counts = np.unique(validation, return_counts=True)
        different = (counts.sum() ** 2 - (counts**2).sum()) // 2
        found = []
        if self.false_accept_rate * different < FEWEST_ACCEPTED:
            found.append(
                f"{different:,} pairs of different identities to judge on: too few to find the threshold that "
                f"{self.false_accept_rate:.1%} of them reach"
            )
        if len(np.unique(train)) < FEWEST_LEARNED:
            found.append(f"{len(np.unique(train))} identities to train on: hardly enough to know new ones apart by")
        return found

    def losses(self, name: str, settings: TrainingSettings) -> Mapping[str, Any]:
        from sepilot_train.fit.outputs.embedding.losses import PairLoss

        loss = PairLoss(self.loss, margin=self.margin, mining=self.mining, temperature=self.temperature)
        return {name: loss}

    def moved(self, labels: Labels, motion: Motion) -> Labels:
        return labels

    def wanted(self, name: str, labels: Labels) -> Mapping[str, Labels]:
        return {name: labels[:, None]}

    def taught(self, name: str, said: Mapping[str, Labels]) -> Mapping[str, Labels]:
        return {name: said[name]}

    def mae(self, labels: Labels, answers: Labels) -> float:
        """Share of pictures whose nearest neighbour is of another identity."""
        return float(np.nanmean(self._task.error(answers, labels)))

    def metrics(self, labels: Labels, answers: Labels, constant: Any) -> EmbeddingMetrics:
        return embedding_metrics(labels, answers, constant, self._task, self.false_accept_rate)

    def plots(self, labels: Array, answers: Array, metrics: EmbeddingMetrics, output: Embedding) -> tuple[Plot, ...]:
        return plots_of(labels, answers, metrics, output)

    def arranged(self, labels: Labels, random: np.random.Generator) -> NDArray[np.int64]:
        """Few of each identity in a row, so that a batch, wherever it begins, has several identities and pictures."""
        order = random.permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        _, starts = np.unique(labels[order], return_index=True)
        rank = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
        # Each few get a place at random in front of all that follow them.
        number = np.cumsum(rank % self.pictures_of_each == 0) - 1
        places = random.permutation(number[-1] + 1)
        return np.asarray(order[np.argsort(places[number], kind="stable")])

    def spread(self, answers: Labels) -> float:
        return spread_of(answers)

    def beside_pixels(self, metrics: Any, labels: Labels, pictures: Pictures) -> EmbeddingMetrics:
        return beside_pixels(metrics, labels, pictures)

    def judged(self, output: Any, metrics: Any) -> Embedding:
        """With the threshold of the identities that were not trained on."""
        judged: Embedding = dataclasses.replace(output, threshold=metrics.threshold)
        return judged

    @property
    def _task(self) -> EmbeddingTask:
        return EmbeddingTask(self.output("", 1.0))
