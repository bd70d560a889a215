"""`sepilot explain FILE --frames SOURCE`: what an answer hangs on, by covering the picture bit by bit."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sepilot_runtime.commands.arguments import flag, request_from, switch
from sepilot_runtime.commands.reader_arguments import READER
from sepilot_runtime.engine.names import OWN, USUAL_ENGINES
from sepilot_runtime.recording.options import ReaderOptions

if TYPE_CHECKING:
    from sepilot_runtime.contract.outputs.kinds import Output
    from sepilot_runtime.engine.pilot import Pilot
    from sepilot_runtime.explain.explanation import Explanation, Survey
    from sepilot_runtime.explain.saliency import Influence, Occlusion

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot explain swift-int8.tflite --frames data/my_tub --out sheet.png
  sepilot explain swift-int8.tflite --frames road.mp4 --out overlay.mp4 --max-frames 500
  sepilot explain swift-f32.onnx --frames data/my_tub --json > influence.json

A patch slides over the model's picture; what lies under it is blurred away, and the change of the
answer is recorded (Zeiler and Fergus 2014, arXiv 1311.2901). It asks the file itself, so it works
on int8 and with every engine. Without --out only the table is printed. Novelty is 1.0 at the edge of
the training pictures. Blue and orange say what steers left and right; they do not say that it should.
"""

BAR_WIDTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainRequest:
    file: Path = flag("a .tflite or .onnx file of `sepilot export`", "FILE", positional=True)
    frames: str = flag("any recording that `sepilot drives` lists", "SOURCE", required=True)
    out: Path | None = flag("a new sheet (.png, .jpg) or, with every frame, video (.mp4, .webm)", "PATH")
    count: int = flag("frames on the sheet (default 11)", "N", default=11)
    average: int = flag("frames that the table is the mean of (default 100)", "N", default=100)
    max_frames: int | None = flag("look at the first N frames only", "N")
    patch: int | None = flag("side of the patch, in pixels of the model's picture (default: 1/4)", "PX")
    stride: int | None = flag("by which it moves (default: a quarter of a patch)", "PX")
    fill: Literal["blur", "mean"] = flag(
        "what covers: the picture, blurred (default), or its mean gray, which shows large even areas as well",
        default="blur",
    )
    engine: str | None = flag(f"{', '.join(OWN)} (default: {USUAL_ENGINES})", "NAME")
    threads: int = flag("of the interpreter (default 1)", "N", default=1)
    json: bool = switch("print one JSON document")
    output: str | None = flag("which of the model's answers (default: the first)", "NAME")
    reader: ReaderOptions


def main(argv: Sequence[str]) -> int:
    """Run `sepilot explain`."""
    request = request_from(
        argv, ExplainRequest, "explain",
        "Show what an answer of a file hangs on, by covering its picture bit by bit.", EPILOG, reader=READER,
    )  # fmt: skip

    from sepilot_runtime.base.opencv import cv2
    from sepilot_runtime.engine.names import engine_named
    from sepilot_runtime.engine.pilot import load_pilot
    from sepilot_runtime.engine.trial import time_limit
    from sepilot_runtime.explain.explanation import choose, explain, survey

    cv2.setNumThreads(1)
    _require_out(request.out)
    engine = engine_named(request.engine) if request.engine else None
    with time_limit(request.file):
        pilot = load_pilot(request.file, threads=request.threads, engine=engine)
    occlusion = _occlusion(request, pilot)
    output = _output(pilot, request.output)
    request = replace(request, reader=request.reader.wishing([output.name]))
    found = survey(pilot, request.frames, output, request.reader, max_frames=request.max_frames)
    explanation = explain(
        pilot, request.frames, found, choose(found, request.count), occlusion, request.reader, average=request.average
    )
    if request.out:
        _draw(request.out, request, pilot, occlusion, found, explanation)
    if request.json:
        print(json.dumps(_document(request, pilot, occlusion, found, explanation), indent=2, allow_nan=False))
    else:
        print(_table(pilot, explanation.influence, found))
    return 0


def _output(pilot: Pilot, name: str | None) -> Output:
    from sepilot_runtime.base.errors import UsageError

    outputs = {output.name: output for output in pilot.contract.outputs}
    if name and name not in outputs:
        raise UsageError(f"--output: one of {', '.join(outputs)} expected, found {name!r}")
    return outputs[name] if name else next(iter(outputs.values()))


def _require_out(out: Path | None) -> None:
    from sepilot_runtime.view.contact_sheet import require_picture_path
    from sepilot_runtime.view.video import VIDEO_CODECS, require_video_path

    if out and out.suffix in VIDEO_CODECS:
        require_video_path(out)
    elif out:
        require_picture_path(out)


def _occlusion(request: ExplainRequest, pilot: Pilot) -> Occlusion:
    from sepilot_runtime.explain.saliency import Occlusion, occlusion_for

    usual = occlusion_for(pilot.contract.picture, fill=request.fill)
    patch = request.patch or usual.patch
    return Occlusion(patch=patch, stride=request.stride or max(1, patch // 4), fill=request.fill)


def _draw(
    out: Path, request: ExplainRequest, pilot: Pilot, occlusion: Occlusion, found: Survey, explanation: Explanation
) -> None:
    from sepilot_runtime.explain.explanation_sheet import draw_sheet
    from sepilot_runtime.view.contact_sheet import write_picture
    from sepilot_runtime.view.video import VIDEO_CODECS

    if out.suffix in VIDEO_CODECS:
        _draw_video(out, request, pilot, occlusion, found, explanation)
    else:
        write_picture(draw_sheet(explanation, pilot, occlusion, request.frames), out)
    print(f"-> {out}", file=sys.stderr)


def _draw_video(
    out: Path, request: ExplainRequest, pilot: Pilot, occlusion: Occlusion, found: Survey, explanation: Explanation
) -> None:
    from sepilot_runtime.explain.explanation import open_recording
    from sepilot_runtime.explain.explanation_sheet import saliency_video
    from sepilot_runtime.explain.heatmap import scale_of
    from sepilot_runtime.explain.saliency import saliency_of

    # One scale for the whole video: with a scale for each frame the colours would say nothing.
    scale = scale_of([shown.saliency.moved for shown in explanation.shown], found.output)
    with (
        open_recording(request.frames, request.reader) as source,
        saliency_video(out, pilot, scale=scale, rate_hz=source.info.rate_hz) as video,
    ):
        for given, frame in enumerate(source):
            if given == len(found.ids):
                break
            video.write(frame, saliency_of(pilot, frame.image, occlusion, found.output))


def _document(
    request: ExplainRequest, pilot: Pilot, occlusion: Occlusion, found: Survey, explanation: Explanation
) -> dict[str, Any]:
    from sepilot_runtime.contract.outputs.units import key_suffix

    influence, output = explanation.influence, found.output
    unit = key_suffix(output)
    return {
        "file": str(pilot.engine.path),
        "output": output.name,
        "engine": pilot.engine.name,
        "frames": request.frames,
        "frame_count": len(found.ids),
        "occlusion": asdict(occlusion),
        "averaged_frames": influence.frames,
        f"mean_influence{unit}": float(influence.moved.mean()),
        "rows": _bands(influence, "rows"),
        "columns": _bands(influence, "columns"),
        f"row_influence{unit}": [round(float(v), 5) for v in influence.moved.mean(axis=1)],
        f"column_influence{unit}": [round(float(v), 5) for v in influence.moved.mean(axis=0)],
        "shown": [
            {
                "frame": e.frame.id,
                "time_s": round(e.frame.time_s, 4),
                "chosen_for": e.why,
                f"{output.name}{unit}": round(e.saliency.reading, 4),
                "novelty": None if e.novelty is None else round(e.novelty, 4),
                f"largest_influence{unit}": round(float(abs(e.saliency.moved).max()), 4),
            }
            for e in explanation.shown
        ],
    }


def _bands(influence: Influence, axis: Any) -> list[dict[str, float]]:
    return [{"from": a, "to": b, "share": round(share, 5)} for a, b, share in influence.shares(axis)]


def _table(pilot: Pilot, influence: Influence, found: Survey) -> str:
    from sepilot_runtime.contract.outputs.units import amount

    picture = pilot.contract.picture
    rows, columns = influence.shares("rows"), influence.shares("columns")
    largest = max(share for _, _, share in rows + columns) or 1.0
    moved = float(influence.moved.mean())
    mean = f"mean of {influence.frames} frames, picture {picture.width}x{picture.height}"
    lines = [
        f"{pilot.engine.path.name} on {pilot.engine.name}",
        f"what its {found.output.name} hangs on, {mean}:",
        f"covering a place moves it by {amount(moved, found.output, 2 if moved >= 0.1 else 4)} in the mean",
        "",
        f"{'rows, top to bottom':<38}  columns, left to right",
    ]
    for left, right in itertools.zip_longest(rows, columns):
        lines.append(f"{_bar(left, largest):<38}  {_bar(right, largest)}".rstrip())
    half = _middle(influence.moved.sum(axis=1))
    where = picture.crop_top + half * (1 - picture.crop_top - picture.crop_bottom)
    lines += ["", f"half of it lies above {where:.0%} of the frame's height"]
    if found.novelty is not None:
        beyond = float((found.novelty > 1).mean())
        lines.append(f"novelty above 1.0 in {beyond:.1%} of {len(found.ids)} frames, at most {found.novelty.max():.2f}")
    return "\n".join(lines)


def _bar(band: tuple[int, int, float] | None, largest: float) -> str:
    if band is None:
        return ""
    begin, end, share = band
    return f"{begin:>4}-{end - 1:<4} {share:>6.1%}  {'█' * round(BAR_WIDTH * share / largest)}"


def _middle(along: Any) -> float:
    """Where half of the sum is reached, as a fraction of the length."""
    import numpy as np

    if not along.sum():
        return 0.5
    sums = np.concatenate([[0.0], np.cumsum(along, dtype=np.float64)])
    return float(np.interp(sums[-1] / 2, sums, np.arange(len(sums)))) / len(along)
