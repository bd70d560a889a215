"""`sepilot drive FILE --source SOURCE`: steer by a camera, a video, a folder of images or a recorded drive."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.commands.arguments import count, horizon
from sepilot_runtime.commands.drive_page import add_web_arguments, bind_page, serve_page
from sepilot_runtime.source.camera_request import add_camera_arguments

# OpenCV, numpy and the interpreter are imported where they are first needed: `--help` answers without them.
if TYPE_CHECKING:
    from sepilot_runtime.drive.car_config import CarConfig
    from sepilot_runtime.drive.loop import NewPilot
    from sepilot_runtime.drive.step import Sink
    from sepilot_runtime.drive.summary import DriveSummary
    from sepilot_runtime.drive.supervisor import Control
    from sepilot_runtime.engine.pilot import Pilot
    from sepilot_runtime.source.pace import Pace
    from sepilot_runtime.source.protocol import LiveSource, Source

__all__ = ["main"]

INTERRUPTED, TERMINATED = "interrupted", "terminated"

LEAST_LIVE_HZ = 5.0
"""The watchdog and the serial protocol's dead-man time-out are near a quarter of a second."""

EPILOG = """\
examples:
  sepilot drive swift-int8.tflite --source 0                    camera 0, JSON lines to stdout
  sepilot drive swift-int8.tflite --source road.mp4 --overlay out.mp4
  sepilot drive swift-f32.onnx --source data/my_tub --output steering.jsonl --max-frames 500

Each line holds: frame (id), time_s, steering (-1 to 1, + = right), steering_deg, raw (before
clipping), preprocess_us, infer_us, total_us (frame in memory to steering), age_ms (arrival of the
frame to steering) and, where the source has it, the recorded steering.
A recording gives one line per frame, a camera also lines without one; its last is "stopped".
A file that `sepilot check` failed, by the check.json beside it, drives with a warning on stderr.
Ctrl-C ends a drive cleanly: the files hold what was driven until then, and the exit code is 130.
"""


def main(argv: Sequence[str]) -> int:
    """Run `sepilot drive`."""
    arguments = _parser().parse_args(argv)
    summary = _drive(arguments)
    if summary.ended == INTERRUPTED:
        return 130
    if summary.ended not in ("end of source", "max-frames", TERMINATED):
        from sepilot_runtime.base.errors import DriveError

        raise DriveError(summary.ended)
    return 0


def _drive(arguments: argparse.Namespace) -> DriveSummary:
    from sepilot_runtime.base.opencv import cv2
    from sepilot_runtime.commands.drive_models import DriveModels
    from sepilot_runtime.commands.drive_outputs import open_sinks, require_absent
    from sepilot_runtime.drive.car_config import load_car
    from sepilot_runtime.drive.supervisor import Control
    from sepilot_runtime.source.camera_request import camera_request
    from sepilot_runtime.source.opening import open_source

    # Small pictures gain nothing from OpenCV's own threads and lose steady timing.
    cv2.setNumThreads(1)
    require_absent(arguments)
    car = load_car(arguments.car, arguments.overrides)
    models = DriveModels(arguments, car)
    pilot, control = models.driving(), Control(recording=arguments.record is not None)
    # People want colour and the whole frame; models alone are quicker served.
    watched = arguments.overlay or arguments.record or arguments.web
    asked = camera_request(arguments, None if watched else models.picture())
    with open_source(arguments.source, asked) as source, contextlib.ExitStack() as stack:
        stack.callback(models.close)
        live = _as_live(source, arguments)
        if arguments.shadow and live is None:
            raise UsageError(f"--shadow {arguments.shadow}: for a camera, or a recording with --as-camera")
        if source.info.live:
            models.bind_to(asked.picture)
        if not arguments.quiet:
            print(_start_line(pilot, live or source), file=sys.stderr)
        page = bind_page(arguments, stack)
        # Before the outputs, so that a second Ctrl-C cannot keep them from being closed.
        stack.enter_context(_signals(control))
        sinks = open_sinks(arguments, car, pilot, live or source, control, stack)
        if page is not None:
            stack.enter_context(serve_page(page, arguments, car, models.driving, live or source, sinks, control))
        if live is not None:
            shadow = models.start_shadow(sinks, stack)
            summary = _drive_live(arguments, car, pilot, live, sinks, control, models.newer)
            if shadow is not None:
                print(f"shadow {shadow.name}: {shadow.report()}", file=sys.stderr)
            if not arguments.quiet:
                print("".join(_rate_advice(summary, live.info.rate_hz)), end="", file=sys.stderr)
        else:
            from sepilot_runtime.drive.recorded import drive_frames

            summary = drive_frames(
                pilot, source, sinks, max_frames=arguments.max_frames, pace=_pace(arguments), actuation=car.actuation,
                control=control,
            )  # fmt: skip
        # Before the outputs are closed: one that cannot be left in neutral ends the program with its own words.
        if not arguments.quiet:
            print("\n".join(_summary_lines(summary)), file=sys.stderr)
        return summary


def _as_live(source: Source, arguments: argparse.Namespace) -> LiveSource | None:
    """The source, where it is to be driven live."""
    if not source.info.live and not arguments.as_camera:
        return None
    if source.info.live:
        camera = cast("LiveSource", source)
        if not arguments.rate_hz:
            return camera
        if arguments.rate_hz < LEAST_LIVE_HZ:
            raise UsageError(
                f"--rate-hz {arguments.rate_hz:g}: at least {LEAST_LIVE_HZ:g} expected for a camera; outputs take a "
                "longer silence for a drive that hangs"
            )
        from sepilot_runtime.source.throttled import ThrottledSource

        return ThrottledSource(camera, arguments.rate_hz)
    from sepilot_runtime.source.replay import ReplaySource

    return ReplaySource(source, rate_hz=arguments.rate_hz)


def _drive_live(
    arguments: argparse.Namespace,
    car: CarConfig,
    pilot: Pilot,
    source: LiveSource,
    sinks: Sequence[Sink],
    control: Control,
    new_pilot: NewPilot,
) -> DriveSummary:
    from sepilot_runtime.drive.loop import drive_live
    from sepilot_runtime.drive.novelty import novelty_of

    if car.limits.max_novelty == "auto" and novelty_of(pilot.contract, car.limits) is None:
        name = pilot.engine.path.name
        print(
            f"warning: {name}: knows no limit for novel pictures, none will stop the car; train again", file=sys.stderr
        )
    return drive_live(
        pilot, source, sinks, limits=car.limits, actuation=car.actuation, control=control, new_pilot=new_pilot,
        novelty=lambda pilot: novelty_of(pilot.contract, car.limits), max_frames=arguments.max_frames,
    )  # fmt: skip


@contextlib.contextmanager
def _signals(control: Control) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end the drive between two frames, so that the last word is neutral."""
    reasons = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED, signal.SIGHUP: TERMINATED}
    before = {
        number: signal.signal(number, lambda caught, _: control.end(reasons[signal.Signals(caught)]))
        for number in reasons
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pace(arguments: argparse.Namespace) -> Pace:
    from sepilot_runtime.source.pace import paced, paced_at

    if arguments.rate_hz:
        return paced_at(arguments.rate_hz)
    return paced if arguments.paced else iter


def _start_line(pilot: Pilot, source: Source) -> str:
    from sepilot_runtime.contract.frame_shape import other_shape

    engine, provenance = pilot.engine, pilot.contract.provenance
    threads = f"{engine.threads} thread" + ("s" if engine.threads > 1 else "")
    golden = len(pilot.contract.golden)
    other = other_shape(pilot.contract, source.info.width, source.info.height)
    return (
        f"{provenance.recipe} {provenance.precision} on {engine.name}, {threads}, {golden} golden frames passed\n"
        f"{source.info}" + (f"\nwarning: {source.info.where}: {other}" if other else "")
    )


def _summary_lines(summary: DriveSummary) -> list[str]:
    parts = [f"{summary.frames} frames in {summary.seconds:.1f} s"]
    if summary.total and summary.age:
        parts.append(f"frame to angle p50 {summary.total.p50_us:.0f} µs, p99 {summary.total.p99_us:.0f} µs")
        parts.append(f"age p50 {summary.age.p50_us / 1000:.2f} ms")
    if summary.late:
        parts.append(f"{summary.late} late")
    parts += [f"{n} {reason}" for reason, n in summary.lost.items() if n]
    parts.append(summary.ended)
    lines = ["; ".join(parts)]
    if summary.neutral:
        causes = ", ".join(f"{reason} ({n}x)" for reason, n in summary.neutral.items())
        lines.append(f"neutral for {summary.seconds_in.get('neutral', 0.0):.1f} s: {causes}")
    lines += [f"steps not taken: {said} ({n}x)" for said, n in summary.unwritten.items()]
    return lines


def _rate_advice(summary: DriveSummary, rate_hz: float) -> Iterator[str]:
    """A line, where the camera gave so few frames that the drive took it for broken."""
    watched_s = sum(summary.seconds_in.get(state, 0.0) for state in ("driving", "degraded", "neutral"))
    found_hz = summary.frames / watched_s if watched_s > 1 else rate_hz
    if "no frame" in summary.neutral and LEAST_LIVE_HZ <= found_hz < 0.75 * rate_hz:
        yield (
            f"the camera gave {found_hz:.0f} frames/s where {rate_hz:g} were expected (little light makes cameras "
            f"slower); with --rate-hz {max(found_hz // 1, LEAST_LIVE_HZ):g} the limits count its true periods\n"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepilot drive",
        description="Steer by a camera, a video, a folder of images or a recorded drive.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="a .tflite or .onnx file made by `sepilot export`"
    )
    parser.add_argument(
        "--slots", type=Path, metavar="DIR", help="drive by the model that `sepilot install` made active there"
    )
    parser.add_argument(
        "--shadow",
        type=Path,
        metavar="FILE",
        help="run another file beside it and report how far apart they are (default: the one that "
        "`sepilot install --shadow` put into --slots)",
    )
    parser.add_argument(
        "--source",
        required=True,
        metavar="SOURCE",
        help="camera index or device, rtsp:// or http:// stream, gst:PIPELINE, video file, image, folder of images, "
        "or Donkeycar tub",
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="litert, onnxruntime, openvino or openvino-bf16 (default: litert for .tflite, onnxruntime for .onnx)",
    )
    parser.add_argument("--threads", type=count, metavar="N", help="of the interpreter (default 1)")
    parser.add_argument(
        "--profile", type=Path, metavar="JSON", help="file, engine and threads as `sepilot bench --write-profile` chose"
    )
    parser.add_argument("--max-frames", type=count, metavar="N", help="stop after N frames")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--paced", action="store_true", help="give a file's frames at the speed of their time stamps")
    pace.add_argument(
        "--rate-hz",
        type=_positive_float,
        metavar="HZ",
        help="take at most HZ frames per second; a live drive counts its limits in these periods",
    )
    parser.add_argument(
        "--as-camera",
        action="store_true",
        help="play a recording as a camera: frames come when they are due, under the supervision of a live drive",
    )
    parser.add_argument("--car", type=Path, metavar="TOML", help="this car's servo, limits and outputs")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one value of the car's file, as in actuation.trim=0.03",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON lines into a new file instead of stdout")
    parser.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="OUTPUT",
        help="serial:PORT, pca9685:, udp://HOST:PORT, mqtt://HOST/TOPIC or jsonl:FILE; several may be given",
    )
    parser.add_argument("--record", type=Path, metavar="DIR", help="record what is seen and done, as a Donkeycar tub")
    parser.add_argument("--overlay", type=Path, metavar="FILE", help="draw a new .mp4 (or, for browsers, .webm) video")
    parser.add_argument(
        "--horizon",
        type=horizon,
        default=0.45,
        metavar="Y",
        help="row of the horizon as a fraction of the frame's height, for drawing the path (default 0.45)",
    )
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")
    add_camera_arguments(parser)
    add_web_arguments(parser)
    return parser


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e4:
        raise argparse.ArgumentTypeError(f"a rate between 0 and 10000 expected, found {text}")
    return value
