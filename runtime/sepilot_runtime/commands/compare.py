"""`sepilot compare A B --frames SOURCE`: two files side by side over a recording."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.commands.arguments import count, horizon, request_of
from sepilot_runtime.commands.reader_arguments import add_reader_arguments, reader_options
from sepilot_runtime.recording.options import ReaderOptions

if TYPE_CHECKING:
    from sepilot_runtime.base.bootstrap import Interval
    from sepilot_runtime.engine.pilot import Pilot
    from sepilot_runtime.explain.side_by_side import Answers, Difference, Judgement
    from sepilot_runtime.view.drawing import Canvas

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot compare swift-f32.tflite swift-int8.tflite --frames data/my_tub --out worst.png
  sepilot compare old.onnx new.tflite --frames road.mp4 --json > compare.json
  sepilot compare old.tflite new.tflite --frames data/my_tub --max-diff 3

The files may be of different formats, precisions and pictures. Both steer over every frame, in turns
which is first. With --max-diff the exit code is 1 when they are further apart on any frame. --out
draws the worst frames: one picture, or a new folder with worst.png and compare.json.
"""

NAME_WIDTH = 38


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """A field per flag, as its help says it."""

    first: Path
    second: Path
    frames: str
    reader: ReaderOptions
    out: Path | None
    count: int
    max_frames: int | None
    max_diff: float | None
    engine: str | None
    threads: int
    horizon: float
    json: bool


def main(argv: Sequence[str]) -> int:
    """Run `sepilot compare`."""
    arguments = _parser().parse_args(argv)
    request = request_of(CompareRequest, arguments, reader=reader_options(arguments))

    from sepilot_runtime.base.opencv import cv2
    from sepilot_runtime.explain.explanation import first_frames, open_recording
    from sepilot_runtime.explain.side_by_side import answers_of, difference, judgement

    cv2.setNumThreads(1)
    _require_out(request.out)
    pilots = _open(request)
    with open_recording(request.frames, request.reader) as source:
        answers = answers_of(*pilots, first_frames(source, request.max_frames))
    found, judged = difference(answers), judgement(answers)
    document = _document(request, pilots, answers, found, judged)
    if request.out:
        _write(request.out, _sheet(request, pilots, answers), document)
    print(json.dumps(document, indent=2, allow_nan=False) if request.json else _table(pilots, answers, found, judged))
    if request.max_diff is not None and found.max_deg > request.max_diff:
        worst = int(answers.ids[abs(answers.apart_deg).argmax()])
        print(
            f"sepilot: frame {worst}: {found.max_deg:.2f}° apart, {request.max_diff:g}° allowed by --max-diff",
            file=sys.stderr,
        )
        return 1
    return 0


def _open(request: CompareRequest) -> tuple[Pilot, Pilot]:
    from sepilot_runtime.base.errors import UsageError
    from sepilot_runtime.engine.engines import ENGINES, engine_named, runs
    from sepilot_runtime.engine.model_file import read_model_file
    from sepilot_runtime.engine.pilot import load_pilot
    from sepilot_runtime.engine.trial import time_limit

    names = [engine_named(word) for word in request.engine.replace(",", " ").split()] if request.engine else []
    pilots = []
    for place, path in enumerate((request.first, request.second)):
        engine = None
        if len(names) == 2:
            engine = names[place]
        elif len(names) == 1:
            engine = names[0]
        elif names:
            raise UsageError(f"--engine: one name, or one for each file, expected, found {len(names)}")
        if engine and not runs(engine, kind := read_model_file(path).kind):
            raise UsageError(f"--engine: for {path} one of {', '.join(ENGINES[kind])} expected, found {engine}")
        with time_limit(path):
            pilots.append(load_pilot(path, threads=request.threads, engine=engine))
    return pilots[0], pilots[1]


def _require_out(out: Path | None) -> None:
    from sepilot_runtime.base.files import require_new
    from sepilot_runtime.view.contact_sheet import require_picture_path

    if out and out.suffix:
        require_picture_path(out)
    elif out:
        require_new(out)


def _write(out: Path, sheet: Canvas, document: dict[str, Any]) -> None:
    from sepilot_runtime.base.files import atomic_directory, write_json
    from sepilot_runtime.view.contact_sheet import write_picture

    if out.suffix:
        write_picture(sheet, out)
    else:
        with atomic_directory(out) as part:
            write_picture(sheet, part / "worst.png")
            write_json(part / "compare.json", document)
    print(f"-> {out}", file=sys.stderr)


def _sheet(request: CompareRequest, pilots: tuple[Pilot, Pilot], answers: Answers) -> Canvas:
    from sepilot_runtime.explain.explanation import first_frames, open_recording
    from sepilot_runtime.explain.side_by_side import worst_frames
    from sepilot_runtime.explain.side_by_side_sheet import draw_sheet

    worst = worst_frames(answers, request.count)
    ids = {int(answers.ids[place]) for place in worst}
    with open_recording(request.frames, request.reader) as source:
        frames = {frame.id: frame for frame in first_frames(source, len(answers.ids)) if frame.id in ids}
    names = f"{_name(pilots[0])}", f"{_name(pilots[1])}"
    return draw_sheet(answers, worst, frames, names, request.frames, horizon=request.horizon)


def _name(pilot: Pilot) -> str:
    return f"{pilot.engine.path.name} on {pilot.engine.name}"


def _document(
    request: CompareRequest,
    pilots: tuple[Pilot, Pilot],
    answers: Answers,
    found: Difference,
    judged: Judgement | None,
) -> dict[str, Any]:
    from sepilot_runtime.explain.side_by_side import DEAD_BAND_DEG, FAR_DEG, latencies, worst_frames

    return {
        "files": [
            {
                "path": str(pilot.engine.path),
                "engine": pilot.engine.name,
                "precision": pilot.contract.provenance.precision,
                "picture": list(pilot.contract.picture.shape),
                "latency": asdict(latency),
            }
            for pilot, latency in zip(pilots, latencies(answers), strict=True)
        ],
        "frames": request.frames,
        "far_deg": FAR_DEG,
        "dead_band_deg": DEAD_BAND_DEG,
        "difference": asdict(found),
        "judgement": asdict(judged) if judged else None,
        "worst": [
            {
                "frame": int(answers.ids[place]),
                "time_s": round(float(answers.times_s[place]), 4),
                "a_deg": round(float(answers.degrees[0, place]), 4),
                "b_deg": round(float(answers.degrees[1, place]), 4),
                "recorded_deg": _finite(float(answers.recorded_deg[place])),
            }
            for place in worst_frames(answers, request.count)
        ],
    }


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _table(pilots: tuple[Pilot, Pilot], answers: Answers, found: Difference, judged: Judgement | None) -> str:
    from sepilot_runtime.explain.side_by_side import DEAD_BAND_DEG, latencies

    errors = [f"{mae:.2f}" for mae in judged.mae_deg] if judged else ["-", "-"]
    lines = [f"{found.frames:,} frames", "", f"{'':2}{'file':{NAME_WIDTH}}  precision        p50 µs p99 µs  error°"]
    for letter, pilot, latency, error in zip("AB", pilots, latencies(answers), errors, strict=True):
        precision = pilot.contract.provenance.precision
        timing = f"{latency.p50_us:>6.0f} {latency.p99_us:>6.0f}"
        lines.append(f"{letter} {_short(_name(pilot)):{NAME_WIDTH}}  {precision:<15} {timing}  {error:>6}")
    correlation = "-" if found.correlation is None else f"{found.correlation:.4f}"
    side = "right" if found.bias_deg >= 0 else "left"
    sizes = [("mean", found.mean_deg), ("p50", found.p50_deg), ("p99", found.p99_deg), ("max", found.max_deg)]
    lines += [
        "",
        "difference   " + "   ".join(f"{name} {degrees:.3f}°" for name, degrees in sizes),
        f"             B steers {abs(found.bias_deg):.3f}° further {side} in the mean",
        f"             {found.far:.1%} of the frames beyond 1/3°, correlation {correlation}",
        f"             {found.sign_flips} frames to different sides, both by more than {DEAD_BAND_DEG:g}°",
    ]
    if judged:
        lines += ["", *_judged_lines(judged)]
    return "\n".join(lines)


def _judged_lines(judged: Judgement) -> list[str]:
    change = judged.b_over_a
    verdict = "B is nearer" if change.high < 0 else "A is nearer" if change.low > 0 else "no difference to be seen"
    lines = [
        f"recorded     {judged.frames:,} frames; their mean, as a constant, is off by {judged.constant_mae_deg:.2f}°",
        f"             B - A {_interval(change)}: {verdict}",
    ]
    for letter, interval in zip("AB", judged.over_constant, strict=True):
        word = "better" if interval.high < 0 else "worse" if interval.low > 0 else "no better"
        lines.append(f"             {letter} - constant {_interval(interval)}: {word} than the constant")
    return lines


def _interval(interval: Interval) -> str:
    return f"{interval.mean:+.3f}° (95 %: {interval.low:+.3f} to {interval.high:+.3f})"


def _short(name: str) -> str:
    """A name that fits its column. The middle is cut: the end tells files of one model apart."""
    if len(name) <= NAME_WIDTH:
        return name
    head = NAME_WIDTH // 3
    return f"{name[:head]}…{name[head + 1 - NAME_WIDTH :]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepilot compare",
        description="Let two files steer over a recording, side by side: difference in degrees, latency, worst frames.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", type=Path, metavar="A", help="a .tflite or .onnx file of `sepilot export`")
    parser.add_argument("second", type=Path, metavar="B", help="another")
    parser.add_argument("--frames", required=True, metavar="SOURCE", help="any recording that `sepilot drives` lists")
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="a new picture (.png, .jpg) of the worst frames, or a new folder"
    )
    parser.add_argument("--count", type=count, default=12, metavar="N", help="worst frames (default 12)")
    parser.add_argument("--max-frames", type=count, metavar="N", help="compare on the first N frames only")
    parser.add_argument("--max-diff", type=_degrees, metavar="DEG", help="exit 1 when any frame is further apart")
    parser.add_argument("--engine", metavar="NAME[,NAME]", help="of both files, or of A and of B")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="of the interpreters (default 1)")
    parser.add_argument(
        "--horizon", type=horizon, default=0.45, metavar="Y",
        help="row of the horizon as a fraction of the frame's height, for drawing (default 0.45)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_reader_arguments(parser)
    return parser


def _degrees(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"degrees of 0 or more expected, found {text}")
    return value
