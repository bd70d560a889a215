"""Other processes of this package, started so that nothing beside a user's files can run in them.

`python -m` and `python -c` look for modules in the working directory first, and an empty entry of PYTHONPATH means it
as well: a `json.py` beside a downloaded model would run as whoever installs it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["SAFE_FOLDER", "own_environment", "python_words"]

SAFE_FOLDER = "/"
"""Working directory for processes that are given no relative path: nobody but the system's owner writes into it."""


def python_words(module: str, *arguments: str) -> list[str]:
    """The words that run a module of this package by this interpreter; the working directory is not searched."""
    return [sys.executable, "-P", "-m", module, *arguments]


def own_environment() -> dict[str, str]:
    """This process's environment, with this package on Python's path and no entry that means a working directory.

    Where runtime/ was copied alone, only this process's own path says where the package is.
    """
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(entry).is_absolute()]
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *given])
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
