"""`sepilot compare A B --frames SOURCE`: two files side by side over a recording."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.commands.arguments import flag, number, request_from, switch
from sepilot_runtime.commands.reader_arguments import READER
from sepilot_runtime.engine.names import OWN
from sepilot_runtime.recording.options import ReaderOptions

if TYPE_CHECKING:
    from sepilot_runtime.engine.pilot import Pilot
    from sepilot_runtime.explain.side_by_side import Answers, Difference
    from sepilot_runtime.view.drawing import Canvas

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot compare swift-f32.tflite swift-int8.tflite --frames data/my_tub --out worst.png
  sepilot compare old.onnx new.tflite --frames road.mp4 --json > compare.json
  sepilot compare old.tflite new.tflite --frames data/my_tub --max-diff 3

The files may be of different formats, precisions and pictures. Both answer to every frame, in turns
which is first; every output that both have is compared. With --max-diff the exit code is 1 when they
are further apart on any frame. --out draws the worst frames of the first output: one picture, or a
new folder with worst.png and compare.json.
"""


def _limit(text: str) -> tuple[str, float]:
    """An output's name, "" for all of them, and its limit."""
    name, _, limit = text.rpartition("=")
    if not 0 <= float(limit) < math.inf:
        raise argparse.ArgumentTypeError(f"a number of 0 or more expected, found {limit}")
    return name, float(limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    first: Path = flag("a .tflite or .onnx file of `sepilot export`", "A", positional=True)
    second: Path = flag("another", "B", positional=True)
    frames: str = flag("any recording that `sepilot drives` lists", "SOURCE", required=True)
    out: Path | None = flag("a new picture (.png, .jpg) of the worst frames, or a new folder", "PATH")
    count: int = flag("worst frames (default 12)", "N", default=12)
    max_frames: int | None = flag("compare on the first N frames only", "N")
    max_diff: tuple[tuple[str, float], ...] = flag(
        "exit 1 when any frame is further apart, in degrees or the output's own unit; may be repeated",
        "[OUTPUT=]NUMBER", type=_limit,
    )  # fmt: skip
    engine: str = flag(f"{', '.join(OWN)}: of both files, or of A and of B", "NAME[,NAME]", default="")
    threads: int = flag("of the interpreters (default 1)", "N", default=1)
    horizon: float = flag(
        "row of the horizon as a fraction of the frame's height, for drawing (default 0.45)", "Y",
        type=number(0, 0.9), default=0.45,
    )  # fmt: skip
    json: bool = switch("print one JSON document")
    reader: ReaderOptions


def main(argv: Sequence[str]) -> int:
    """Run `sepilot compare`."""
    request = request_from(
        argv, CompareRequest, "compare",
        "Let two files answer to a recording, side by side: how far apart, which is nearer, worst frames.", EPILOG,
        reader=READER,
    )  # fmt: skip

    from sepilot_runtime.base.opencv import cv2
    from sepilot_runtime.explain.explanation import first_frames, open_recording
    from sepilot_runtime.explain.side_by_side import answers_of, difference, judgement
    from sepilot_runtime.explain.side_by_side_report import document_of, table

    cv2.setNumThreads(1)
    _require_out(request.out)
    pilots = _open(request)
    request = replace(request, reader=request.reader.wishing(o.name for o in pilots[0].contract.outputs))
    with open_recording(request.frames, request.reader) as source:
        answers = answers_of(*pilots, first_frames(source, request.max_frames))
    found = {name: (difference(said), judgement(said)) for name, said in answers.said.items()}
    document = document_of(pilots, answers, found, request.frames, request.count)
    if request.out:
        _write(request.out, _sheet(request, pilots, answers), document)
    print(json.dumps(document, indent=2, allow_nan=False) if request.json else table(pilots, answers, found))
    beyond = [_beyond(request, answers, name, different) for name, (different, _) in found.items()]
    return 1 if any(beyond) else 0


def _beyond(request: CompareRequest, answers: Answers, name: str, found: Difference) -> bool:
    """Whether the two are further apart in one output than is allowed, told in one line."""
    from sepilot_runtime.contract.outputs.units import amount, mark_of

    limits = dict(request.max_diff)
    said, allowed = answers.said[name], limits.get(name, limits.get(""))
    if allowed is None or found.max <= allowed:
        return False
    worst, unit = int(answers.ids[abs(said.apart).argmax()]), mark_of(said.output)
    apart = (f"{name} " if len(answers.said) > 1 else "") + amount(found.max, said.output)
    print(f"sepilot: frame {worst}: {apart} apart, {allowed:g}{unit} allowed by --max-diff", file=sys.stderr)
    return True


def _open(request: CompareRequest) -> tuple[Pilot, Pilot]:
    from sepilot_runtime.base.errors import UsageError
    from sepilot_runtime.engine.model_file import read_model_file
    from sepilot_runtime.engine.names import ENGINES, engines_named, runs
    from sepilot_runtime.engine.pilot import load_pilot
    from sepilot_runtime.engine.trial import time_limit

    names: Sequence[str | None] = engines_named(request.engine) or [None]
    if len(names) > 2:
        raise UsageError(f"--engine: one name, or one for each file, expected, found {len(names)}")
    pilots = []
    for path, engine in ((request.first, names[0]), (request.second, names[-1])):
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
    from sepilot_runtime.explain.side_by_side_report import name_of
    from sepilot_runtime.explain.side_by_side_sheet import draw_sheet

    said = next(iter(answers.said.values()))
    worst = worst_frames(answers, said, request.count)
    ids = {int(answers.ids[place]) for place in worst}
    with open_recording(request.frames, request.reader) as source:
        frames = {frame.id: frame for frame in first_frames(source, len(answers.ids)) if frame.id in ids}
    names = f"{name_of(pilots[0])}", f"{name_of(pilots[1])}"
    return draw_sheet(answers, said, worst, frames, names, request.frames, horizon=request.horizon)
