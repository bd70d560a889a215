"""Other processes of this package."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["own_environment"]


def own_environment() -> dict[str, str]:
    """This process's environment, with the package on Python's path.

    Where runtime/ was copied alone, only this process's own path says where the package is.
    """
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}
