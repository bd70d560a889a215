"""What `sepilot drive` is asked for: its command line as one frozen request."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.commands.arguments import count, horizon, request_of
from sepilot_runtime.commands.camera_arguments import add_camera_arguments, camera_request
from sepilot_runtime.commands.reader_arguments import add_reader_arguments, reader_options
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.source.camera_request import CameraRequest

__all__ = ["LEAST_LIVE_HZ", "DriveRequest", "drive_request"]

LEAST_LIVE_HZ = 5.0
"""The watchdog and the serial protocol's dead-man time-out are near a quarter of a second."""

DEFAULT_PAGE = "127.0.0.1:8887"

EPILOG = """\
examples:
  sepilot drive swift-int8.tflite --source 0                    camera 0, JSON lines to stdout
  sepilot drive swift-int8.tflite --source road.mp4 --overlay out.mp4
  sepilot drive swift-f32.onnx --source data/my_tub --output steering.jsonl --max-frames 500

Each line holds: frame (id), time_s, steering (-1 to 1, + = right), steering_deg, raw (before
clipping), preprocess_us, infer_us, total_us (frame in memory to steering), age_ms (arrival of the
frame to steering) and, where the source has it, the recorded steering. What else the model says
stands under outputs by name, with value and raw.
A recording gives one line per frame, a camera also lines without one; its last is "stopped".
A file that `sepilot check` failed, by the check.json beside it, drives with a warning on stderr.
Ctrl-C ends a drive cleanly: the files hold what was driven until then, and the exit code is 130.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveRequest:
    """A field per flag, as its help says it; None where it was not given.

    Attributes:
        overrides: of --set.
        camera: for whole frames in colour.
    """

    file: Path | None
    slots: Path | None
    shadow: Path | None
    engine: str | None
    threads: int | None
    profile: Path | None
    source: str
    reader: ReaderOptions
    max_frames: int | None
    paced: bool
    rate_hz: float | None
    as_camera: bool
    car: Path | None
    overrides: tuple[str, ...]
    output: Path | None
    to: tuple[str, ...]
    record: Path | None
    overlay: Path | None
    horizon: float
    quiet: bool
    camera: CameraRequest
    web: str | None
    web_token: str | None


def drive_request(argv: Sequence[str]) -> DriveRequest:
    """The request of a command line; argparse ends the process where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="sepilot drive",
        description="Steer by a camera, a video, a folder of images or a recorded drive.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model_arguments(parser)
    _add_source_arguments(parser)
    _add_output_arguments(parser)
    add_camera_arguments(parser)
    _add_web_arguments(parser)
    add_reader_arguments(parser)
    arguments = parser.parse_args(argv)
    return request_of(DriveRequest, arguments, camera=camera_request(arguments), reader=reader_options(arguments))


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="a .tflite or .onnx file made by `sepilot export`"
    )
    parser.add_argument(
        "--slots", type=Path, metavar="DIR", help="drive by the model that `sepilot install` made active there"
    )
    parser.add_argument(
        "--shadow", type=Path, metavar="FILE",
        help="run another file beside it and report how far apart they are (default: the one that "
        "`sepilot install --shadow` put into --slots)",
    )  # fmt: skip
    parser.add_argument(
        "--engine", metavar="NAME",
        help="litert, onnxruntime, openvino or openvino-bf16 (default: litert for .tflite, onnxruntime for .onnx)",
    )  # fmt: skip
    parser.add_argument("--threads", type=count, metavar="N", help="of the interpreter (default 1)")
    parser.add_argument(
        "--profile", type=Path, metavar="JSON", help="file, engine and threads as `sepilot bench --write-profile` chose"
    )


def _add_source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", required=True, metavar="SOURCE",
        help="camera index or device, rtsp:// or http:// stream, gst:PIPELINE, or any recording that "
        "`sepilot drives` lists",
    )  # fmt: skip
    parser.add_argument("--max-frames", type=count, metavar="N", help="stop after N frames")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--paced", action="store_true", help="give a file's frames at the speed of their time stamps")
    pace.add_argument(
        "--rate-hz", type=_rate, metavar="HZ",
        help="take at most HZ frames per second; a live drive counts its limits in these periods",
    )  # fmt: skip
    parser.add_argument(
        "--as-camera", action="store_true",
        help="play a recording as a camera: frames come when they are due, under the supervision of a live drive",
    )  # fmt: skip


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--car", type=Path, metavar="TOML", help="this car's servo, limits and outputs")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="override one value of the car's file, as in actuation.trim=0.03",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON lines into a new file instead of stdout")
    parser.add_argument(
        "--to", action="append", default=[], metavar="OUTPUT",
        help="serial:PORT, pca9685:, udp://HOST:PORT, mqtt://HOST/TOPIC or jsonl:FILE; several may be given",
    )  # fmt: skip
    parser.add_argument("--record", type=Path, metavar="DIR", help="record what is seen and done, as a Donkeycar tub")
    parser.add_argument("--overlay", type=Path, metavar="FILE", help="draw a new .mp4 (or, for browsers, .webm) video")
    parser.add_argument(
        "--horizon", type=horizon, default=0.45, metavar="Y",
        help="row of the horizon as a fraction of the frame's height, for drawing the path (default 0.45)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")


def _add_web_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("web page (docs/web.md)")
    group.add_argument(
        "--web", nargs="?", const=DEFAULT_PAGE, metavar="HOST:PORT",
        help=f"serve a page that shows this drive and, with a token, stops it (default {DEFAULT_PAGE})",
    )  # fmt: skip
    group.add_argument(
        "--web-token", metavar="TOKEN",
        help="what the page needs to stop, start and record, and from another machine to look as well; it is safer in "
        "the environment, as SEPILOT_WEB_TOKEN",
    )  # fmt: skip


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e4:
        raise argparse.ArgumentTypeError(f"a rate between 0 and 10000 expected, found {text}")
    return value
