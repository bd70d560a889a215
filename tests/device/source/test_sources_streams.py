"""Streams: a real HTTP one over the loopback, and one clear line for what cannot be opened."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.source import stream
from sepilot_runtime.source.opening import open_source
from sepilot_runtime.source.stream import pipeline_of, shown_url


class Motion(http.server.BaseHTTPRequestHandler):
    """Motion JPEG as IP cameras and phones send it: one JPEG after the other, its level says its number."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for number in range(230):
                image = np.full((48, 64, 3), 20 + number, np.uint8)
                jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                time.sleep(0.02)
        except (BrokenPipeError, ConnectionResetError):
            return

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Motion) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/video"
        server.shutdown()
        thread.join()


def test_motion_jpeg_over_http_gives_newest_frames(address: str) -> None:
    with open_source(address) as source:
        assert source.info.kind == "stream" and source.info.live and source.info.where == address
        images = iter(source)
        got = []
        for _ in range(5):
            got.append(next(images))
            time.sleep(0.06)
    assert all(frame.image.shape == (48, 64, 3) for frame in got)
    levels = [int(frame.image.mean()) for frame in got]
    assert levels == sorted(levels) and levels[-1] - levels[0] >= 6, "older frames are left out"
    assert source.lost["dropped"] > 0
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ


def test_what_cannot_be_opened_is_named_without_its_password(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DriveError, match=r"http://…@127\.0\.0\.1:9/cam\?…: cannot be opened") as caught:
        open_source("http://eve:secret@127.0.0.1:9/cam?token=secret")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:pw@10.0.0.2:554/h264", "rtsp://…@10.0.0.2:554/h264"),
        ("rtsp://10.0.0.2/h264", "rtsp://10.0.0.2/h264"),
        ("http://u:p@host:notaport/x?k=v", "http://host:notaport/x"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_a_scheme_that_is_no_stream_is_refused() -> None:
    with pytest.raises(DriveError, match=r"rtsp.* expected before ://, found 'ftp'"):
        open_source("ftp://host/cam")


def test_gstreamer_that_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream.cv2, "getBuildInformation", lambda: "    GStreamer:                   NO\n")
    with pytest.raises(DriveError, match=r"built without GStreamer.*apt install python3-opencv.*rtsp://"):
        open_source("gst:videotestsrc")


def test_a_pipeline_gets_a_sink_that_keeps_the_newest_frame() -> None:
    assert pipeline_of("gst: videotestsrc ").startswith(
        "videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink "
    )
    assert "drop=true max-buffers=1" in pipeline_of("gst:videotestsrc")
    own = "videotestsrc ! appsink name=mine"
    assert pipeline_of(f"gst:{own}") == own
    with pytest.raises(DriveError, match="a pipeline expected"):
        pipeline_of("gst:")
