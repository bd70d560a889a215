"""A net or an int8 file on the held-out frames, and what it lost against the net that it was made from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.embed import embed_tflite
from sepilot_export.fidelity import Interval, paired_increase
from sepilot_export.formats import format_named
from sepilot_runtime.contract import Contract
from sepilot_runtime.pilot import load_pilot
from sepilot_train.graphs import keras_nodes
from sepilot_train.layers import layer_table
from sepilot_train.learner import predict
from sepilot_train.metrics import SteeringMetrics, steering_metrics
from sepilot_train.training import Material

__all__ = ["Figures", "Judged", "judge_int8", "judge_net"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A net, or a file, on the held-out frames.

    Attributes:
        mae_increase: against the net that it was made from, paired frame by frame.
        parameters, macs, sparsity: of a net; `sparsity` is the share of zeros in kernels.
    """

    name: str
    r2: float
    mae: float
    mae_increase: Interval | None
    parameters: int | None = None
    macs: int | None = None
    sparsity: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Judged:
    """Figures, the answers (n,) behind them, and all metrics."""

    figures: Figures
    answers: NDArray[np.float32]
    metrics: SteeringMetrics


def judge_net(name: str, model: Any, material: Material, before: NDArray[np.float32] | None = None) -> Judged:
    """Judge a Keras 3 net; `before` are the answers (n,) that it is compared with."""
    answers = predict(model, material.samples("validation").pictures)
    table = layer_table(keras_nodes(model))
    kernels = [np.asarray(w) for layer in model.layers for w in layer.get_weights() if w.ndim > 1]
    zeros, weights = sum(int((k == 0).sum()) for k in kernels), sum(k.size for k in kernels)
    return _judged(
        name, answers, material, before,
        parameters=table.parameters, macs=table.macs, sparsity=zeros / max(1, weights),
    )  # fmt: skip


def judge_int8(
    path: Path, content: bytes, contract: Contract, material: Material, before: NDArray[np.float32]
) -> Judged:
    """Judge an int8 TFLite file, through the interpreter; it is written to `path` with its contract inside."""
    form = format_named("int8.tflite")
    provenance = dataclasses.replace(contract.provenance, precision=form.precision)
    own = dataclasses.replace(contract, provenance=provenance, tolerance=form.tolerance)
    path.write_bytes(embed_tflite(content, own))
    pilot = load_pilot(path)
    answers = [pilot.infer_picture(picture) for picture in material.samples("validation").pictures]
    return _judged(path.name, np.array(answers, np.float32), material, before)


def _judged(
    name: str, answers: NDArray[np.float32], material: Material, before: NDArray[np.float32] | None, **net: Any
) -> Judged:
    labels = material.samples("validation").labels
    metrics = steering_metrics(labels, answers, float(material.samples("train").labels.mean()))
    increase = None
    if before is not None:
        y = labels.astype(np.float64)
        change = np.abs(np.clip(answers, -1, 1) - y) - np.abs(np.clip(before, -1, 1) - y)
        drives = [s.drive_id for s, i in zip(material.sets, material.split.validation, strict=True) for _ in i]
        increase = paired_increase(change, drives)
    return Judged(
        figures=Figures(name=name, r2=metrics.r2, mae=metrics.mae, mae_increase=increase, **net),
        answers=answers,
        metrics=metrics,
    )
