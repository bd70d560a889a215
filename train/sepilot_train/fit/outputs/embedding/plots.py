"""Figures of vectors: how far same and different are apart, and what a threshold costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from sepilot_runtime.contract.outputs.embedding.output import Embedding
from sepilot_runtime.contract.outputs.protocol import Array
from sepilot_train.base.plots import ACCENT, INK, SECOND, Plot
from sepilot_train.fit.outputs.embedding.metrics import EmbeddingMetrics, Pairs

__all__ = ["plots_of"]

BINS = 60


def plots_of(labels: Array, said: Array, metrics: EmbeddingMetrics, output: Embedding) -> tuple[Plot, ...]:
    """Of held-out pictures: identities (n,) and vectors (n, size)."""
    pairs, found = Pairs(labels, said), metrics.verification
    beside = "" if metrics.pixels is None else f"\npixels alone {metrics.pixels.eer:.1%}"
    return (
        Plot(
            name="similarities",
            title="How alike are two pictures?",
            x="similarity (cosine)",
            y="share of the pairs",
            label=f"{output.name}: similarities of pairs of held-out pictures, of one identity and of two",
            draw=lambda ax: _similarities(ax, pairs, metrics.threshold),
            key=(("same identity", ACCENT), ("different", SECOND), ("threshold", INK)),
        ),
        Plot(
            name="roc",
            title="What does a threshold cost?",
            x="different ones accepted",
            y="same ones accepted",
            label=f"{output.name}: receiver operating characteristic of all pairs of held-out pictures",
            draw=lambda ax: _roc(ax, pairs, metrics),
            shape="square",
            note=f"equal error rate {found.eer:.1%}{beside}",
        ),
    )


def _similarities(ax: Any, pairs: Pairs, threshold: float) -> None:
    edges = np.linspace(min(pairs.same.min(initial=0), pairs.different.min(initial=0)), 1, BINS + 1)
    for values, color in ((pairs.different, SECOND), (pairs.same, ACCENT)):
        shares = np.histogram(values, edges)[0] / max(len(values), 1)
        ax.stairs(shares, edges, color=color, fill=True, alpha=0.45)
    ax.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))


def _roc(ax: Any, pairs: Pairs, metrics: EmbeddingMetrics) -> None:
    true, false = pairs.accepted(np.linspace(-1, 1.001, 2000))
    ax.plot(false, true, color=ACCENT, linewidth=2)
    ax.plot(metrics.false_accept_rate, metrics.verification.tar, "o", color=INK)
    ax.set_xscale("symlog", linthresh=1e-3)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.15)
