"""What a model is given beside a frame: the numbers recorded with it, and its own answer to the frame before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sepilot_runtime.base.errors import ContractError, FrameError
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.source.protocol import Frame, SourceInfo

__all__ = ["give", "require_given"]

_NONE = np.array([-1])


def give(pilot: Pilot, frame: Frame, obeyed: Mapping[str, Any]) -> None:
    """Put it into the pilot's vectors.

    Args:
        obeyed: the decoded answers to the frame before, by output; empty where nobody drove by them.

    Raises:
        FrameError: the frame came without one of the numbers.
    """
    for vector in pilot.contract.vectors:
        if vector.previous:
            pilot.vectors[vector.name][:] = obeyed.get(vector.previous, 0.0)
            continue
        recorded = {column: np.array([frame.labels.get(column, np.nan)]) for column in vector.columns}
        (values,) = vector.numbers(recorded, _NONE)
        if not np.isfinite(values).all():
            raise FrameError(f"no number for {vector.name}", f"{', '.join(vector.columns)} expected beside the frame")
        pilot.vectors[vector.name][:] = values


def require_given(pilot: Pilot, source: SourceInfo) -> None:
    """A camera has pictures alone. Raises ContractError where the model takes more of the world than that."""
    asked = [vector.name for vector in pilot.contract.vectors if not vector.previous]
    if source.live and asked:
        raise ContractError(
            f"{pilot.engine.path}: it takes {', '.join(asked)} beside the picture, which {source.where} does not give; "
            "a recording with those columns expected"
        )
