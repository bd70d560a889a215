"""Short names for paths that are shown side by side."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sepilot_runtime.base.terminal import legible

__all__ = ["names_of"]


def names_of(paths: Sequence[Path]) -> list[str]:
    """For each path as many of its last parts as tell it from the others; a bare number takes its parent along.

    A path that is there twice has the same name twice. What a terminal would obey is escaped.
    """
    # Not `resolve`: a link keeps the name by which it was called.
    places = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100
    parts = {place: [p for p in place.parts if p not in ("/", "\\")] or ["root"] for place in places}
    taken = {place: 2 if part[-1].isdecimal() else 1 for place, part in parts.items()}
    while True:
        names = {place: "/".join(part[-taken[place] :]) for place, part in parts.items()}
        times = Counter(names.values())
        longer = {place: min(count + (times[names[place]] > 1), len(parts[place])) for place, count in taken.items()}
        if longer == taken:
            return [legible(names[place]) for place in places]
        taken = longer
