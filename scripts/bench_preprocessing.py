"""From frame to picture (64x96 gray, upper quarter cut off) with each resize, in microseconds on one thread.

    linear    INTER_LINEAR, which OpenCV's builds round differently: files from before there was a choice
    exact     the same bytes everywhere: new files
    opencv    INTER_LINEAR_EXACT in place of INTER_LINEAR: what the plain way to the same bytes would cost

Each with one frame over and over, and with 8 frames in turn, which do not fit into the core's own cache. The ways take
turns call by call, so that what slows the machine down slows all; compare the minima where others use it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.latency import Way, interleave
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.contract.preprocess import LimitedLuma, Preprocessor
from sepilot_runtime.contract.window import crop_box

PICTURE = Picture(height=64, width=96, crop_top=0.25)
GOALS = {(480, 640): 1.3, (120, 160): 1.1}
"""Of exact over linear, for BGR frames."""
KINDS = ("bgr", "nv12", "yuyv")

Ask = Callable[[NDArray[np.uint8]], object]


def frames(kind: str, height: int, width: int, count: int) -> list[NDArray[np.uint8]]:
    made = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    if kind == "bgr":
        return list(made)
    if kind == "nv12":
        return [frame[:, :, 0].copy().view(LimitedLuma) for frame in made]
    return [frame[:, :, :2].copy().view(LimitedLuma)[:, :, 0] for frame in made]


def plain_exact(height: int, width: int) -> Ask:
    """Colour frames by INTER_LINEAR_EXACT, with buffers that are allocated once."""
    top, bottom, left, right = crop_box(height, width, PICTURE)
    color = np.empty((PICTURE.height, PICTURE.width, 3), np.uint8)
    gray = np.empty((PICTURE.height, PICTURE.width), np.uint8)

    def make(frame: NDArray[np.uint8]) -> object:
        size = (PICTURE.width, PICTURE.height)
        cv2.resize(frame[top:bottom, left:right], size, dst=color, interpolation=cv2.INTER_LINEAR_EXACT)
        return cv2.cvtColor(color, cv2.COLOR_BGR2GRAY, dst=gray)

    return make


def measured(ways: Mapping[str, Ask], images: list[NDArray[np.uint8]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Microseconds of each call."""
    timed = [Way(run=run, items=images, calls=1, warm_up=0) for run in ways.values()]
    return {name: us[20:, 0] for name, us in zip(ways, interleave(timed, rounds=20 + rounds), strict=True)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3000, help="calls of each way (default: 3000)")
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    met = True
    print(f"OpenCV {cv2.__version__}; minimum and median, us")
    print(f"{'frame':<14}{'in turn':>8}{'linear':>15}{'exact':>15}{'opencv':>15}{'exact / linear':>16}  goal")
    for height, width in ((480, 640), (240, 320), (120, 160)):
        for kind in KINDS:
            for count in (1, 8):
                resizes: tuple[Literal["linear", "exact"], ...] = ("linear", "exact")
                ways: dict[str, Ask] = {
                    resize: Preprocessor(dataclasses.replace(PICTURE, resize=resize)).picture_of for resize in resizes
                }
                if kind == "bgr":
                    ways["opencv"] = plain_exact(height, width)
                found = measured(ways, frames(kind, height, width, count), rounds)
                ratio = found["exact"].min() / found["linear"].min()
                goal = GOALS.get((height, width)) if kind == "bgr" else None
                met = met and (goal is None or round(ratio, 2) <= goal)
                columns = "".join(_column(found.get(name)) for name in ("linear", "exact", "opencv"))
                said = "" if goal is None else f"<= {goal:g} {'met' if round(ratio, 2) <= goal else 'MISSED'}"
                print(f"{width}x{height} {kind:<6}{count:>8}{columns}{ratio:>16.2f}  {said}".rstrip())
    return 0 if met else 1


def _column(taken: NDArray[np.float64] | None) -> str:
    return f"{'':>15}" if taken is None else f"{taken.min():>8.1f}{np.median(taken):>7.1f}"


if __name__ == "__main__":
    sys.exit(main())
