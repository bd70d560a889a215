"""The gate that every kind with labels has: how much larger a file's error at the task is than the training model's.

The difference of two errors on the same picture varies far less than either.
"""

from __future__ import annotations

from collections.abc import Callable

from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean
from sepilot_runtime.contract.outputs.protocol import Evidence, OutputTask

__all__ = ["increase", "increase_fault", "increase_remark"]


def increase(task: OutputTask, found: Evidence) -> Interval | None:
    """Paired, with the blocks of neighbouring frames resampled; None without labels."""
    known = task.known(found.labels)
    if not known.any():
        return None
    ours, theirs = (task.error(v[known], found.labels[known]) for v in (found.said, found.expected))
    return paired_bootstrap_mean(ours - theirs, [d for d, k in zip(found.drives, known, strict=True) if k])


def increase_fault(what: str) -> Callable[[Interval | None, float, int], str]:
    """Of the error called `what`: it must stay below its limit with the whole of its interval.

    Where the frames are too few for that, only an interval that lies above the limit altogether counts.
    """

    def fault(found: Interval | None, limit: float, _frames: int) -> str:
        if found is None or (found.high if _can_tell(found, limit) else found.low) <= limit:
            return ""
        return f"{what} {found.mean:+.5f}, 95 % within {found.low:+.5f} to {found.high:+.5f}, {limit:+.5f} allowed"

    return fault


def increase_remark(what: str) -> Callable[[Interval | None, float], str]:
    def remark(found: Interval | None, limit: float) -> str:
        if found is None or _can_tell(found, limit):
            return ""
        return f"too few held-out frames to judge the change of the {what}; judged by the errors of single frames"

    return remark


def _can_tell(found: Interval, limit: float) -> bool:
    """Is the interval narrow enough for the limit: would a file that costs nothing pass?"""
    return found.high - found.low <= limit
