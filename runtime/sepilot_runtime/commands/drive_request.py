"""What `sepilot drive` and `sepilot run` are asked for: the command line as one frozen request."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.commands.arguments import Part, flag, number, request_from, switch
from sepilot_runtime.commands.reader_arguments import READER
from sepilot_runtime.engine.names import OWN, USUAL_ENGINES
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.source.camera_request import CameraRequest, PixelFormat

__all__ = ["LEAST_LIVE_HZ", "DriveRequest", "drive_request", "run_request"]

LEAST_LIVE_HZ = 5.0
"""The watchdog and the serial protocol's dead-man time-out are near a quarter of a second."""

PAGE = "web page (docs/web.md)"
CAMERA = "camera (what to ask it for; the start line says what it gives)"
RECOGNITION = "recognition (docs/recognition.md)"
DEFAULT_PAGE = "127.0.0.1:8887"

EPILOG = """\
examples:
  sepilot drive swift-int8.tflite --source 0                    camera 0, JSON lines to stdout
  sepilot drive swift-int8.tflite --source road.mp4 --overlay out.mp4
  sepilot drive swift-f32.onnx --source data/my_tub --output steering.jsonl --max-frames 500

Each line holds: frame (id), time_s, steering (-1 to 1, + = right), steering_deg, raw (before
clipping), preprocess_us, infer_us, post_us (numbers to answer), total_us (frame in memory to
steering), age_ms (arrival of the frame to steering) and, where the source has it, the recorded
steering. What else the model says stands under outputs by name, with value and raw.
A recording gives one line per frame, a camera also lines without one; its last is "stopped".
A file that `sepilot check` failed, by the check.json beside it, drives with a warning on stderr.
Ctrl-C ends a drive cleanly: the files hold what was driven until then, and the exit code is 130.
"""


RUN_EPILOG = """\
examples:
  sepilot run signs-int8.tflite --source 0                      camera 0, JSON lines to stdout
  sepilot run signs-int8.tflite --source signs/test --overlay out.mp4
  sepilot run signs-int8.tflite --source road.mp4 --web

Each line holds: frame (id), time_s, state, preprocess_us, infer_us, post_us (numbers to answer),
total_us (frame in memory to answer), age_ms (arrival of the frame to answer) and, under outputs by
name, value, raw and, where the source has it, what was recorded. State is running, or doubtful
with a reason where the frame is black, frozen or unlike those of the training.
A recording gives one line per frame, a camera also lines without one; its last is "stopped".
"""

FOR_CARS = ("to", "record", "horizon", "car")
"""Fields that mean nothing where no car is driven."""


UNRELATED = "limits.max_brightness_step=255"
"""Pictures of a set, or of whatever a camera is pointed at, need not follow upon one another as those of a road do."""


def _size(text: str) -> tuple[int, int]:
    width, found, height = text.lower().partition("x")
    numbers = found and width.isdecimal() and height.isdecimal()
    if not numbers or not (1 <= int(width) <= 8192 and 1 <= int(height) <= 8192):
        raise argparse.ArgumentTypeError(f"WIDTHxHEIGHT in pixels expected, such as 640x480, found {text!r}")
    return int(width), int(height)


def _new_file(text: str) -> Path:
    """A file of lines; what names an output of the car belongs to --to."""
    from sepilot_runtime.output.registry import MODULES

    if ":" in text and text.partition(":")[0] in MODULES:
        raise argparse.ArgumentTypeError(f"a file expected, found {text}; --to sends steering there")
    return Path(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveRequest:
    """A field per flag, which says what it is; None where it was not given.

    Attributes:
        shows: what the model says is shown, and no car obeys it: `sepilot run`.
    """

    file: Path | None = flag("a .tflite or .onnx file made by `sepilot export`", "FILE", positional=True, nargs="?")
    slots: Path | None = flag("drive by the model that `sepilot install` made active there", "DIR")
    shadow: Path | None = flag(
        "run another file beside it and report how far apart they are (default: the one that `sepilot install "
        "--shadow` put into --slots)", "FILE",
    )  # fmt: skip
    engine: str | None = flag(f"{', '.join(OWN)} (default: {USUAL_ENGINES})", "NAME")
    threads: int | None = flag("of the interpreter (default 1)", "N")
    profile: Path | None = flag("file, engine and threads as `sepilot bench --write-profile` chose", "JSON")
    source: str = flag(
        "camera index or device, rtsp:// or http:// stream, gst:PIPELINE, or any recording that `sepilot drives` lists",
        "SOURCE", required=True,
    )  # fmt: skip
    max_frames: int | None = flag("stop after N frames", "N")
    paced: bool = switch("give a file's frames at the speed of their time stamps", instead="pace")
    rate_hz: float | None = flag(
        "take at most HZ frames per second; a live drive counts its limits in these periods", "HZ",
        type=number(0, 1e4, " Hz", above=True), instead="pace",
    )  # fmt: skip
    as_camera: bool = switch(
        "play a recording as a camera: frames come when they are due, under the supervision of a live drive"
    )
    car: Path | None = flag("this car's servo, limits and outputs", "TOML")
    overrides: tuple[str, ...] = flag(
        "override one value of the car's file, as in actuation.trim=0.03", "KEY=VALUE", name="--set"
    )
    output: Path | None = flag("JSON lines into a new file instead of stdout", "FILE", type=_new_file)
    to: tuple[str, ...] = flag(
        "serial:PORT, pca9685:, udp://HOST:PORT, mqtt://HOST/TOPIC or jsonl:FILE; several may be given", "OUTPUT"
    )
    record: Path | None = flag("record what is seen and done, as a Donkeycar tub", "DIR")
    overlay: Path | None = flag("draw a new .mp4 (or, for browsers, .webm) video", "FILE")
    horizon: float = flag(
        "row of the horizon as a fraction of the frame's height, for drawing the path (default 0.45)", "Y",
        type=number(0, 0.9), default=0.45,
    )  # fmt: skip
    quiet: bool = switch("nothing on stderr but errors")
    web: str | None = flag(
        f"serve a page that shows this drive and, with a token, stops it (default {DEFAULT_PAGE})", "HOST:PORT",
        nargs="?", const=DEFAULT_PAGE, group=PAGE,
    )  # fmt: skip
    web_token: str | None = flag(
        "what the page needs to stop, start and record, and from another machine to look as well; it is safer in the "
        "environment, as SEPILOT_WEB_TOKEN", "TOKEN", group=PAGE,
    )  # fmt: skip
    camera_size: tuple[int, int] = flag(
        "for example 640x480 (default: the driver's)", "WxH", type=_size, default=(0, 0), group=CAMERA
    )
    camera_rate_hz: float = flag(
        "frames per second (default: the driver's)", "HZ", type=number(0, 1000, " Hz", above=True), default=0.0,
        group=CAMERA,
    )  # fmt: skip
    camera_format: PixelFormat = flag(
        "auto, nv12, grey, yuyv or mjpg; auto takes the cheapest that is fast enough (default)", "FORMAT",
        type=PixelFormat, choices=list(PixelFormat), default=PixelFormat.AUTO, group=CAMERA,
    )  # fmt: skip
    gallery: Path | None = flag(
        "tell who is seen, of those that `sepilot enrol` put there, in place of a vector", "FILE", group=RECOGNITION
    )
    claim: str | None = flag("tell only whether it is this one", "NAME", group=RECOGNITION)
    reader: ReaderOptions
    shows: bool = False

    @property
    def camera(self) -> CameraRequest:
        """What the flags ask a camera for, of whole frames in colour."""
        width, height = self.camera_size
        return CameraRequest(width=width, height=height, rate_hz=self.camera_rate_hz, format=self.camera_format)


def drive_request(argv: Sequence[str]) -> DriveRequest:
    """The request of a command line; argparse ends the process where it makes no sense."""
    return request_from(
        argv, DriveRequest, "drive", "Steer by a camera, a video, a folder of images or a recorded drive.", EPILOG,
        reader=READER, shows=_always(False),
    )  # fmt: skip


def run_request(argv: Sequence[str]) -> DriveRequest:
    """The same of `sepilot run`. Raises UsageError for what only a car can be asked for."""
    what = "Show what a file that does not steer says of a camera, a video or pictures."
    request = request_from(
        argv, DriveRequest, "run", what, RUN_EPILOG, hidden=FOR_CARS, reader=READER, shows=_always(True)
    )
    unset = {field.name: field.default for field in fields(DriveRequest)}
    for name in FOR_CARS:
        if (given := getattr(request, name)) not in (unset[name], ()):
            said = " ".join(map(str, given)) if isinstance(given, tuple) else given
            raise UsageError(f"--{name} {said}: for a car that is driven, by `sepilot drive`; nothing drives here")
    for text in request.overrides:
        if not text.startswith("limits."):
            raise UsageError(f"--set {text}: a limit expected, as in limits.max_novelty=off; no car is driven")
    return replace(request, overrides=(UNRELATED, *request.overrides))


def _always(value: bool) -> Part:
    return (lambda parser: None), (lambda arguments: value)
