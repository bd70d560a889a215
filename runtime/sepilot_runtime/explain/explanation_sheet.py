"""Explanations as pictures: a sheet of frames, or every frame of a video."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.base.files import atomic_file
from sepilot_runtime.contract.outputs.kinds import Output, task_of
from sepilot_runtime.contract.outputs.units import amount
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.explain import heatmap
from sepilot_runtime.explain.explanation import Explained, Explanation
from sepilot_runtime.explain.saliency import Occlusion, Saliency
from sepilot_runtime.source.protocol import Frame
from sepilot_runtime.view import contact_sheet, drawing
from sepilot_runtime.view.drawing import PAPER, QUIET, SOFT, WARNING, Canvas
from sepilot_runtime.view.stage import CANVAS_HEIGHT
from sepilot_runtime.view.video import VideoWriter, require_video_path

__all__ = ["SaliencyVideo", "draw_sheet", "saliency_video"]

COLUMNS = 4
HEAD_HEIGHT = 104
WIDEST = 1280


def draw_sheet(explanation: Explanation, pilot: Pilot, occlusion: Occlusion, where: str) -> Canvas:
    """The chosen frames with their maps on one colour scale, and last the mean over the recording.

    Args:
        where: the recording, for the title.
    """
    contract, output = pilot.contract, explanation.shown[0].saliency.output
    scale = heatmap.scale_of([shown.saliency.moved for shown in explanation.shown], output)
    columns = min(COLUMNS, len(explanation.shown) + 1)
    head, (down, up) = contact_sheet.empty_head(HEAD_HEIGHT, max(columns, 3)), task_of(output).ends
    name = f"{pilot.engine.path.name}  on  {Path(where).name}"
    drawing.text(head, name, (contact_sheet.MARGIN, 40), size=26, weight=600)
    drawing.text(head, _method(occlusion, output), (contact_sheet.MARGIN, 68), size=15, color=SOFT)
    dark = "; dark: cut off before the model" if _cuts(pilot) else ""
    drawing.text(
        head,
        f"what is there moves the answer, orange: {up}; blue: {down}{dark}",
        (contact_sheet.MARGIN, 90),
        size=15,
        color=SOFT,
    )
    heatmap.draw_legend(head, (head.shape[1] - contact_sheet.MARGIN - 240, 36), scale, output, width=240)
    shown = [
        (
            heatmap.painted(contact_sheet.fitted(e.frame.image), e.saliency.moved, contract.picture, scale),
            [heatmap.answer_words(e.saliency, e.frame), _frame_words(e)],
        )
        for e in explanation.shown
    ]
    mean = heatmap.influence_tile(explanation.mean_frame, explanation.influence, contract.picture)
    title = f"mean of {explanation.influence.frames} frames, without sign"
    largest = f"brightest {amount(float(explanation.influence.moved.max()), output)}; curves: sums of rows, columns"
    words: list[list[contact_sheet.Words]] = [[(title, SOFT)], [(largest, QUIET)]]
    return contact_sheet.lay_out(head, [*shown, (mean, words)], columns=max(columns, 3))


class SaliencyVideo:
    """Draws each frame with its map and adds it to a video."""

    def __init__(self, pilot: Pilot, writer: VideoWriter, scale: float) -> None:
        self._pilot, self._writer, self._scale = pilot, writer, scale

    def write(self, frame: Frame, saliency: Saliency) -> None:
        """Raises OutputError where the video cannot be written."""
        self._writer.write(self.drawn(frame, saliency))

    def drawn(self, frame: Frame, saliency: Saliency) -> Canvas:
        """The canvas (h, w, 3), even on both sides."""
        height, width = frame.image.shape[:2]
        scale = min(CANVAS_HEIGHT / height, WIDEST / width)
        # Words and scale need their place; video encoders want even sizes.
        canvas_width = max(640, round(width * scale / 2) * 2)
        tile = contact_sheet.fitted(frame.image, canvas_width)
        canvas = heatmap.painted(tile, saliency.moved, self._pilot.contract.picture, self._scale)
        if canvas.shape[0] % 2:
            canvas = canvas[:-1].copy()
        bottom = canvas.shape[0]
        drawing.card(canvas, (0, bottom - 64, canvas.shape[1], 64), radius=0, color=PAPER, opacity=0.7)
        words = heatmap.answer_words(saliency, frame)
        contact_sheet.words_at(canvas, words, (contact_sheet.MARGIN, bottom - 34), size=20)
        name = f"frame {frame.id}   {frame.time_s:.1f} s   {self._pilot.engine.path.name}"
        drawing.text(canvas, name, (contact_sheet.MARGIN, bottom - 12), size=15, color=QUIET)
        place = (canvas.shape[1] - contact_sheet.MARGIN - 200, bottom - 50)
        heatmap.draw_legend(canvas, place, self._scale, saliency.output, width=200)
        return canvas


@contextlib.contextmanager
def saliency_video(path: Path, pilot: Pilot, *, scale: float, rate_hz: float) -> Iterator[SaliencyVideo]:
    """A video that appears at `path` when the block ends without an error and at least one frame was written.

    Raises:
        UsageError: the suffix is not a video's.
        OutputError: `path` exists or cannot be written.
    """
    require_video_path(path)
    with atomic_file(path) as part:
        writer = VideoWriter(part, path, rate_hz)
        try:
            yield SaliencyVideo(pilot, writer, scale)
        finally:
            writer.close()
        if not writer.count:
            raise OutputError(f"{path}: not written, as there was no frame to draw")


def _method(occlusion: Occlusion, output: Output) -> str:
    covered = "blurred" if occlusion.fill == "blur" else "filled with the mean gray"
    return (
        f"change of {output.name} when {occlusion.patch}x{occlusion.patch} pixels of the model's picture are "
        f"{covered}, every {occlusion.stride} pixels"
    )


def _frame_words(explained: Explained) -> list[contact_sheet.Words]:
    words: list[contact_sheet.Words] = [
        (f"frame {explained.frame.id}", SOFT),
        (f"{explained.frame.time_s:.1f} s", QUIET),
    ]
    if explained.novelty is not None:
        word = "most novel" if explained.why == "novelty" else "novelty"
        words.append((f"{word} {explained.novelty:.2f}", WARNING if explained.novelty > 1 else QUIET))
    return words


def _cuts(pilot: Pilot) -> bool:
    picture = pilot.contract.picture
    return any((picture.crop_top, picture.crop_bottom, picture.crop_left, picture.crop_right))
