"""The outputs of one drive, as its command line and its car's file name them."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from sepilot_runtime.car import Car
from sepilot_runtime.files import writing
from sepilot_runtime.outputs import open_output
from sepilot_runtime.pilot import Pilot
from sepilot_runtime.recording import TubRecorder
from sepilot_runtime.sinks import Background, JsonLinesSink, Sink
from sepilot_runtime.sources import Source
from sepilot_runtime.states import Control
from sepilot_runtime.systemd import open_systemd

__all__ = ["open_sinks", "steps_hz"]

OVERLAY_CLOSE_S = 20.0
"""For the frames that still wait to be drawn: people want their whole video, and the car stands by then."""


def open_sinks(
    arguments: argparse.Namespace,
    car: Car,
    pilot: Pilot,
    source: Source,
    control: Control,
    stack: contextlib.ExitStack,
) -> list[Sink]:
    """Open everything that the arguments and the car name; `stack` closes it, and then tells what went wrong.

    In a live drive what may block runs in the background; a recording is gone through without losing a step.

    Raises:
        UsageError, OutputError, MissingExtraError: as `open_output`, `overlay_video` and `TubRecorder`.
    """
    live = source.info.live
    sinks: list[Sink] = []
    stack.callback(_tell_of_background, sinks)
    if arguments.output:
        file = stack.enter_context(_text_output(arguments.output))
        lines = JsonLinesSink(file, str(arguments.output), frames_only=not live)
        sinks.append(Background(lines, keep="all") if live else lines)
    else:
        lines = JsonLinesSink(sys.stdout, frames_only=not live)
        sinks.append(Background(lines, keep="newest") if live else lines)
    if arguments.overlay:
        from sepilot_runtime.overlay import Overlay
        from sepilot_runtime.video import overlay_video

        rate_hz = steps_hz(arguments, source)
        overlay = Overlay(pilot, title=pilot.contract.provenance.recipe, rate_hz=rate_hz, horizon=arguments.horizon)
        video = stack.enter_context(overlay_video(arguments.overlay, overlay, rate_hz=rate_hz))
        sinks.append(Background(video, keep="all", close_s=OVERLAY_CLOSE_S) if live else video)
    if arguments.record:
        scale_deg = pilot.contract.output("steering").scale
        recorder = TubRecorder(
            arguments.record, control, full_scale_deg=scale_deg, model=pilot.contract.provenance.recipe
        )
        sinks.append(Background(recorder, keep="all", depth=256, close_s=10) if live else recorder)
    if "NOTIFY_SOCKET" in os.environ:
        sinks += filter(None, [open_systemd()])
    for sink in sinks:
        stack.callback(sink.close)
    for spec in (*car.outputs, *arguments.to):
        # The car itself comes first: what is drawn and written may take its time.
        sinks.insert(0, open_output(spec, car.actuation.straight))
        stack.callback(sinks[0].close)
    return sinks


def steps_hz(arguments: argparse.Namespace, source: Source) -> float:
    """At what rate steps are expected. A live source knows of --rate-hz."""
    return source.info.rate_hz if source.info.live else arguments.rate_hz or source.info.rate_hz


def _tell_of_background(sinks: Sequence[Sink]) -> None:
    """What went wrong behind the drive's back."""
    for sink in sinks:
        if isinstance(sink, Background):
            if sink.failure:
                print(f"warning: {sink.failure}", file=sys.stderr)
            elif sink.dropped and not sink.newest:
                print(f"warning: {sink.name}: {sink.dropped} steps came too fast and are missing", file=sys.stderr)


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
        with contextlib.suppress(OSError):
            if not path.stat().st_size:
                path.unlink()
