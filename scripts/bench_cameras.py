"""What a frame costs from the bytes that a camera sends to the angle, by pixel format, and what it changes.

Each format twice: by way of BGR, which is what OpenCV gives unless it is asked for less, and as sepilot takes it where
a model sees gray, with the copy out of the driver's memory. The rows "in memory" are without that copy. Frames of a
drive are brought to the camera's size and converted beforehand; all ways are interleaved in one process, in a new order
each round, with one thread. Beside the times: the largest and the mean difference of the picture from that of the BGR
frame, in gray levels, and the mean difference of the angle in degrees.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.base.images import decode_image
from sepilot_runtime.base.latency import Way, interleave
from sepilot_runtime.contract.preprocess import LimitedLuma
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.source.camera_request import PixelFormat
from sepilot_runtime.source.opening import open_source
from sepilot_runtime.source.pixel_formats import Take, jpeg_reduction, taker_of

JPEG_QUALITY = 90


class Held:
    """A capture that holds one frame; handing it out copies it once, as OpenCV copies it out of the driver's memory."""

    def __init__(self) -> None:
        self.frame: Any = None

    def retrieve(self, image: Any = None) -> tuple[bool, Any]:
        if image is not None and image.shape == self.frame.shape:
            np.copyto(image, self.frame)
            return True, image
        return True, self.frame.copy()


def main(argv: Sequence[str]) -> int:
    arguments = _arguments(argv)
    cv2.setNumThreads(1)
    try:
        pilot = load_pilot(arguments.file)
        frames = _frames(arguments.frames, arguments.count, *arguments.size)
    except SepilotError as e:
        print(f"bench-cameras: {e}", file=sys.stderr)
        return 2
    if pilot.contract.picture.color != "gray" or pilot.contract.frame:
        print(f"bench-cameras: {arguments.file}: a model that sees a gray picture expected", file=sys.stderr)
        return 2
    ways = _ways(pilot, frames, *arguments.size)
    timed = [Way(run=steer, items=sent, calls=len(sent)) for steer, sent in ways.values()]
    times = dict(zip(ways, interleave(timed, rounds=arguments.rounds), strict=True))
    factor = jpeg_reduction(pilot.contract.picture, *arguments.size)
    width, height = arguments.size
    print(f"{arguments.file.name}, {width}x{height}, {len(frames)} frames; JPEG reduced to 1/{factor}")
    print(f"{'':22}{'p50 us':>8}{'p99 us':>8}{'to BGR':>8}{'max':>6}{'mean':>7}{'deg':>8}")
    baseline = float(np.median(times["BGR in memory"]))
    for name, (steer, sent) in ways.items():
        p50, p99 = np.percentile(times[name], [50, 99])
        largest, mean, degrees = _difference(pilot, frames, steer, sent)
        print(f"{name:22}{p50:8.1f}{p99:8.1f}{p50 / baseline:8.2f}{largest:6d}{mean:7.2f}{degrees:8.3f}")
    return 0


def _ways(
    pilot: Pilot, frames: list[Any], width: int, height: int
) -> dict[str, tuple[Callable[[Any], Any], list[Any]]]:
    """Name to (raw frame to prediction, raw frames)."""
    picture = pilot.contract.picture
    nv12, yuyv = [_nv12(f) for f in frames], [_yuyv(f) for f in frames]
    jpegs = [cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].reshape(1, -1) for f in frames]

    def converted(code: int, raw: Any) -> Any:
        return pilot.predict(np.asarray(cv2.cvtColor(raw, code), np.uint8))

    held = Held()

    def taken(take: Take, raw: Any) -> Any:
        held.frame = raw
        return pilot.predict(take(held))

    def way(format: PixelFormat) -> Callable[[Any], Any]:
        return partial(taken, taker_of(format, picture, width, height))

    return {
        "BGR in memory": (pilot.predict, frames),
        "NV12 by way of BGR": (partial(converted, cv2.COLOR_YUV2BGR_NV12), nv12),
        "NV12, luma only": (way(PixelFormat.NV12), nv12),
        "NV12 luma in memory": (pilot.predict, [raw.view(LimitedLuma)[:height] for raw in nv12]),
        "YUYV by way of BGR": (partial(converted, cv2.COLOR_YUV2BGR_YUYV), yuyv),
        "YUYV, luma only": (way(PixelFormat.YUYV), yuyv),
        "MJPG by way of BGR": (lambda raw: pilot.predict(decode_image(raw.tobytes(), "")), jpegs),
        "MJPG, gray": (lambda raw: pilot.predict(decode_image(raw.tobytes(), "", cv2.IMREAD_GRAYSCALE)), jpegs),
        "MJPG, gray, reduced": (way(PixelFormat.MJPG), jpegs),
    }


def _difference(
    pilot: Pilot, frames: list[Any], steer: Callable[[Any], Any], sent: list[Any]
) -> tuple[int, float, float]:
    levels, degrees = [], []
    for frame, raw in zip(frames, sent, strict=True):
        wanted = pilot.predict(frame).in_unit("steering")
        picture = pilot.seen.astype(int)
        degrees.append(abs(steer(raw).in_unit("steering") - wanted))
        levels.append(np.abs(pilot.seen - picture))
    return int(max(level.max() for level in levels)), float(np.mean(levels)), float(np.mean(degrees))


def _frames(spec: str, count: int, width: int, height: int) -> list[Any]:
    with open_source(spec) as source:
        every = max(1, (source.info.frames or count) // count)
        images = [frame.image for frame in itertools.islice(source, 0, every * count, every)]
    return [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in images]


def _nv12(image: Any) -> Any:
    height, width = image.shape[:2]
    planar = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
    return np.concatenate([planar[:height], planar[height:].reshape(2, -1).T.reshape(-1, width)])


def _yuyv(image: Any) -> Any:
    height, width = image.shape[:2]
    planar = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
    chroma = planar[height:].reshape(2, height // 2, width // 2).repeat(2, axis=1)
    packed = np.empty((height, width, 2), np.uint8)
    packed[:, :, 0], packed[:, 0::2, 1], packed[:, 1::2, 1] = planar[:height], *chroma
    return packed


def _size(text: str) -> tuple[int, int]:
    width, height = (int(part) for part in text.lower().split("x"))
    return width, height


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench-cameras", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a .tflite or .onnx file whose model sees gray")
    parser.add_argument("--frames", required=True, metavar="SOURCE", help="a drive, folder or video")
    parser.add_argument("--size", type=_size, default=(640, 480), metavar="WxH", help="of the camera (default 640x480)")
    parser.add_argument("--count", type=int, default=30, metavar="N", help="frames (default 30)")
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="through all ways (default 40)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
