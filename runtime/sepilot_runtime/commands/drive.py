"""`sepilot drive FILE --source SOURCE`: steer by a camera, a video, a folder of images or a recorded drive.

`sepilot run` is the same for files that do not steer: what they say is shown, and no car obeys it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.commands.drive_request import LEAST_LIVE_HZ, DriveRequest, drive_request

# OpenCV, numpy and the interpreter are imported where they are first needed: `--help` answers without them.
if TYPE_CHECKING:
    from sepilot_runtime.commands.drive_models import DriveModels
    from sepilot_runtime.drive.car_config import CarConfig
    from sepilot_runtime.drive.step import Sink
    from sepilot_runtime.drive.summary import DriveSummary
    from sepilot_runtime.drive.supervisor import Control
    from sepilot_runtime.engine.pilot import Pilot
    from sepilot_runtime.output.web.page import WebPage
    from sepilot_runtime.source.pace import Pace
    from sepilot_runtime.source.protocol import LiveSource, Source

__all__ = ["main", "outcome"]

INTERRUPTED, TERMINATED = "interrupted", "terminated"


def main(argv: Sequence[str]) -> int:
    """Run `sepilot drive`."""
    return outcome(drive_request(argv))


def outcome(request: DriveRequest) -> int:
    """Do what is asked for, and give the exit code. Raises DriveError for a drive that ended by a fault."""
    summary = _drive(request)
    if summary.ended == INTERRUPTED:
        return 130
    if summary.ended not in ("end of source", "max-frames", TERMINATED):
        from sepilot_runtime.base.errors import DriveError

        raise DriveError(summary.ended)
    return 0


def _drive(request: DriveRequest) -> DriveSummary:
    from sepilot_runtime.base.opencv import cv2
    from sepilot_runtime.commands.drive_models import DriveModels
    from sepilot_runtime.commands.drive_outputs import open_sinks, require_absent
    from sepilot_runtime.drive.car_config import load_car
    from sepilot_runtime.drive.supervisor import Control
    from sepilot_runtime.source.opening import open_source

    # Small pictures gain nothing from OpenCV's own threads and lose steady timing.
    cv2.setNumThreads(1)
    require_absent(request)
    car = load_car(request.car, request.overrides)
    models = DriveModels(request, car)
    pilot, control = models.driving(), Control(recording=request.record is not None)
    # People want colour and the whole frame; models alone are quicker served.
    watched = request.overlay or request.record or request.web
    picture = None if watched else models.picture()
    asked = dataclasses.replace(request.camera, picture=picture)
    reader = request.reader.wishing(_columns(pilot))
    with open_source(request.source, asked, reader) as source, contextlib.ExitStack() as stack:
        stack.callback(models.close)
        live = _as_live(source, request, pilot)
        if source.info.live:
            models.bind_to(picture)
        if not request.quiet:
            print(_start_line(pilot, live or source), file=sys.stderr)
        page = _bound_page(request, stack)
        # Before the outputs, so that a second Ctrl-C cannot keep them from being closed.
        stack.enter_context(_signals(control))
        sinks = open_sinks(request, car, pilot, live or source, control, stack)
        if page is not None:
            stack.enter_context(_served(page, request, car, models, live or source, sinks, control))
        if live is not None:
            summary = _drive_live(request, car, models, live, sinks, control, stack)
        else:
            summary = _drive_recorded(request, car, pilot, source, sinks, control)
        # Before the outputs are closed: one that cannot be left in neutral ends the program with its own words.
        if not request.quiet:
            print("\n".join(_summary_lines(summary, request)), file=sys.stderr)
        return summary


def _bound_page(request: DriveRequest, stack: contextlib.ExitStack) -> WebPage | None:
    """Take the page's port, before anything moves; None without `--web`.

    Raises:
        UsageError: a wrong address or token, or the port is taken.
    """
    if request.web is None:
        if request.web_token is not None:
            raise UsageError("--web-token: --web expected beside it")
        return None
    from sepilot_runtime.output.web.address import web_address
    from sepilot_runtime.output.web.page import WebPage

    page = WebPage(web_address(request.web, request.web_token))
    stack.callback(page.close)
    if not request.quiet:
        print(f"page at {page.url}" + ("" if page.controls else ", only to look at: no token is set"), file=sys.stderr)
    return page


def _served(
    page: WebPage,
    request: DriveRequest,
    car: CarConfig,
    models: DriveModels,
    source: Source,
    sinks: list[Sink],
    control: Control,
) -> contextlib.AbstractContextManager[None]:
    """Give the page every step, after all other `sinks`, and serve it from now on."""
    from sepilot_runtime.commands.drive_outputs import steps_hz
    from sepilot_runtime.output.web.drive import Watched

    sinks.append(page.sink)
    return page.serving(
        Watched(
            pilot=models.driving, control=control, lost=lambda: source.lost, outputs=sinks,
            supervised=source.info.live and not request.shows, recorder=request.record is not None,
            horizon=request.horizon, deadline_ms=car.limits.deadline_ms or 1000 / steps_hz(request, source),
        )
    )  # fmt: skip


def _columns(pilot: Pilot) -> list[str]:
    """Of a recording: what the model says, and what it takes beside the picture."""
    contract = pilot.contract
    return [*(o.name for o in contract.outputs), *(column for v in contract.vectors for column in v.columns)]


def _as_live(source: Source, request: DriveRequest, pilot: Pilot) -> LiveSource | None:
    """The source, where it is to be driven live."""
    from sepilot_runtime.drive.numbers import require_given

    require_given(pilot, source.info)
    if not source.info.live and not request.as_camera:
        if request.shadow:
            raise UsageError(f"--shadow {request.shadow}: for a camera, or a recording with --as-camera")
        return None
    if source.info.live:
        camera = cast("LiveSource", source)
        if not request.rate_hz:
            return camera
        if request.rate_hz < LEAST_LIVE_HZ:
            raise UsageError(
                f"--rate-hz {request.rate_hz:g}: at least {LEAST_LIVE_HZ:g} expected for a camera; outputs take a "
                "longer silence for a drive that hangs"
            )
        from sepilot_runtime.source.throttled import ThrottledSource

        return ThrottledSource(camera, request.rate_hz)
    from sepilot_runtime.source.replay import ReplaySource

    return ReplaySource(source, rate_hz=request.rate_hz)


def _drive_live(
    request: DriveRequest,
    car: CarConfig,
    models: DriveModels,
    source: LiveSource,
    sinks: list[Sink],
    control: Control,
    stack: contextlib.ExitStack,
) -> DriveSummary:
    from sepilot_runtime.drive.loop import drive_live
    from sepilot_runtime.drive.novelty import novelty_of

    shadow, pilot = models.start_shadow(sinks, stack), models.driving()
    if car.limits.max_novelty == "auto" and novelty_of(pilot.contract, car.limits) is None:
        name, then = pilot.engine.path.name, "be told of" if request.shows else "stop the car"
        print(f"warning: {name}: knows no limit for novel pictures, none will {then}; train again", file=sys.stderr)
    summary = drive_live(
        pilot, source, sinks, limits=car.limits, actuation=car.actuation, control=control, new_pilot=models.newer,
        novelty=lambda pilot: novelty_of(pilot.contract, car.limits), max_frames=request.max_frames,
    )  # fmt: skip
    if shadow is not None:
        print(f"shadow {shadow.name}: {shadow.report()}", file=sys.stderr)
    if not request.quiet:
        print("".join(_rate_advice(summary, source.info.rate_hz)), end="", file=sys.stderr)
    return summary


def _drive_recorded(
    request: DriveRequest, car: CarConfig, pilot: Pilot, source: Source, sinks: Sequence[Sink], control: Control
) -> DriveSummary:
    from sepilot_runtime.drive.recorded import drive_frames

    return drive_frames(
        pilot, source, sinks, max_frames=request.max_frames, pace=_pace(request), actuation=car.actuation,
        control=control,
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


def _pace(request: DriveRequest) -> Pace:
    from sepilot_runtime.source.pace import paced, paced_at

    if request.rate_hz:
        return paced_at(request.rate_hz)
    return paced if request.paced else iter


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


def _summary_lines(summary: DriveSummary, request: DriveRequest) -> list[str]:
    parts = [f"{summary.frames} frames in {summary.seconds:.1f} s"]
    if summary.total and summary.age:
        end = "answer" if request.shows else "angle"
        parts.append(f"frame to {end} p50 {summary.total.p50_us:.0f} µs, p99 {summary.total.p99_us:.0f} µs")
        parts.append(f"age p50 {summary.age.p50_us / 1000:.2f} ms")
    if summary.late:
        parts.append(f"{summary.late} late")
    parts += [f"{n} {reason}" for reason, n in summary.lost.items() if n]
    parts.append(summary.ended)
    lines = ["; ".join(parts)]
    if request.shows and summary.preprocess and summary.infer and summary.post:
        stages = {"picture": summary.preprocess, "model": summary.infer, "decoding": summary.post}
        lines.append("of it p50 " + ", ".join(f"{name} {stage.p50_us:.0f} µs" for name, stage in stages.items()))
    if summary.doubtful:
        lines.append("doubtful: " + ", ".join(f"{reason} ({n}x)" for reason, n in summary.doubtful.items()))
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
