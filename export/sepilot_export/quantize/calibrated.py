"""What all int8 files of one model share: the calibration frames, and the graph that is equalized on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import deploy
from sepilot_export.convert.equalize import equalize
from sepilot_export.convert.inputs import ExportInputs
from sepilot_export.quantize import calibration
from sepilot_export.quantize.calibration import Choice, Predictions
from sepilot_export.quantize.calibration_manifest import Manifest, manifest
from sepilot_export.verify import tuning_set
from sepilot_export.verify.tuning_set import TuningSet
from sepilot_runtime.base.errors import RunError
from sepilot_train.base.stored import Pictures
from sepilot_train.fit.predict import predict

__all__ = ["Calibrated", "calibrate"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Calibrated:
    """A model made ready for int8.

    Attributes:
        graph: the deploy graph, equalized on the calibration frames.
        choice: of those frames.
        frames: their positions in the training frames, for this choice and the others.
        training: the pictures of the training frames.
        trial: frames to decide on, which none of the choices holds; None where too few are left.
        manifest: which frames they are, for calibration.json.
    """

    graph: Any
    choice: Choice
    frames: Mapping[Choice, NDArray[np.int64]]
    training: Pictures
    trial: TuningSet | None
    manifest: Manifest

    def pictures(self, choice: Choice | None = None) -> NDArray[np.uint8]:
        """The calibration pictures (n, h, w, c), or those that another choice would have taken."""
        return np.asarray(self.training[self.frames[choice or self.choice]])

    def require_trial(self) -> TuningSet:
        """The frames to decide on. Raises RunError where there are none."""
        if self.trial is None:
            raise RunError(
                f"--max-drop: {tuning_set.MINIMUM} training frames beside the calibration frames expected to decide "
                "on; lower --calibration-frames or record more"
            )
        return self.trial


def calibrate(model: Any, source: ExportInputs, *, count: int, seed: int, choice: Choice) -> Calibrated:
    """Choose `count` calibration frames, and equalize the deploy graph of the training `model` on them.

    Raises:
        RunError: too few frames, or the equalized graph is another function.
    """
    training, held, outputs = source.training, source.held_out, source.contract.outputs
    predictions = predict(model, training.pictures, training.vectors)
    known = set(zip(held.drives, held.names, strict=True))
    selections = {
        each: calibration.select(training, predictions, outputs, count=count, seed=seed, choice=each, held_out=known)
        for each in calibration.CHOICES
    }
    frames = {each: found.index for each, found in selections.items()}
    pictures = training.pictures[frames[choice]]
    graph = deploy.deploy_graph(model, source.contract)
    equalize(graph, pictures)
    some = training.take(frames[choice][:32])
    deploy.require_parity(model, graph, np.asarray(some.pictures), some.vectors)
    return Calibrated(
        graph=graph,
        choice=choice,
        frames=frames,
        training=training.pictures,
        trial=_trial(source, predictions, frames),
        manifest=manifest(training, predictions, outputs, selections[choice], seed, choice),
    )


def _trial(
    source: ExportInputs, predictions: Predictions, frames: Mapping[Choice, NDArray[np.int64]]
) -> TuningSet | None:
    taken = {int(i) for index in frames.values() for i in index}
    index = calibration.spared(len(source.training), taken, tuning_set.MOST)
    if len(index) < tuning_set.MINIMUM:
        return None
    training = source.training.take(index)
    return TuningSet(
        pictures=np.asarray(training.pictures),
        drives=training.drives,
        labels=training.labels,
        predictions={name: values[index] for name, values in predictions.items()},
        contract=source.contract,
        vectors=training.vectors,
    )
