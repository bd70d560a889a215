"""Python's search path without the working directory, where there may be anybody's modules beside a user's files.

`python -m` puts it first, and an empty entry of PYTHONPATH, as robots' setup scripts leave them, means it as well. What
is imported before this module is out of reach: whatever `site` and `-m` need, and `sepilot_runtime` itself. `sepilot`,
and `python -P -m`, look there for nothing.
"""

import os
import sys

__all__ = ["leave_out_working_directory"]


def leave_out_working_directory() -> None:
    """Take the working directory out of `sys.path`, unless PYTHONPATH names it in full.

    What is installed, also from a checkout, stands behind Python's own modules; this is about what stands before them.
    """
    try:
        here = os.getcwd()  # noqa: PTH109  # pathlib is one more module that could lie there.
    except OSError:
        return  # It is gone, with all that was in it.
    own = os.path.dirname(os.__file__)  # noqa: PTH120
    end = sys.path.index(own) if own in sys.path else len(sys.path)
    if here not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        sys.path[:end] = [entry for entry in sys.path[:end] if entry not in ("", ".", here)]
