"""Which layers an int8 file must keep in float32 to hold its gates.

Each layer is quantized alone, the rest left in float32, and its damage is what then happens to the answers. The most
damaging are kept in float32, one more at a time, until the file holds; then each of them is tried in int8 once more, as
the ranking knows nothing of how layers act together. Everything is decided on trial frames, none of which judges the
file in the end.

Float32 and not int16 activations: LiteRT has no fast kernels for those and takes 30 times as long with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sepilot_export.convert.formats import Limits
from sepilot_export.convert.in_memory import Suffix, pilot_of
from sepilot_export.quantize.quantizers import Quantizer
from sepilot_export.record.exports import Cost
from sepilot_export.verify.timing import time_pilots
from sepilot_export.verify.tuning_set import TuningSet
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.contract.outputs.kinds import task_of

__all__ = ["Mixed", "Sensitivity", "keep_float", "rank"]

RANKING_FRAMES = 256

MOST_KEPT = 0.5
"""Share of the layers. With more of them in float32 a file has neither the size nor the speed that int8 is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What int8 does to the answers when only this layer is quantized.

    Attributes:
        output: the one that moves the most, as a part of its full scale.
        unit: of the figures, that output's.
        mean, max: deviation.
        share: `mean` as a part of the full scale.
    """

    layer: str
    output: str
    unit: str
    mean: float
    max: float
    share: float


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
    limits: Limits,
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
    candidates = [d.layer for d in damage if d.layer not in always and d.share > 0]

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
    cost = _cost(content, plain, quantizer.float32, quantizer.suffix, trial)
    return Mixed(content=content, kept=tuple(kept), reasons=reasons, damage=damage, cost=cost)


def rank(quantizer: Quantizer, trial: TuningSet) -> tuple[Sensitivity, ...]:
    """The damage of each layer, from the worst, on a part of the frames."""
    trial = trial.thinned(RANKING_FRAMES)
    found = [_sensitivity(layer, quantizer, trial) for layer in quantizer.layers]
    return tuple(sorted(found, key=lambda d: -d.share))


def _sensitivity(layer: str, quantizer: Quantizer, trial: TuningSet) -> Sensitivity:
    outputs = trial.contract.outputs
    try:
        answers = trial.answers(quantizer.quantize_alone(layer), quantizer.suffix)
    except ModelFileError:  # It answers NaN, or does not run at all: no worse damage.
        errors = {output.name: np.array([2 * output.scale]) for output in outputs}
    else:
        errors = {o.name: task_of(o).distance(answers[o.name], trial.predictions[o.name]) for o in outputs}
    # Below a ten-thousandth it is float32 arithmetic of another order.
    means = {name: mean if (mean := float(error.mean())) > 1e-4 else 0.0 for name, error in errors.items()}
    worst = max(outputs, key=lambda output: means[output.name] / output.scale)
    mean = means[worst.name]
    return Sensitivity(
        layer=layer, output=worst.name, unit=worst.unit, mean=mean, max=float(errors[worst.name].max()),
        share=mean / worst.scale,
    )  # fmt: skip


def _cost(content: bytes, plain: bytes, float32: bytes, suffix: Suffix, trial: TuningSet) -> Cost:
    contents = (content, plain, float32)
    pilots = [pilot_of(c, suffix, trial.contract) for c in contents]
    us = [round(latency.p50_us, 1) for latency in time_pilots(pilots, trial.pictures[:64])]
    return Cost(
        us=us[0], plain_us=us[1], float32_us=us[2],
        bytes=len(content), plain_bytes=len(plain), float32_bytes=len(float32),
    )  # fmt: skip
