"""Python's search path without the working directory, where there may be anybody's modules beside a user's files.

`python -m` puts it first, and an empty entry of PYTHONPATH, as robots' setup scripts leave them, means it as well. What
is imported before this module is out of reach: whatever `site` and `-m` need, and `sepilot_runtime` itself. `sepilot`,
and `python -P -m`, look there for nothing.
"""

import os
import sys

__all__ = ["leave_out_working_directory"]


def leave_out_working_directory() -> None:
    """Take the working directory out of `sys.path`, unless PYTHONPATH names it in full."""
    try:
        here = os.getcwd()  # noqa: PTH109  # pathlib is one more module that could lie there.
    except OSError:
        return  # It is gone, with all that was in it.
    if here not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        sys.path[:] = [entry for entry in sys.path if entry not in ("", ".", here)]
