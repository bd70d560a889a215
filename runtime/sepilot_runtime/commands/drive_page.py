"""`--web` of `sepilot drive`: from the command line to a page that is served. Nothing heavy is imported without it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from sepilot_runtime.base.errors import UsageError

if TYPE_CHECKING:
    from sepilot_runtime.commands.drive_request import DriveRequest
    from sepilot_runtime.drive.car_config import CarConfig
    from sepilot_runtime.drive.step import Sink
    from sepilot_runtime.drive.supervisor import Control
    from sepilot_runtime.engine.pilot import Pilot
    from sepilot_runtime.output.web.page import WebPage
    from sepilot_runtime.source.protocol import Source

__all__ = ["bind_page", "serve_page"]


def bind_page(request: DriveRequest, stack: contextlib.ExitStack) -> WebPage | None:
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


def serve_page(
    page: WebPage,
    request: DriveRequest,
    car: CarConfig,
    driving: Callable[[], Pilot],
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
            pilot=driving, control=control, lost=lambda: source.lost, outputs=sinks, supervised=source.info.live,
            recorder=request.record is not None, horizon=request.horizon,
            deadline_ms=car.limits.deadline_ms or 1000 / steps_hz(request, source),
        )
    )  # fmt: skip
