"""Training frames on which choices between int8 files are made, so that the held-out frames stay for the judgement.

Neither the calibration nor the final check sees them. They are training frames: the model's task error on them is
smaller than on a new drive, but what int8 adds to it is much the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.formats import Limits
from sepilot_export.convert.in_memory import Suffix, pilot_of
from sepilot_export.record.exports import TuningFigures
from sepilot_export.verify.fidelity import Fidelity, measure
from sepilot_export.verify.gates import judge, remarks
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.contract.contract import Contract, Output
from sepilot_runtime.engine.pilot import answers_to, fed
from sepilot_train.base.stored import Pictures

__all__ = ["MINIMUM", "MOST", "TuningSet"]


MINIMUM = 64
"""Fewer frames decide nothing."""

MOST = 8000
"""The largest error is that of a single frame, so that many see more of it; the rest would be clear from 2000."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TuningSet:
    """Frames with the training model's answers.

    Attributes:
        pictures: (n, h, w, c) uint8, in the order of the drives.
        drives: of each frame.
        labels, predictions: by output, (n,) float32; labels may be NaN.
        name: what frames they are, in words.
        vectors: what goes beside the pictures, (n, size) by input.
    """

    pictures: Pictures
    drives: tuple[str, ...]
    labels: Mapping[str, NDArray[np.float32]]
    predictions: Mapping[str, NDArray[np.float32]]
    contract: Contract
    name: str = "training frames beside the calibration"
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def thinned(self, most: int) -> TuningSet:
        """At most so many of the frames, evenly spaced."""
        index = np.linspace(0, len(self.pictures) - 1, min(most, len(self.pictures))).astype(np.int64)
        return dataclasses.replace(
            self,
            pictures=self.pictures[index],
            drives=tuple(self.drives[i] for i in index),
            labels={name: values[index] for name, values in self.labels.items()},
            predictions={name: values[index] for name, values in self.predictions.items()},
            vectors={name: values[index] for name, values in self.vectors.items()},
        )

    def answers(self, content: bytes, suffix: Suffix) -> Mapping[str, NDArray[np.float32]]:
        """What a file says to each picture, by output, through the interpreter that runs it on the car.

        Raises:
            ModelFileError: it does not run, or answers NaN.
        """
        pilot = pilot_of(content, suffix, self.contract)
        return answers_to(pilot.infer_picture, fed(pilot, self.pictures, self.vectors))

    def fidelity(self, content: bytes, suffix: Suffix) -> Mapping[str, Fidelity]:
        """How far a file is from the training model, by output. Raises what `answers` raises."""
        answers = self.answers(content, suffix)
        return {
            name: measure(answers[name], self.predictions[name], self.labels[name], self.drives, self.pictures, output)
            for name, output in self._outputs.items()
        }

    @property
    def _outputs(self) -> Mapping[str, Output]:
        return {output.name: output for output in self.contract.outputs}

    def _judged(self, found: Mapping[str, Fidelity], limits: Limits) -> Iterator[str]:
        """Reasons, each with the output that it is about where there are several."""
        for name, output in self._outputs.items():
            of = f"{name}: " if len(self._outputs) > 1 else ""
            yield from (f"{of}{reason}" for reason in judge(found[name], limits[name], output, len(self.pictures)))

    def misses(self, content: bytes, suffix: Suffix, limits: Limits) -> tuple[str, ...]:
        """The gates that a file does not keep on these frames, one reason each."""
        try:
            found = self.fidelity(content, suffix)
        except ModelFileError as e:
            return (str(e),)
        return tuple(self._judged(found, limits))

    def figures(self, content: bytes, suffix: Suffix, limits: Limits) -> tuple[TuningFigures, ...]:
        """A file's errors on these frames, for each output. Raises what `answers` raises."""
        found, frames = self.fidelity(content, suffix), len(self.pictures)
        return tuple(
            TuningFigures(
                on=self.name,
                frames=frames,
                output=name,
                unit=output.unit,
                mean_deg=round(found[name].mean_error, 5),
                p99_deg=round(found[name].p99_error, 5),
                max_deg=round(found[name].max_error, 5),
                mae_increase=found[name].mae_increase,
                misses=tuple(judge(found[name], limits[name], output, frames)),
                notes=tuple(remarks(found[name], limits[name], output)),
            )
            for name, output in self._outputs.items()
        )
