"""Streams over a network and GStreamer pipelines, as live sources.

Policy: the newest frame, each at most once, with as little buffering as the protocol allows. What the sender, its
encoder and the network hold back cannot be seen from here: the age of a frame counts from its arrival.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import cast
from urllib.parse import urlsplit

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.opencv import cv2, silenced
from sepilot_runtime.source.camera import CameraSource, source_of
from sepilot_runtime.source.camera_request import PixelFormat
from sepilot_runtime.source.capture import Capture, Connection, read_mode
from sepilot_runtime.source.pixel_formats import taker_of

__all__ = ["SCHEMES", "open_stream", "pipeline_of", "shown_url"]

SCHEMES = ("http", "https", "rtmp", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")

FFMPEG_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|max_delay;0|reorder_queue_size;0"
"""TCP, as a lost packet of UDP spoils the picture until the next key frame; no queues for reordering."""

OPEN_TIMEOUT_MS, READ_TIMEOUT_MS = 5000, 3000

SINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


def open_stream(spec: str) -> CameraSource:
    """Open "rtsp://…", "http://…/video" or another URL that FFmpeg reads, or "gst:" and a GStreamer pipeline.

    A pipeline without an appsink gets one that keeps the newest frame. A user of FFmpeg's options may set
    OPENCV_FFMPEG_CAPTURE_OPTIONS, which is then left as it is.

    Raises:
        DriveError: it cannot be opened, or this OpenCV has no GStreamer.
    """
    if spec.startswith("gst:"):
        return source_of("pipeline", "stream", lambda: _connect_pipeline(pipeline_of(spec)))
    scheme = spec.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise DriveError(f"{shown_url(spec)}: one of {', '.join(SCHEMES)} expected before ://, found {scheme!r}")
    return source_of(shown_url(spec), "stream", lambda: _connect_url(spec))


def shown_url(url: str) -> str:
    """A URL for messages, without the user's name, password and query, which may hold a token."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        return re.sub(r"//[^/]*@", "//", url.partition("?")[0])
    secrets = "…@" if parts.username or parts.password else ""
    return f"{parts.scheme}://{secrets}{host}{port}{parts.path}" + ("?…" if parts.query else "")


def pipeline_of(spec: str) -> str:
    """The GStreamer pipeline of "gst:PIPELINE", with a sink for OpenCV where it has none.

    Raises:
        DriveError: there is no pipeline in it.
    """
    pipeline = spec.removeprefix("gst:").strip()
    if not pipeline:
        raise DriveError(
            "gst: a pipeline expected after it, such as gst:libcamerasrc ! video/x-raw,width=640,height=480"
        )
    return pipeline if "appsink" in pipeline else f"{pipeline} ! {SINK}"


def _connect_url(url: str) -> Connection:
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    with silenced(), _ffmpeg_options():
        capture = cast(Capture, cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts))
    return _connection(capture, f"{shown_url(url)}: cannot be opened; is it there, and is the address right?")


def _connect_pipeline(pipeline: str) -> Connection:
    if re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is None:
        raise DriveError(
            "gst: this OpenCV was built without GStreamer, as those from PyPI are; use the system's "
            "(Debian: apt install python3-opencv, and a venv with --system-site-packages), or an rtsp:// URL"
        )
    with silenced():
        capture = cast(Capture, cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER))
    return _connection(capture, f"gst: the pipeline cannot be started: {pipeline}; try it with gst-launch-1.0")


def _connection(capture: Capture, complaint: str) -> Connection:
    if not capture.isOpened():
        capture.release()
        raise DriveError(complaint)
    mode = read_mode(capture)
    return Connection(capture, taker_of(PixelFormat.AUTO, None, mode.width, mode.height), mode, format=mode.fourcc)


@contextlib.contextmanager
def _ffmpeg_options() -> Iterator[None]:
    """OpenCV takes these from the environment, for every file that it opens: only for as long as this one opens."""
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    if name in os.environ:
        yield
        return
    os.environ[name] = FFMPEG_OPTIONS
    try:
        yield
    finally:
        os.environ.pop(name, None)
