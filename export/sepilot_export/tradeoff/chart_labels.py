"""Names in a chart of dots with whiskers: each stands at the end of its own whisker, where nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sepilot_train.base.plots import FAINT

__all__ = ["Label", "write_labels"]

ROOMY = 400
"""Width in points from which a chart has room for names."""

ROWS = 9
"""Heights at which a label may stand, one above the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text for the dot at (`x`, `y`) with a whisker from `low` to `high`, in data units.

    Attributes:
        long: where there is room; `short` elsewhere.
        upwards: above the whisker, else below.
        rank: the lowest is placed first; what finds no place is left out.
    """

    x: float
    y: float
    low: float
    high: float
    long: str
    short: str
    color: str
    bold: bool
    upwards: bool
    rank: tuple[Any, ...]


def write_labels(ax: Any, labels: Sequence[Label], *, names: bool = True) -> None:
    """Write them into a chart whose limits are final; `names`: the long ones where there is room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    fig = ax.figure
    FigureCanvasAgg(fig)
    # The layout is known only once it was drawn.
    fig.draw_without_rendering()
    point = fig.dpi / 72
    inside = ax.get_window_extent()
    taken = []
    for label in labels:
        taken.append(_box(ax, label.x, label.low, label.high, 2 * point))
        taken.append(_box(ax, label.x, label.y, label.y, 8 * point))
    for label in sorted(labels, key=lambda label: label.rank):
        texts = (label.long, label.short) if names and inside.width > ROOMY * point else (label.short,)
        any(_placed(ax, label, text, taken, inside) for text in dict.fromkeys(texts))


def _box(ax: Any, x: float, low: float, high: float, half: float) -> Any:
    """Around a vertical line in data units, in pixels."""
    from matplotlib.transforms import Bbox

    (x0, y0), (x1, y1) = ax.transData.transform(((x, low), (x, high)))
    return Bbox.from_extents(x0 - half, y0 - half, x1 + half, y1 + half)


def _placed(ax: Any, label: Label, text: str, taken: list[Any], inside: Any) -> bool:
    """Write `text` in the nearest free row, with a line that goes on from the whisker to it."""
    renderer = ax.figure.canvas.get_renderer()
    end, sign, va = (label.high, 1, "bottom") if label.upwards else (label.low, -1, "top")
    size = 11 if label.bold else 9
    for row in range(ROWS):
        away = sign * (4 + row * 14)
        for ha, dx in (("center", 0), ("left", -4), ("right", 4)):
            note = ax.annotate(
                text, (label.x, end), (dx, away), textcoords="offset points", ha=ha, va=va, color=label.color,
                fontsize=size, fontweight="bold" if label.bold else "normal",
            )  # fmt: skip
            box = note.get_window_extent(renderer).padded(2)
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if within and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                if row:
                    line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
                    near = away - sign
                    ax.annotate("", (label.x, end), (0, near), textcoords="offset points", arrowprops=line, zorder=0)
                return True
            note.remove()
    return False
