"""How a net does during its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.protocol import parted
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.outputs.protocol import Comparing, Target
from sepilot_train.fit.predict import predict

__all__ = ["error", "figures"]


def figures(
    net: Any, frames: FrameSet, targets: Mapping[str, Target], losses: Mapping[str, Any], batch_size: int
) -> dict[str, float]:
    """What a row of the history says of the validation frames.

    Args:
        losses: by tensor.
        batch_size: of the training.
    """
    said = predict(net, frames.pictures, frames.vectors)
    loss, mae, spread = dict[str, float](), dict[str, float](), dict[str, float]()
    for name, target in targets.items():
        labels = frames.labels[name]
        loss[name] = _loss(name, target, labels, said[name], losses, batch_size)
        mae[name] = target.mae(labels, said[name])
        if isinstance(target, Comparing):
            spread[f"spread:{name}"] = target.spread(said[name])
    total = sum(target.weight * loss[name] for name, target in targets.items())
    row = {"val_loss": total, "val_mae": next(iter(mae.values()))}
    if len(loss) > 1:
        row |= {f"val_loss:{name}": value for name, value in loss.items()}
        row |= {f"val_mae:{name}": value for name, value in mae.items()}
    return row | spread


def error(net: Any, frames: FrameSet, targets: Mapping[str, Target]) -> float:
    """The first output's."""
    name, target = next(iter(targets.items()))
    return target.mae(frames.labels[name], predict(net, frames.pictures, frames.vectors)[name])


def _loss(
    name: str,
    target: Target,
    labels: NDArray[np.float32],
    said: NDArray[np.float32],
    losses: Mapping[str, Any],
    batch_size: int,
) -> float:
    """Of all frames at once; of what is compared within a batch, in batches as the training has them."""
    output, parts = target.output(name, 1.0), [np.arange(len(labels))]
    if isinstance(target, Comparing):
        parts = np.split(target.arranged(labels, np.random.default_rng(0)), range(batch_size, len(labels), batch_size))
    total = 0.0
    for places in parts:
        wanted, answers = target.wanted(name, labels[places]), parted(said[places], output)
        found = [losses[tensor](wanted[tensor], answers[tensor]) for tensor in wanted]
        total += len(places) / len(labels) * sum(float(keras.ops.convert_to_numpy(part)) for part in found)
    return total
