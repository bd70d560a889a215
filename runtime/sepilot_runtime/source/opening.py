"""Sources: where frames come from. Files give every frame in order; a camera or a stream gives the newest only.

A frame carries its own time and the moment at which it arrived here, so that whoever acts on it can say how old it is.

| source                         | policy                                                                      |
|--------------------------------|-----------------------------------------------------------------------------|
| camera index, /dev/video0      | newest frame; says its mode; luma only, or a small JPEG, where that will do |
| rtsp://, http://, gst:PIPELINE | newest frame; the least buffering that the protocol allows                  |
| a recording                    | every frame that training would take, with its time and what was recorded   |

Cameras and streams connect again in the background; recordings are gone through once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.base.errors import DriveError, UsageError
from sepilot_runtime.base.files import exists
from sepilot_runtime.source.protocol import Source

if TYPE_CHECKING:
    from sepilot_runtime.recording.options import ReaderOptions
    from sepilot_runtime.source.camera_request import CameraRequest

__all__ = ["is_camera", "is_stream", "open_source"]


def is_camera(spec: str) -> bool:
    """Whether what a user calls a source is a camera: an index or a device."""
    # Not every digit is a number: "²" is one.
    return (spec.isascii() and spec.isdecimal()) or spec.startswith("/dev/")


def is_stream(spec: str) -> bool:
    """Whether what a user calls a source is a stream: a URL or a pipeline."""
    return spec.startswith("gst:") or "://" in spec


def open_source(spec: str, request: CameraRequest | None = None, options: ReaderOptions | None = None) -> Source:
    """Open a source by what its user calls it: see the table at the head of this module.

    Args:
        request: what to ask a camera for, and which picture will be made of its frames; streams and files ignore it.
        options: how to read a recording; a live source has none.

    Raises:
        DriveError: there is no such thing, it cannot be read, or it holds no frames.
        UsageError: options that nothing here goes by.
    """
    if (is_camera(spec) or is_stream(spec)) and options and options.given:
        raise UsageError(f"{spec}: a recording expected by the options on how to read it, found a live source")
    if is_camera(spec):
        from sepilot_runtime.source.camera import open_camera

        return open_camera(spec, request)
    if is_stream(spec):
        from sepilot_runtime.source.stream import open_stream

        return open_stream(spec)
    try:
        return _open_path(Path(spec), options)
    except OSError as e:
        # Such as a folder without permission.
        raise DriveError(f"{e.filename or spec}: cannot be read: {e.strerror or e}") from e


def _open_path(path: Path, options: ReaderOptions | None) -> Source:
    if not exists(path, DriveError):
        raise DriveError(f"{path}: no such file or folder, and neither a camera index nor a URL")
    from sepilot_runtime.source.recorded import open_recorded

    return open_recorded(path, options)
