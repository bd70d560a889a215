"""All kinds of output that can be trained.

A new one is a folder beside `scalar`, its target's name in `AnyTarget` and its metrics' in `AnyMetrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sepilot_train.fit.outputs.boxes.metrics import BoxesMetrics
from sepilot_train.fit.outputs.boxes.target import BoxesTarget
from sepilot_train.fit.outputs.classes.metrics import ClassesMetrics
from sepilot_train.fit.outputs.classes.target import ClassesTarget
from sepilot_train.fit.outputs.embedding.metrics import EmbeddingMetrics
from sepilot_train.fit.outputs.embedding.target import EmbeddingTarget
from sepilot_train.fit.outputs.points.metrics import PointsMetrics
from sepilot_train.fit.outputs.points.target import PointsTarget
from sepilot_train.fit.outputs.protocol import Metrics, Target
from sepilot_train.fit.outputs.scalar.metrics import ScalarMetrics
from sepilot_train.fit.outputs.scalar.target import ScalarTarget

__all__ = ["AnyMetrics", "AnyTarget"]

if TYPE_CHECKING:
    # Nobody may lean on what one kind alone has.
    AnyTarget = Target
    AnyMetrics = Metrics
else:
    # A recipe says which by `kind`, and means the first where it says nothing.
    AnyTarget = ScalarTarget | ClassesTarget | BoxesTarget | PointsTarget | EmbeddingTarget
    AnyMetrics = ScalarMetrics | ClassesMetrics | BoxesMetrics | PointsMetrics | EmbeddingMetrics
