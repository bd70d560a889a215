"""How well vectors tell identities apart that were not trained on, beside comparing the pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.embedding.task import EmbeddingTask, evenly, normalized
from sepilot_runtime.contract.outputs.protocol import Array, Output
from sepilot_train.base.stored import Pictures
from sepilot_train.fit.outputs.protocol import COLLAPSED, Told

__all__ = ["EmbeddingMetrics", "Pairs", "beside_pixels", "embedding_metrics", "spread_of"]

MOST_PICTURES = 2000
"""All pairs of so many are two million."""

WAYS, EPISODES = 20, 2000
"""Of the one-shot test: one of so many identities, each known by one picture (Lake et al. 2015)."""

DRAWS = 11
"""Start of the random numbers of its episodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Telling same from different by the similarity of two pictures, over all pairs.

    Attributes:
        eer: equal error rate: share of wrong decisions at the threshold where as many of each kind are wrong.
        auc: probability that a pair of one identity is more alike than a pair of two.
        tar: share of pairs of one identity that are accepted at the stated false-accept rate.
        one_shot: share of right answers, which one of `ways` identities, each known by one picture.
    """

    eer: float
    auc: float
    tar: float
    one_shot: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingMetrics:
    """Attributes:
    count, identities: pictures and identities, none of them trained on.
    mae: share of pictures whose nearest neighbour is of another identity.
    constant, constant_mae: of one vector for all pictures.
    threshold: similarity that the share `false_accept_rate` of these pairs of different identities reaches.
    verification: of the vectors; `pixels`, of the pictures themselves, each without its mean.
    ways: of the one-shot test, 20 where there are as many identities.
    spread: 1 where the vectors point everywhere, 0 where all are the same.
    """

    kind: ClassVar[str] = "embedding"
    r2: ClassVar[None] = None
    constant_r2: ClassVar[None] = None

    count: int
    identities: int
    mae: float
    constant: tuple[float, ...]
    constant_mae: float
    threshold: float
    false_accept_rate: float
    verification: Verification
    pixels: Verification | None = None
    ways: int
    spread: float

    @property
    def figures(self) -> Mapping[str, float]:
        found = {**dataclasses.asdict(self.verification), "rank1": 1 - self.mae, "spread": self.spread}
        if self.pixels is not None:
            found |= {f"pixels_{name}": value for name, value in dataclasses.asdict(self.pixels).items()}
        return found | {"frames": float(self.count), "identities": float(self.identities)}

    def told(self, output: Output) -> tuple[Told, ...]:
        mine, theirs = self.verification, self.pixels

        def row(name: str, key: str, remark: str) -> Told:
            beside = "" if theirs is None else f"; pixels {getattr(theirs, key):.1%}"
            return Told(name=name, value=f"{getattr(mine, key):.1%}", remark=remark + beside)

        return (
            row("Equal error rate", "eer", f"{self.count:,} pictures of {self.identities:,} unseen identities"),
            row("Accepted", "tar", f"of one identity, at {self.false_accept_rate:.1%} false accepts"),
            row(f"{self.ways}-way one-shot", "one_shot", "each known by one picture"),
            Told(name="Nearest neighbour", value=f"{1 - self.mae:.1%}", remark="of the same identity"),
            Told(name="Threshold", value=f"{self.threshold:.3f}", remark="similarity, as the contract has it"),
            *([_collapsed(self.spread)] if self.spread < COLLAPSED else []),
        )


def _collapsed(spread: float) -> Told:
    return Told(name="Collapsed", value=f"{spread:.3f}", remark="spread: all pictures have nearly the same vector")


class Pairs:
    """Similarities of all pairs of pictures, of at most `MOST_PICTURES`.

    Attributes:
        same, different: sorted, of the pairs of one identity and of two.
    """

    def __init__(self, labels: Array, vectors: Array) -> None:
        chosen = evenly(len(labels), MOST_PICTURES)
        self.labels, mine = np.asarray(labels)[chosen], normalized(np.asarray(vectors)[chosen])
        self.cosines = mine @ mine.T
        first, second = np.triu_indices(len(chosen), 1)
        found, equal = self.cosines[first, second], self.labels[first] == self.labels[second]
        self.same, self.different = np.sort(found[equal]), np.sort(found[~equal])

    def threshold(self, rate: float) -> float:
        """Similarity that at most the share `rate` of pairs of two identities reaches."""
        allowed = int(rate * len(self.different))
        if not allowed:
            return min(1.0, float(self.different[-1:].max(initial=0.0)) + 1e-6)
        highest = self.different[::-1]
        return float(highest[allowed - 1] + highest[min(allowed, len(highest) - 1)]) / 2

    def accepted(self, thresholds: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The shares of pairs of one identity and of two that reach each threshold."""
        same, different = (
            1 - np.searchsorted(found, thresholds, side="left") / max(len(found), 1)
            for found in (self.same, self.different)
        )
        return np.asarray(same), np.asarray(different)

    def verification(self, rate: float) -> Verification:
        every = np.unique(np.concatenate([self.same, self.different]))
        true, false = self.accepted(every)
        at = int(np.abs(1 - true - false).argmin())
        below, up_to = (np.searchsorted(self.different, self.same, side=side) for side in ("left", "right"))
        return Verification(
            eer=float((1 - true[at] + false[at]) / 2),
            auc=float((below + up_to).mean() / 2 / max(len(self.different), 1)),
            tar=float(self.accepted(np.array([self.threshold(rate)]))[0][0]),
            one_shot=self.one_shot(),
        )

    def ways(self) -> int:
        return min(WAYS, len(np.unique(self.labels)))

    def one_shot(self) -> float:
        """Share of right answers of episodes drawn at random, the same for every net."""
        random, hits = np.random.default_rng(DRAWS), 0
        places = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        several = [i for i, own in enumerate(places) if len(own) > 1]
        for _ in range(EPISODES):
            who = several[random.integers(len(several))]
            others = [i for i in random.permutation(len(places)) if i != who][: self.ways() - 1]
            asked, known = random.choice(places[who], 2, replace=False)
            shown = [known, *(random.choice(places[i]) for i in others)]
            likeness = self.cosines[asked, shown]
            hits += bool(likeness[0] > likeness[1:].max(initial=-2.0))
        return hits / EPISODES


def embedding_metrics(
    labels: Array, answers: Array, constant: Any, task: EmbeddingTask, rate: float
) -> EmbeddingMetrics:
    """Answers (n, size) to pictures of identities (n,), at least two of which are there twice."""
    pairs, still = Pairs(labels, answers), np.broadcast_to(np.asarray(constant, np.float64), answers.shape)
    return EmbeddingMetrics(
        count=len(labels),
        identities=len(np.unique(labels)),
        mae=float(np.nanmean(task.error(answers, labels))),
        constant=tuple(float(value) for value in constant),
        constant_mae=float(np.nanmean(task.error(still, labels))),
        threshold=round(pairs.threshold(rate), 6),
        false_accept_rate=rate,
        verification=pairs.verification(rate),
        ways=pairs.ways(),
        spread=spread_of(answers),
    )


def beside_pixels(metrics: EmbeddingMetrics, labels: Array, pictures: Pictures) -> EmbeddingMetrics:
    """With what comparing the pictures (n, h, w, c) themselves would give."""
    chosen = evenly(len(labels), MOST_PICTURES)
    pixels = pictures[chosen].reshape(len(chosen), -1).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    found = Pairs(np.asarray(labels)[chosen], pixels).verification(metrics.false_accept_rate)
    return dataclasses.replace(metrics, pixels=found)


def spread_of(answers: Array) -> float:
    """Of the directions of vectors (n, size): the root of the sum of their numbers' variances, 0 to 1."""
    return float(np.sqrt(max(0.0, 1 - np.square(normalized(answers).mean(axis=0)).sum())))
