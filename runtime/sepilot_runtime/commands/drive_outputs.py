"""The outputs of one drive, as its command line and its car's file name them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

# What only some drives need is imported where they need it: the first angle comes sooner.
from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.base.files import writing
from sepilot_runtime.drive.actuation import STEERING
from sepilot_runtime.drive.car_config import CarConfig
from sepilot_runtime.drive.step import Sink
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.output.background import Background
from sepilot_runtime.output.json_lines import JsonLinesSink
from sepilot_runtime.output.registry import open_output
from sepilot_runtime.source.protocol import Source

if TYPE_CHECKING:
    from sepilot_runtime.commands.drive_request import DriveRequest
    from sepilot_runtime.view.video import OverlaySink

__all__ = ["open_sinks", "require_absent", "steps_hz"]

OVERLAY_CLOSE_S = 20.0
"""For the frames that still wait to be drawn: people want their whole video, and the car stands by then."""


def open_sinks(
    request: DriveRequest,
    car: CarConfig,
    pilot: Pilot,
    source: Source,
    control: Control,
    stack: contextlib.ExitStack,
) -> list[Sink]:
    """Open everything that the request and the car name; `stack` closes it, and then tells what went wrong.

    In a live drive what may block runs in the background, and what does not steer and cannot be opened is told and
    keeps nobody from driving; a recording is gone through without losing a step.

    Raises:
        UsageError, OutputError, MissingExtraError: as `open_output`; without a live source also as `overlay_video` and
            `TubRecorder`.
    """
    live = source.info.live
    sinks: list[Sink] = []
    stack.callback(_tell_of_background, sinks)
    if request.output:
        sinks.append(_log(request.output, live, stack))
    else:
        lines = JsonLinesSink(sys.stdout, frames_only=not live)
        sinks.append(Background(lines, keep="newest") if live else lines)
    sinks += _recordings(request, pilot, source, control, stack)
    if "NOTIFY_SOCKET" in os.environ:
        from sepilot_runtime.output.systemd import open_systemd

        sinks += filter(None, [open_systemd()])
    for sink in sinks:
        stack.callback(sink.close)
    for spec in (*car.outputs, *request.to):
        # The car itself comes first: what is drawn and written may take its time.
        sinks.insert(0, open_output(spec, car.actuation.straight))
        stack.callback(sinks[0].close)
    return sinks


def _recordings(
    request: DriveRequest, pilot: Pilot, source: Source, control: Control, stack: contextlib.ExitStack
) -> Iterator[Sink]:
    """The video and the tub, where they are asked for and can be opened."""
    live = source.info.live
    if request.overlay:
        with _optional(live):
            video = stack.enter_context(_video(request.overlay, request, pilot, source))
            yield Background(video, keep="all", close_s=OVERLAY_CLOSE_S) if live else video
    if request.record:
        from sepilot_runtime.output.tub_recorder import TubRecorder

        scale_deg = pilot.contract.output(STEERING).scale
        with _optional(live):
            contract = pilot.contract
            recorder = TubRecorder(
                request.record, control, full_scale_deg=scale_deg, model=contract.provenance.recipe,
                outputs=[output.name for output in contract.outputs],
            )  # fmt: skip
            yield Background(recorder, keep="all", depth=256, close_s=10) if live else recorder


def require_absent(request: DriveRequest) -> None:
    """Refuse files of the command line that exist, before any work is done.

    Whether they can be written is found when they are opened: a live drive goes on without.

    Raises:
        UsageError: an overlay of another suffix than a video's.
        OutputError: there is something at one of the paths.
    """
    if request.overlay:
        from sepilot_runtime.view.video import require_video_suffix

        require_video_suffix(request.overlay)
    for path in (request.output, request.overlay, request.record):
        if path is not None and os.path.lexists(path):
            raise OutputError(f"{path}: exists already; name a new path or remove it first")


def steps_hz(request: DriveRequest, source: Source) -> float:
    """At what rate steps are expected. A live source knows of --rate-hz."""
    return source.info.rate_hz if source.info.live else request.rate_hz or source.info.rate_hz


def _tell_of_background(sinks: Sequence[Sink]) -> None:
    """What went wrong behind the drive's back."""
    for sink in sinks:
        if failure := getattr(sink, "failure", None):
            print(f"warning: {failure}", file=sys.stderr)
        if isinstance(sink, Background) and sink.dropped and not sink.newest and not sink.failure:
            print(f"warning: {sink.name}: {sink.dropped} steps came too fast and are missing", file=sys.stderr)


@contextlib.contextmanager
def _optional(live: bool) -> Iterator[None]:
    """What cannot be opened does not keep a live drive from starting."""
    try:
        yield
    except OutputError as e:
        if not live:
            raise
        print(f"warning: {e}; driving without it", file=sys.stderr)


def _video(
    path: Path, request: DriveRequest, pilot: Pilot, source: Source
) -> contextlib.AbstractContextManager[OverlaySink]:
    from sepilot_runtime.view.video import overlay_video

    rate_hz, title = steps_hz(request, source), pilot.contract.provenance.recipe
    if request.shows:
        from sepilot_runtime.view.shown_overlay import ShownOverlay

        return overlay_video(path, ShownOverlay(pilot, title=title), rate_hz=rate_hz)
    from sepilot_runtime.view.overlay import Overlay

    overlay = Overlay(pilot, title=title, rate_hz=rate_hz, horizon=request.horizon)
    return overlay_video(path, overlay, rate_hz=rate_hz)


def _log(path: Path, live: bool, stack: contextlib.ExitStack) -> Sink:
    """JSON lines into a new file."""
    if not live:
        return JsonLinesSink(stack.enter_context(_text_output(path)), str(path), frames_only=True)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.open("x").close()
    except FileExistsError as e:
        raise OutputError(f"{path}: cannot be written: {e.strerror}") from e
    except OSError:
        # Tried again, and told, in the background.
        pass

    from sepilot_runtime.output.rotation import RotatingLinesSink

    def opened() -> Sink:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return RotatingLinesSink(str(path))

    stack.callback(_remove_empty, path)
    return Background(None, keep="all", depth=512, name=str(path), reopen=opened)


@contextlib.contextmanager
def _text_output(path: Path) -> Iterator[TextIO]:
    """A new file, written in place: what a drive said last is of most worth where it ended by a fault or a kill."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("x", encoding="utf-8")
    try:
        yield file
    except BaseException:
        # What ended the drive is what is told, not that a full disk does not take the rest either.
        with contextlib.suppress(OSError):
            file.close()
        raise
    else:
        with writing(path):
            file.close()
    finally:
        _remove_empty(path)


def _remove_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        if not path.stat().st_size:
            path.unlink()
