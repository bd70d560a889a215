"""`sepilot drive FILE --source SOURCE`: steer by a camera, a video, a folder of images or a recorded drive."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

# OpenCV, numpy and the interpreter are imported where they are first needed: `--help` answers without them.
if TYPE_CHECKING:
    from sepilot_runtime.loop import DriveSummary, Pace
    from sepilot_runtime.pilot import Pilot
    from sepilot_runtime.sinks import Sink
    from sepilot_runtime.sources import Source

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot drive swift-int8.tflite --source 0                    camera 0, JSON lines to stdout
  sepilot drive swift-int8.tflite --source road.mp4 --overlay out.mp4
  sepilot drive swift-f32.onnx --source data/my_tub --output steering.jsonl --max-frames 500

Each line holds: frame (id), time_s, steering (-1 to 1, + = right), steering_deg, raw (before
clipping), preprocess_us, infer_us, total_us (frame in memory to steering), age_ms (arrival of the
frame to steering) and, where the source has it, the recorded steering.
Ctrl-C ends a drive cleanly: the files hold what was driven until then, and the exit code is 130.
"""


def main(argv: Sequence[str]) -> int:
    """Run `sepilot drive`."""
    arguments = _parser().parse_args(argv)
    summary = _drive(arguments)
    if not arguments.quiet:
        print(_summary_line(summary), file=sys.stderr)
    if summary.ended == "interrupted":
        return 130
    if summary.ended not in ("end of source", "max-frames"):
        from sepilot_runtime.errors import DriveError

        raise DriveError(summary.ended)
    return 0


def _drive(arguments: argparse.Namespace) -> DriveSummary:
    from sepilot_runtime.files import require_new
    from sepilot_runtime.loop import drive_frames
    from sepilot_runtime.opencv import cv2
    from sepilot_runtime.pilot import load_pilot
    from sepilot_runtime.sources import open_source

    # Small pictures gain nothing from OpenCV's own threads and lose steady timing.
    cv2.setNumThreads(1)
    if arguments.output:
        require_new(arguments.output)
    if arguments.overlay:
        from sepilot_runtime.video import require_video_path

        require_video_path(arguments.overlay)
    pilot = load_pilot(arguments.file, threads=arguments.threads)
    with open_source(arguments.source) as source:
        if not arguments.quiet:
            print(_start_line(pilot, source), file=sys.stderr)
        with contextlib.ExitStack() as stack:
            sinks = _open_sinks(arguments, pilot, source, stack)
            return drive_frames(pilot, source, sinks, max_frames=arguments.max_frames, pace=_pace(arguments))


def _open_sinks(arguments: argparse.Namespace, pilot: Pilot, source: Source, stack: contextlib.ExitStack) -> list[Sink]:
    from sepilot_runtime.sinks import JsonLinesSink

    sinks: list[Sink] = []
    if arguments.output:
        sinks.append(JsonLinesSink(stack.enter_context(_text_output(arguments.output)), str(arguments.output)))
    else:
        sinks.append(JsonLinesSink(sys.stdout))
    if arguments.overlay:
        from sepilot_runtime.overlay import Overlay
        from sepilot_runtime.video import overlay_video

        rate_hz = arguments.rate_hz or source.info.rate_hz
        overlay = Overlay(pilot, title=pilot.contract.provenance.recipe, rate_hz=rate_hz, horizon=arguments.horizon)
        sinks.append(stack.enter_context(overlay_video(arguments.overlay, overlay, rate_hz=rate_hz)))
    return sinks


@contextlib.contextmanager
def _text_output(path: Path) -> Iterator[TextIO]:
    from sepilot_runtime.files import atomic_file

    with atomic_file(path) as part, part.open("w", encoding="utf-8") as file:
        yield file


def _pace(arguments: argparse.Namespace) -> Pace:
    from sepilot_runtime.loop import paced, paced_at

    if arguments.rate_hz:
        return paced_at(arguments.rate_hz)
    return paced if arguments.paced else iter


def _start_line(pilot: Pilot, source: Source) -> str:
    engine, provenance = pilot.engine, pilot.contract.provenance
    threads = f"{engine.threads} thread" + ("s" if engine.threads > 1 else "")
    golden = len(pilot.contract.golden)
    return (
        f"{provenance.recipe} {provenance.precision} on {engine.name}, {threads}, {golden} golden frames passed\n"
        f"{source.info}"
    )


def _summary_line(summary: DriveSummary) -> str:
    parts = [f"{summary.frames} frames in {summary.seconds:.1f} s"]
    if summary.total and summary.age_p50_ms is not None:
        parts.append(f"frame to angle p50 {summary.total.p50_us:.0f} µs, p99 {summary.total.p99_us:.0f} µs")
        parts.append(f"age p50 {summary.age_p50_ms:.2f} ms")
    parts += [f"{count} {reason}" for reason, count in summary.lost.items()]
    parts.append(summary.ended)
    return "; ".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepilot drive",
        description="Steer by a camera, a video, a folder of images or a recorded drive.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a .tflite or .onnx file made by `sepilot export`")
    parser.add_argument(
        "--source",
        required=True,
        metavar="SOURCE",
        help="camera index, video file, image, folder of images, or Donkeycar tub",
    )
    parser.add_argument("--threads", type=_positive_int, default=1, metavar="N", help="of the interpreter (default 1)")
    parser.add_argument("--max-frames", type=_positive_int, metavar="N", help="stop after N frames")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--paced", action="store_true", help="give a file's frames at the speed of their time stamps")
    pace.add_argument("--rate-hz", type=_positive_float, metavar="HZ", help="take at most HZ frames per second")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON lines into a new file instead of stdout")
    parser.add_argument("--overlay", type=Path, metavar="FILE", help="draw a new .mp4 (or, for browsers, .webm) video")
    parser.add_argument(
        "--horizon",
        type=_fraction,
        default=0.45,
        metavar="Y",
        help="row of the horizon as a fraction of the frame's height, for drawing the path (default 0.45)",
    )
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")
    return parser


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1 expected, found {value}")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e4:
        raise argparse.ArgumentTypeError(f"a rate between 0 and 10000 expected, found {text}")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 0.9:
        raise argparse.ArgumentTypeError(f"between 0 and 0.9 expected, found {text}")
    return value
