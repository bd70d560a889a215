"""The frames on which two files differ most, with the way that each would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.units import amount
from sepilot_runtime.explain.side_by_side import Answers, Said
from sepilot_runtime.source.protocol import Frame
from sepilot_runtime.view import contact_sheet, drawing
from sepilot_runtime.view.drawing import MODEL_COLOR, QUIET, RECORDED_COLOR, SECOND_COLOR, SOFT, Canvas, Color
from sepilot_runtime.view.road_path import RoadView, ribbon

__all__ = ["SECOND_COLOR", "draw_sheet"]


COLUMNS = 4
HEAD_HEIGHT = 112


def draw_sheet(
    answers: Answers,
    said: Said,
    worst: Sequence[int],
    frames: Mapping[int, Frame],
    names: tuple[str, str],
    where: str,
    *,
    horizon: float,
) -> Canvas:
    """A tile for each of the `worst` places in `answers`, in their order.

    Args:
        frames: by id, those of `worst` at least.
        said: of the output whose differences are shown.
        names: of A and B.
        where: the recording, for the title.
        horizon: row of the horizon as a fraction from the top, for drawing the ways.
    """
    columns = max(3, min(COLUMNS, len(worst)))
    head = contact_sheet.empty_head(HEAD_HEIGHT, columns)
    title = f"Largest differences of {said.output.name} on {Path(where).name}"
    drawing.text(head, title, (contact_sheet.MARGIN, 40), size=26, weight=600)
    recorded = any(told is not None for told in said.recorded)
    for row, (letter, name, color) in enumerate((("A", names[0], MODEL_COLOR), ("B", names[1], SECOND_COLOR))):
        y = 70 + 25 * row
        drawing.polyline(head, [(contact_sheet.MARGIN, y - 5), (contact_sheet.MARGIN + 36, y - 5)], color, thickness=4)
        drawing.text(head, f"{letter}  {name}", (contact_sheet.MARGIN + 48, y), size=18, color=color)
    if recorded:
        x = head.shape[1] - contact_sheet.MARGIN
        drawing.text(head, "recorded", (x, 70), size=18, color=RECORDED_COLOR, align="right")
        x -= round(drawing.text_width("recorded", size=18)) + 12
        for begin in (x - 36, x - 14):
            drawing.polyline(head, [(begin, 65), (begin + 14, 65)], RECORDED_COLOR, thickness=3)
    shown = [_tile(said, place, frames[int(answers.ids[place])], horizon) for place in worst]
    return contact_sheet.lay_out(head, shown, columns=columns)


def _tile(said: Said, place: int, frame: Frame, horizon: float) -> tuple[Canvas, list[list[contact_sheet.Words]]]:
    tile = contact_sheet.fitted(frame.image)
    view = RoadView(width=tile.shape[1], height=tile.shape[0], horizon=horizon)
    tasks = [task_of(output) for output in said.outputs]
    a, b = (float(v) for v in said.values[:, place])
    recorded = said.recorded[place]
    if tasks[0].ends == ("left", "right"):
        if isinstance(recorded, float):
            _draw_way(tile, recorded, view, RECORDED_COLOR, dashed=True)
        # The first is the wider one, so that it is seen where the two are one.
        _draw_way(tile, a, view, MODEL_COLOR, thickness=7)
        _draw_way(tile, b, view, SECOND_COLOR)
    apart = amount(abs(b - a), said.output, 1 if said.output.unit == "deg" else 3)
    first: list[contact_sheet.Words] = [
        (f"{apart} apart", SOFT), (f"frame {frame.id}", QUIET), (f"{frame.time_s:.1f} s", QUIET),
    ]  # fmt: skip
    told = [task.words(decoded[place]) for task, decoded in zip(tasks, said.decoded, strict=True)]
    second: list[contact_sheet.Words] = [(f"A {told[0]}", MODEL_COLOR), (f"B {told[1]}", SECOND_COLOR)]
    if recorded is not None:
        words = recorded if isinstance(recorded, str) else tasks[0].words(recorded / said.output.scale)
        second.append((words, RECORDED_COLOR))
    return tile, [first, second]


def _draw_way(
    tile: Canvas, degrees: float, view: RoadView, color: Color, *, thickness: int = 3, dashed: bool = False
) -> None:
    """The middle of the strip that the car would cover, with a dark seam that keeps it legible on a light floor."""
    way: NDArray[np.float64] = ribbon(degrees, view).mean(axis=0)
    parts = [way[start : start + 3] for start in range(0, len(way) - 2, 4)] if dashed else [way]
    for ink, width in (((12, 10, 8), thickness + 3), (color, thickness)):
        for part in parts:
            drawing.polyline(tile, part, ink, thickness=width)
