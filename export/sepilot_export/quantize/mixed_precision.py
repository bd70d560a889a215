"""Which layers an int8 file must keep in float32 to hold its gates.

Each layer is quantized alone, the rest left in float32, and its damage is what then happens to the steering. The most
damaging are kept in float32, one more at a time, until the file holds; then each of them is tried in int8 once more, as
the ranking knows nothing of how layers act together. Everything is decided on trial frames, none of which judges the
file in the end.

Float32 and not int16 activations: LiteRT has no fast kernels for those and takes 30 times as long with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sepilot_export.convert.formats import GateLimits
from sepilot_export.convert.in_memory import Suffix, pilot_of
from sepilot_export.record.exports import Cost
from sepilot_export.verify.timing import time_pilots
from sepilot_export.verify.tuning_set import TuningSet
from sepilot_runtime.base.errors import ModelFileError

__all__ = ["Mixed", "Quantizer", "Sensitivity", "keep_float", "rank"]

RANKING_FRAMES = 256

MOST_KEPT = 0.5
"""Share of the layers. With more of them in float32 a file has neither the size nor the speed that int8 is for."""


class Quantizer(Protocol):
    """Makes int8 files of one float32 file."""

    suffix: Suffix

    @property
    def layers(self) -> Sequence[str]:
        """In the order of computation."""

    def quantize(self, kept: Sequence[str]) -> bytes:
        """All layers but `kept` in int8."""

    def quantize_alone(self, layer: str) -> bytes:
        """One layer in int8, all others in float32."""

    def float32(self) -> bytes:
        """The file that it quantizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What int8 does to the output when only this layer is quantized: mean and largest deviation in degrees."""

    layer: str
    mean_deg: float
    max_deg: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Mixed:
    """What came of a search.

    Attributes:
        content: the file that holds its gates on the trial frames; the plain one where that does, or where none does.
        kept: layers in float32, from the most damaging.
        reasons: why the plain file was not good enough; empty when it was.
        damage: of every layer, from the worst; empty when it was not needed.
        cost: None where nothing is kept.
    """

    content: bytes
    kept: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    damage: tuple[Sensitivity, ...] = ()
    cost: Cost | None = None


def keep_float(
    quantizer: Quantizer,
    trial: TuningSet,
    limits: GateLimits,
    ranking: Callable[[], tuple[Sensitivity, ...]],
    *,
    always: Sequence[str] = (),
) -> Mixed:
    """Find the layers to keep; see the module's text.

    Args:
        ranking: of `rank`, asked for only when it is needed.
        always: layers that are in float32 in any case.
    """
    plain = quantizer.quantize(always)
    reasons = trial.misses(plain, quantizer.suffix, limits)
    if not reasons:
        return Mixed(content=plain)
    damage = ranking()
    candidates = [d.layer for d in damage if d.layer not in always and d.mean_deg > 0]

    def holds(kept: Sequence[str]) -> bool:
        return not trial.misses(quantizer.quantize([*always, *kept]), quantizer.suffix, limits)

    kept: list[str] = []
    for layer in candidates[: max(1, int(MOST_KEPT * len(damage)))]:
        kept.append(layer)
        if holds(kept):
            break
    else:
        return Mixed(content=plain, reasons=reasons, damage=damage)
    for layer in reversed(kept[:-1]):
        fewer = [k for k in kept if k != layer]
        if holds(fewer):
            kept = fewer
    content = quantizer.quantize([*always, *kept])
    cost = _cost(content, plain, quantizer.float32(), quantizer.suffix, trial)
    return Mixed(content=content, kept=tuple(kept), reasons=reasons, damage=damage, cost=cost)


def rank(quantizer: Quantizer, trial: TuningSet) -> tuple[Sensitivity, ...]:
    """The damage of each layer, from the worst, on a part of the frames."""
    trial = trial.thinned(RANKING_FRAMES)
    output = trial.contract.outputs[0]
    expected = np.clip(trial.predictions.astype(np.float64), output.low, output.high)
    found = []
    for layer in quantizer.layers:
        try:
            answers = trial.answers(quantizer.quantize_alone(layer), quantizer.suffix)
        except ModelFileError:  # It answers NaN, or does not run at all: no worse damage.
            found.append(Sensitivity(layer=layer, mean_deg=2 * output.scale, max_deg=2 * output.scale))
            continue
        error = np.abs(np.clip(answers.astype(np.float64), output.low, output.high) - expected) * output.scale
        # Float32 arithmetic of another order.
        mean = float(error.mean())
        found.append(Sensitivity(layer=layer, mean_deg=mean if mean > 1e-4 else 0.0, max_deg=float(error.max())))
    return tuple(sorted(found, key=lambda d: -d.mean_deg))


def _cost(content: bytes, plain: bytes, float32: bytes, suffix: Suffix, trial: TuningSet) -> Cost:
    contents = (content, plain, float32)
    pilots = [pilot_of(c, suffix, trial.contract) for c in contents]
    us = [round(latency.p50_us, 1) for latency in time_pilots(pilots, trial.pictures[:64])]
    return Cost(
        us=us[0], plain_us=us[1], float32_us=us[2],
        bytes=len(content), plain_bytes=len(plain), float32_bytes=len(float32),
    )  # fmt: skip
