"""False alarms and detection of the novelty score, by degrees of each fault, and what the checks of a frame cost.

The statistics are those that `sepilot train` would write into the contract for the given drives. The held-out drive's
frames tell the false alarms; spoiled one by one, before the model's picture is made of them, they tell the detection.
The last column is of a contract that has the percentiles only, at the limit with as many false alarms as 1.25.

False alarms at the contract's own limit are frames that would have led to neutral: the second novel one in a row. They
are counted on the held-out drive, the other way round (trained on that one, judged on those), and with --worlds on as
many unseen worlds of the built-in simulator as were trained on. The interval is Clopper's and Pearson's, 95 %; frames
of one drive are not independent, so it is narrower than it should be.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.contract.contract import Contract, FrameStatistics, Picture, Provenance, Scalar
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.drive.frame_checks import FrameChecks, Novelty
from sepilot_runtime.drive.novelty import NoveltyMonitor, statistics_of
from sepilot_runtime.drive.supervisor import Limits
from sepilot_runtime.source.opening import open_source

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


def filled(color: tuple[int, int, int]) -> Callable[[Image], Image]:
    def fill(frame: Image) -> Image:
        spoiled = frame.copy()
        spoiled[frame.shape[0] // 2 :] = color
        return spoiled

    return fill


COLORS = {"green": (0, 135, 0), "gray": (128, 128, 128), "black": (0, 0, 0)}

FAULTS: Mapping[str, Callable[[Image], Image]] = {
    **{f"covered, {share:.0%}": covered(share) for share in (0.1, 0.25, 0.5, 1.0)},
    **{f"darker, x{factor:g}": gain(factor) for factor in (0.75, 0.5, 0.25)},
    **{f"over-exposed, x{factor:g}": gain(factor) for factor in (1.25, 1.5, 2, 3)},
    **{f"defocused, {sigma:g} px of 160": defocused(sigma) for sigma in (1, 2, 3, 5)},
    **{f"haze, {share:.0%}": hazy(share) for share in (0.3, 0.5, 0.7)},
    **{f"noise, {sigma:g} levels": noisy(sigma) for sigma in (4, 8, 15, 25)},
    **{f"lower half {name}": filled(color) for name, color in COLORS.items()},
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
    return NoveltyMonitor(contract_of(statistics))


def contract_of(statistics: FrameStatistics) -> Contract:
    provenance = Provenance(
        recipe="", recipe_sha256="", dataset_fingerprint="", drives=(), validation_drives=(), validation={}, versions={}
    )
    return Contract(
        inputs=(PICTURE,), outputs=(Scalar(name="steering"),), tolerance={"steering": 1e-3},
        provenance=provenance, statistics=statistics,
    )  # fmt: skip


def scores_of(monitor: NoveltyMonitor, images: Sequence[Image]) -> NDArray[np.float64]:
    return np.array([monitor.score(picture_of(image, PICTURE)) for image in images])


def fastest_us(statistics: FrameStatistics, images: Sequence[Image]) -> dict[str, float]:
    """Of a score by itself, and of all checks of a frame while the car drives and while it stands.

    The fastest of many short visits in turn, as other processes disturb the rest.
    """
    pictures = [picture_of(image, PICTURE) for image in images]
    contract = contract_of(statistics)
    monitor = NoveltyMonitor(contract)
    driving, standing = (FrameChecks(contract, Limits(), Novelty(monitor.score_of, math.inf)) for _ in range(2))
    calls: dict[str, Callable[[int], object]] = {
        "score": lambda i: monitor.score(pictures[i]),
        "checks, driving": lambda i: driving.judge(images[i], pictures[i], i, moving=True),
        "checks, standing": lambda i: standing.judge(images[i], pictures[i], i, moving=False),
    }
    best = dict.fromkeys(calls, math.inf)
    for _ in range(2000):
        for name, call in calls.items():
            start = time.perf_counter_ns()
            for i in range(len(pictures)):
                call(i)
            best[name] = min(best[name], (time.perf_counter_ns() - start) / 1000 / len(pictures))
    return best


def interval(found: int, count: int) -> tuple[float, float]:
    """Of a share, 95 %, by Clopper and Pearson: where the binomial tail is 2.5 % on either side."""

    def tail(share: float, most: int) -> float:
        logs = [
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
            + k * math.log(share) + (count - k) * math.log1p(-share)
            for k in range(most + 1)
        ]  # fmt: skip
        return sum(map(math.exp, logs))

    def where(most: int, level: float) -> float:
        low, high = 1e-12, 1 - 1e-12
        for _ in range(100):
            low, high = ((low + high) / 2, high) if tail((low + high) / 2, most) > level else (low, (low + high) / 2)
        return high

    return (where(found - 1, 0.975) if found else 0.0), where(found, 0.025)


def simulated(worlds: range, frames: int = 400) -> NDArray[np.uint8]:
    """Pictures (n, h, w, c) under the expert of the built-in simulator."""
    from sepilot_train.simulator import open_simulator

    simulator, made = open_simulator("builtin"), []
    for seed in worlds:
        made.append(picture_of(simulator.reset(seed)[0], PICTURE))
        made += [picture_of(simulator.step(simulator.expert())[0], PICTURE) for _ in range(frames - 1)]
    return np.stack(made)


def alarms(name: str, trained: NDArray[np.uint8], judged: NDArray[np.uint8]) -> dict[str, object]:
    """Frames that are novel at the limit of the training, and those of them that would have led to neutral."""
    monitor = monitor_of(statistics_of(trained))
    novel = np.array([monitor.score(picture) for picture in judged]) > (monitor.limit or math.inf)
    return {
        "name": name, "limit": monitor.limit, "frames": len(judged), "novel": int(novel.sum()),
        "neutral": int((novel[1:] & novel[:-1]).sum()),
    }  # fmt: skip


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
            "beyond": [float((scores > limit).mean()) for limit in (*LIMITS, monitor.limit)],
            "percentiles_only": float((scores_of(coarse, images) > equal_limit).mean()),
        }

    spoiled = held_out[::EVERY]
    rows = [row(f"{Path(arguments.held_out).name}, held out", held_out)]
    rows += [row(f"{Path(where).name}", images_of(where)) for where in arguments.elsewhere]
    rows += [row(name, [fault(image) for image in spoiled]) for name, fault in FAULTS.items()]
    pictures = np.stack([picture_of(image, PICTURE) for image in held_out])
    counted = [alarms("held out", trained, pictures), alarms("the other way round", pictures, trained)]
    if worlds := arguments.worlds:
        halves = simulated(range(worlds)), simulated(range(worlds, 2 * worlds))
        counted += [alarms("simulated", *halves), alarms("simulated, the other way round", *halves[::-1])]
    return {
        "drives": arguments.drives,
        "limits": (*LIMITS, monitor.limit),
        "alarms": counted,
        "percentiles_only_limit": equal_limit,
        "fastest_us": fastest_us(statistics, held_out[1000:1016]),
        "rows": rows,
    }


def table(document: Mapping[str, object]) -> str:
    limits = " ".join(f"{f'> {limit:g}':>7}" for limit in document["limits"])  # type: ignore[attr-defined]
    lines = [f"{'pictures':34} {'median':>6}  {limits}  percentiles"]
    for row in document["rows"]:  # type: ignore[attr-defined]
        beyond = " ".join(f"{share:>7.1%}" for share in row["beyond"])
        lines.append(f"{row['pictures'][:34]:34} {row['median']:>6.2f}  {beyond}  {row['percentiles_only']:>10.1%}")
    lines += ["", "false alarms at the contract's own limit"]
    lines += [f"{'':32} limit  frames  novel  neutral  per 10,000 frames"]
    found: list[Mapping[str, object]] = document["alarms"]  # type: ignore[assignment]
    totals = {key: sum(row[key] for row in found) for key in ("frames", "novel", "neutral")}  # type: ignore[misc]
    for row in [*found, {"name": "together", "limit": math.nan, **totals}]:
        limit = "" if math.isnan(row["limit"]) else f"{row['limit']:.2f}"  # type: ignore[arg-type]
        low, high = (1e4 * share for share in interval(row["neutral"], row["frames"]))  # type: ignore[arg-type]
        lines.append(
            f"{row['name']:32} {limit:>5} {row['frames']:>7} {row['novel']:>6} {row['neutral']:>8}  "
            f"{1e4 * row['neutral'] / row['frames']:.2f} ({low:.2f} to {high:.2f})"  # type: ignore[operator]
        )
    fastest = ", ".join(f"{name} {us:.1f} µs" for name, us in document["fastest_us"].items())  # type: ignore[attr-defined]
    lines += ["", f"at the fastest, {PICTURE.width}x{PICTURE.height} gray: {fastest}"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drives", nargs="+", metavar="DRIVE", help="that a model was trained on")
    parser.add_argument("--held-out", required=True, metavar="DRIVE", help="another one of the same place")
    parser.add_argument("--elsewhere", nargs="*", default=[], metavar="SOURCE", help="recordings of other places")
    parser.add_argument("--worlds", type=int, default=0, metavar="N", help="of the built-in simulator to train on")
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
