"""False alarms and detection of the novelty score, by degrees of each fault.

The statistics are those that `sepilot train` would write into the contract for the given drives. The held-out drive's
frames tell the false alarms; spoiled one by one, before the model's picture is made of them, they tell the detection.
The last column is of a contract that has the percentiles only, at the limit with as many false alarms as 1.25.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract import Contract, FrameStatistics, Output, Picture, Provenance
from sepilot_runtime.errors import SepilotError
from sepilot_runtime.novelty import NoveltyMonitor, statistics_of
from sepilot_runtime.preprocess import picture_of
from sepilot_runtime.sources import open_source

Image = NDArray[np.uint8]

PICTURE = Picture(height=64, width=96, crop_top=0.25)
"""Of the `swift` recipe."""

LIMITS = (1.0, 1.25, 1.5)
EVERY = 8
"""One held-out frame in so many is spoiled."""


def to_bytes(values: NDArray[np.floating]) -> Image:
    return np.clip(values, 0, 255).astype(np.uint8)


def gain(factor: float) -> Callable[[Image], Image]:
    return lambda frame: to_bytes(frame.astype(np.float32) * factor)


def covered(share: float) -> Callable[[Image], Image]:
    def cover(frame: Image) -> Image:
        spoiled = frame.copy()
        spoiled[:, : round(frame.shape[1] * share)] //= 12
        return spoiled

    return cover


def defocused(sigma: float) -> Callable[[Image], Image]:
    return lambda frame: to_bytes(cv2.GaussianBlur(frame, (0, 0), sigma * frame.shape[1] / 160))


def hazy(share: float) -> Callable[[Image], Image]:
    return lambda frame: to_bytes(frame * (1 - share) + 200 * share)


def noisy(sigma: float) -> Callable[[Image], Image]:
    rng = np.random.default_rng(0)
    return lambda frame: to_bytes(frame + rng.normal(0, sigma, frame.shape))


def turned(degrees: float) -> Callable[[Image], Image]:
    def turn(frame: Image) -> Image:
        height, width = frame.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        return to_bytes(cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))

    return turn


def tilted(share: float) -> Callable[[Image], Image]:
    def tilt(frame: Image) -> Image:
        height, width = frame.shape[:2]
        matrix = np.array([[1, 0, 0], [0, 1, share * height]], np.float32)
        return to_bytes(cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))

    return tilt


FAULTS: Mapping[str, Callable[[Image], Image]] = {
    **{f"covered, {share:.0%}": covered(share) for share in (0.1, 0.25, 0.5, 1.0)},
    **{f"darker, x{factor:g}": gain(factor) for factor in (0.75, 0.5, 0.25)},
    **{f"over-exposed, x{factor:g}": gain(factor) for factor in (1.25, 1.5, 2, 3)},
    **{f"defocused, {sigma:g} px of 160": defocused(sigma) for sigma in (1, 2, 3, 5)},
    **{f"haze, {share:.0%}": hazy(share) for share in (0.3, 0.5, 0.7)},
    **{f"noise, {sigma:g} levels": noisy(sigma) for sigma in (4, 8, 15)},
    "upside down": lambda frame: np.ascontiguousarray(frame[::-1, ::-1]),
    **{f"turned, {degrees:g}°": turned(degrees) for degrees in (10, 45, 90)},
    **{f"tilted up, {share:.0%} of the height": tilted(share) for share in (0.1, 0.2, 0.3)},
    **{f"tilted down, {share:.0%} of the height": tilted(-share) for share in (0.1, 0.2, 0.3)},
    "mirrored": lambda frame: np.ascontiguousarray(frame[:, ::-1]),
}


def images_of(spec: str, every: int = 1) -> list[Image]:
    with open_source(spec) as source:
        return [frame.image for number, frame in enumerate(source) if number % every == 0]


def monitor_of(statistics: FrameStatistics) -> NoveltyMonitor:
    provenance = Provenance(
        recipe="", recipe_sha256="", dataset_fingerprint="", drives=(), validation_drives=(), validation={}, versions={}
    )
    return NoveltyMonitor(
        Contract(task="steering", picture=PICTURE, outputs=(Output(),), provenance=provenance, statistics=statistics)
    )


def scores_of(monitor: NoveltyMonitor, images: Sequence[Image]) -> NDArray[np.float64]:
    return np.array([monitor.score(picture_of(image, PICTURE)) for image in images])


def fastest_us(monitor: NoveltyMonitor, image: Image) -> float:
    """Of a score; the fastest of many short visits, as other processes disturb the rest."""
    picture, best = picture_of(image, PICTURE), np.inf
    for _ in range(2000):
        start = time.perf_counter_ns()
        for _ in range(10):
            monitor.score(picture)
        best = min(best, (time.perf_counter_ns() - start) / 10_000)
    return best


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    cv2.setNumThreads(1)
    trained = np.stack([picture_of(image, PICTURE) for drive in arguments.drives for image in images_of(drive)])
    statistics = statistics_of(trained)
    monitor, coarse = monitor_of(statistics), monitor_of(dataclasses.replace(statistics, likeness=None))
    held_out = images_of(arguments.held_out)
    usual, usual_coarse = scores_of(monitor, held_out), scores_of(coarse, held_out)
    equal_limit = float(np.quantile(usual_coarse, 1 - (usual > LIMITS[1]).mean(), method="higher"))

    def row(name: str, images: Sequence[Image]) -> dict[str, object]:
        scores = scores_of(monitor, images)
        return {
            "pictures": name,
            "count": len(images),
            "median": float(np.median(scores)),
            "beyond": [float((scores > limit).mean()) for limit in LIMITS],
            "percentiles_only": float((scores_of(coarse, images) > equal_limit).mean()),
        }

    spoiled = held_out[::EVERY]
    rows = [row(f"{Path(arguments.held_out).name}, held out", held_out)]
    rows += [row(f"{Path(where).name}", images_of(where)) for where in arguments.elsewhere]
    rows += [row(name, [fault(image) for image in spoiled]) for name, fault in FAULTS.items()]
    return {
        "drives": arguments.drives,
        "limits": LIMITS,
        "percentiles_only_limit": equal_limit,
        "score_us": fastest_us(monitor, held_out[0]),
        "rows": rows,
    }


def table(document: Mapping[str, object]) -> str:
    limits = " ".join(f"{f'> {limit:g}':>7}" for limit in LIMITS)
    lines = [f"{'pictures':34} {'median':>6}  {limits}  percentiles"]
    for row in document["rows"]:  # type: ignore[attr-defined]
        beyond = " ".join(f"{share:>7.1%}" for share in row["beyond"])
        lines.append(f"{row['pictures'][:34]:34} {row['median']:>6.2f}  {beyond}  {row['percentiles_only']:>10.1%}")
    lines += ["", f"one score: {document['score_us']:.1f} µs at the fastest, {PICTURE.width}x{PICTURE.height} gray"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drives", nargs="+", metavar="DRIVE", help="that a model was trained on")
    parser.add_argument("--held-out", required=True, metavar="DRIVE", help="another one of the same place")
    parser.add_argument("--elsewhere", nargs="*", default=[], metavar="SOURCE", help="recordings of other places")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    try:
        document = measure(arguments)
    except SepilotError as e:
        print(f"bench-novelty: {e}", file=sys.stderr)
        return e.exit_code
    print(table(document))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
