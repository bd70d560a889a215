"""How much anonymous memory `sepilot train` takes beyond its imports, by number of frames.

Anonymous memory is what has no file behind it (RssAnon in /proc/PID/status): pages of the mapped picture cache can be
dropped at any time and are not counted. For each number of frames a tub is made, whose JPEGs are few and linked many
times, with a label of its own for each frame. A process of its own trains on it and looks at itself every 20 ms: first
right after Keras and its back end are there, then for the most that it grows by, from the first drive read to the last
figure drawn. The cache is new each time, so decoding counts as well.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

LIMIT_MB = 400
"""Most that a training may take beyond the imports, whatever the number of frames."""

SLACK_MB = 40
"""By so much two trainings of the same frames differ: which thread allocates what is chance."""

PICTURES = 64


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench-training-memory", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[10_000, 60_000], help="(default: 10000 60000)")
    parser.add_argument("--recipe", default="swift")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--train", nargs=3, metavar=("TUB", "OUT", "TRACE"), type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        return train(*arguments.train, arguments.recipe, arguments.epochs)
    found = {frames: measured(frames, arguments.recipe, arguments.epochs) for frames in arguments.frames}
    return report(found, arguments)


def measured(frames: int, recipe: str, epochs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="sepilot-memory-") as name:
        folder = Path(name)
        write_tub(folder / "tub", frames)
        command = [sys.executable, __file__, "--recipe", recipe, "--epochs", str(epochs)]
        command += ["--train", str(folder / "tub"), str(folder / "run"), str(folder / "trace.json")]
        subprocess.run(command, check=True, env={**os.environ, "SEPILOT_CACHE": str(folder / "cache")})
        return dict(json.loads((folder / "trace.json").read_text()))


def write_tub(folder: Path, count: int) -> None:
    """A tub v2 of `count` frames of 160x120 at 20 Hz."""
    (folder / "images").mkdir(parents=True)
    kinds = folder / "kinds"
    kinds.mkdir()
    rng = np.random.default_rng(0)
    for kind in range(PICTURES):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        cv2.imwrite(str(kinds / f"{kind}.jpg"), cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC))
    angles = np.sin(np.arange(count) / 37) * np.linspace(0.5, 1, count)
    with (folder / "catalog_0.catalog").open("w", encoding="utf-8") as catalog:
        for i, angle in enumerate(angles.tolist()):
            image = f"{i}_cam_image_array_.jpg"
            os.link(kinds / f"{i % PICTURES}.jpg", folder / "images" / image)
            record = {"_index": i, "_timestamp_ms": 1_700_000_000_000 + 50 * i, "cam/image_array": image,
                      "user/angle": angle, "user/mode": "user", "user/throttle": 0.3}  # fmt: skip
            catalog.write(json.dumps(record) + "\n")
    table = {"paths": ["catalog_0.catalog"], "current_index": count, "max_len": count, "deleted_indexes": []}
    head = [["cam/image_array", "user/angle", "user/throttle"], ["image_array", "float", "float"], {}, {}]
    (folder / "manifest.json").write_text("\n".join(json.dumps(part) for part in (*head, table)) + "\n")


def train(tub: Path, out: Path, trace: Path, recipe: str, epochs: int) -> int:
    """In a process of its own: train, and write down what that took."""
    from sepilot_runtime.cli import main as sepilot
    from sepilot_train.base.quiet import start_keras

    start_keras()
    words = ["train", str(tub), "--out", str(out), "--recipe", recipe, "--set", f"training.epochs={epochs}"]
    begin = time.perf_counter()
    with watched() as found:
        code = sepilot(words)
    found["seconds"] = time.perf_counter() - begin
    trace.write_text(json.dumps(found))
    return code


@contextlib.contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Gives a dictionary that has `imports_mb` and, after the block, `growth_mb` of this process."""
    start = anonymous_mb()
    found = {"imports_mb": start, "growth_mb": 0.0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            found["growth_mb"] = max(found["growth_mb"], anonymous_mb() - start)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def anonymous_mb() -> float:
    """Resident memory of this process that has no file behind it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status: RssAnon expected, found none; this needs Linux")


def report(found: dict[int, dict[str, float]], arguments: argparse.Namespace) -> int:
    print(f"\n{arguments.recipe}, {arguments.epochs} epochs, {os.cpu_count()} cores")
    for frames, figures in found.items():
        print(f"  {frames:>7,} frames   {figures['imports_mb']:>5,.0f} MB after the imports   "
              f"{figures['growth_mb']:>+6,.0f} MB at most   {figures['seconds']:>5,.0f} s")  # fmt: skip
    growth = [figures["growth_mb"] for figures in found.values()]
    too_much = max(growth) > LIMIT_MB or growth[-1] > growth[0] + SLACK_MB
    print(f"  at most {LIMIT_MB} MB, and no more for more frames: {'FAIL' if too_much else 'pass'}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"recipe": arguments.recipe, "frames": found}, indent=2))
    return int(too_much)


if __name__ == "__main__":
    raise SystemExit(main())
