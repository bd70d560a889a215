"""All kinds of output. A new one is a folder beside `scalar`, its name in `AnyOutput`, and a row in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sepilot_runtime.contract.outputs.boxes.output import Boxes
from sepilot_runtime.contract.outputs.boxes.task import BoxesTask
from sepilot_runtime.contract.outputs.classes.output import Classes
from sepilot_runtime.contract.outputs.classes.task import ClassesTask
from sepilot_runtime.contract.outputs.embedding.output import Embedding
from sepilot_runtime.contract.outputs.embedding.task import EmbeddingTask
from sepilot_runtime.contract.outputs.points.output import Points
from sepilot_runtime.contract.outputs.points.task import PointsTask
from sepilot_runtime.contract.outputs.protocol import Output, OutputTask
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.contract.outputs.scalar.task import ScalarTask

__all__ = ["KINDS", "AnyOutput", "Output", "task_of"]

if TYPE_CHECKING:
    AnyOutput = Output  # Nobody may lean on what one kind alone has.
else:
    AnyOutput = Scalar | Classes | Boxes | Points | Embedding  # `documents.parse` tells them apart by `kind`.

KINDS: Mapping[str, Callable[[Any], OutputTask]] = {
    Scalar.kind: ScalarTask,
    Classes.kind: ClassesTask,
    Boxes.kind: BoxesTask,
    Points.kind: PointsTask,
    Embedding.kind: EmbeddingTask,
}


def task_of(output: Output) -> OutputTask:
    """The arithmetic of an output's kind."""
    return KINDS[output.kind](output)
