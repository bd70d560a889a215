"""All kinds of output. A new one is a folder beside `scalar`, its name in `Output`, and a row in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sepilot_runtime.contract.outputs.protocol import OutputTask
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.contract.outputs.scalar.task import ScalarTask

__all__ = ["KINDS", "Output", "task_of"]

Output = Scalar
"""A union as soon as there is a second."""

KINDS: Mapping[str, Callable[[Any], OutputTask]] = {Scalar.kind: ScalarTask}


def task_of(output: Output) -> OutputTask:
    """The arithmetic of an output's kind."""
    return KINDS[output.kind](output)
