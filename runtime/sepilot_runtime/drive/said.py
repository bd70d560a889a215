"""What a model that does not steer says of a frame, in words, beside what was recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.protocol import OutputTask
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.engine.pilot import Prediction
from sepilot_runtime.source.labels import label_of, recorded_value
from sepilot_runtime.source.protocol import Frame

__all__ = ["Said", "said_of"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """Of one output.

    Attributes:
        words: the answer.
        recorded: the label, in words; None where there is none.
        wrong: the label is of something that has a name, and the answer says nothing of it.
    """

    task: OutputTask
    words: str
    recorded: str | None
    wrong: bool


def said_of(frame: Frame, prediction: Prediction, picture: Picture) -> list[Said]:
    """Of each output, in the contract's order. `picture`: of the model."""
    found = []
    for name, output in prediction.outputs.items():
        task, recorded = task_of(output), recorded_value(frame, output)
        words = recorded if recorded is None or isinstance(recorded, str) else task.words(recorded)
        wrong = False
        if isinstance(recorded, str) and (label := label_of(frame, output, picture)) is not None:
            wrong = bool(task.error(prediction.said(name), np.asarray([label], np.float32))[0] >= 1)
        found.append(Said(task=task, words=task.words(prediction.values[name]), recorded=words, wrong=wrong))
    return found
