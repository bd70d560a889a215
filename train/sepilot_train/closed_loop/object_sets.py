"""Sets of labelled pictures from the simulated worlds: boxes, crops by class, and points, each in a side's own worlds.

OUT/scenes   COCO: train/, val/, test/ and annotations/instances_train.json, …
OUT/crops    train/stop/000003_00702.png, …: squares around what is seen, and `background`
OUT/target   train.csv with image, target_x, target_y in pixels, and its pictures in train/: the scenes' own files
OUT/cones    train.csv with image, tip_x, tip_y, base_x, base_y, and its crops in train/
OUT/objects.json  what it was made with, and what is in it

A file's name begins with its world, by which readers group: no world is on two sides.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime import __version__
from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_runtime.base.files import atomic_directory, write_json
from sepilot_runtime.base.opencv import cv2
from sepilot_train.simulator.painter import Seen
from sepilot_train.simulator.protocol import EVALUATION_SEED
from sepilot_train.simulator.staging import OBJECT_MOUNT, Staged, stage
from sepilot_train.simulator.things import CLASSES

__all__ = ["BACKGROUND", "SideCounts", "record_objects"]

BACKGROUND = "background"
PER_WORLD = 25
"""Pictures from one world, at most: painting one takes as long as 20 pictures."""
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
JPEG_QUALITY = 95
CROP_PX = 48
MARGIN = 1.3
"""A crop's side over the longer side of its box."""
CROP_VISIBLE, CROP_SMALLEST_PX = 0.6, 10.0
BACKGROUNDS = 0.3
"""Crops without anything, to a picture."""


@dataclass(slots=True, kw_only=True)
class SideCounts:
    """What was written into one side.

    Attributes:
        worlds: their seeds.
        boxes, crops: by class.
        dropped: in view but without a box, by the reason.
    """

    worlds: list[int] = field(default_factory=list)
    pictures: int = 0
    targets: int = 0
    boxes: Counter[str] = field(default_factory=Counter)
    crops: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


def record_objects(
    out: Path, *, count: int, seed: int = 0, progress: Callable[[], None] = lambda: None
) -> dict[str, SideCounts]:
    """Write `count` pictures from the worlds `seed`, `seed` + 1, … under `out`. Equal arguments give equal files.

    Args:
        progress: called after each picture.

    Raises:
        UsageError: too few pictures for three sides, or worlds that are kept for evaluation.
        OutputError: `out` exists or cannot be written; nothing is left of it then.
    """
    if count < 10:
        raise UsageError(f"--count {count}: at least 10 expected, for train, val and test")
    parts = {side: max(1, round(count * share)) for side, share in SHARES.items() if side != "train"}
    parts = {"train": count - sum(parts.values()), **parts}
    worlds = sum(-(-pictures // PER_WORLD) for pictures in parts.values())
    if seed + worlds > EVALUATION_SEED:
        raise UsageError(
            f"--seed {seed} --count {count}: recording worlds are 0 to {EVALUATION_SEED - 1}; those from "
            f"{EVALUATION_SEED} on are kept unseen for closed-loop evaluation"
        )
    counts: dict[str, SideCounts] = {}
    first = seed
    with atomic_directory(out) as folder:
        for side, pictures in parts.items():
            writer = _SideWriter(folder, side)
            for start in range(0, pictures, PER_WORLD):
                writer.add_world(first, min(PER_WORLD, pictures - start), progress)
                first += 1
            counts[side] = writer.finish()
        write_json(folder / "objects.json", _manifest(count, seed, counts))
    return counts


class _SideWriter:
    def __init__(self, folder: Path, side: str) -> None:
        self._folder, self._side, self.counts = folder, side, SideCounts()
        self._pictures, self._annotations = [], []  # type: list[dict[str, Any]], list[dict[str, Any]]
        self._targets: list[list[str]] = []
        self._cones: list[list[str]] = []
        for part in ("scenes", "target", "cones"):
            (folder / part / side).mkdir(parents=True)
        (folder / "scenes" / "annotations").mkdir(exist_ok=True)
        for name in (*CLASSES, BACKGROUND):
            (folder / "crops" / side / name).mkdir(parents=True)

    def add_world(self, seed: int, count: int, progress: Callable[[], None]) -> None:
        self.counts.worlds.append(seed)
        rng = np.random.default_rng([seed, 6])
        for place, staged in enumerate(stage(seed, count)):
            stem = f"{seed:06d}_{place:03d}"
            self._add_scene(stem, staged)
            self._add_crops(stem, staged, rng)
            progress()

    def finish(self) -> SideCounts:
        categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(CLASSES, 1)]
        document = {"images": self._pictures, "annotations": self._annotations, "categories": categories}
        path = self._folder / "scenes" / "annotations" / f"instances_{self._side}.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        _write_table(self._folder / "target" / f"{self._side}.csv", ("target",), self._targets)
        _write_table(self._folder / "cones" / f"{self._side}.csv", ("tip", "base"), self._cones)
        return self.counts

    def _add_scene(self, stem: str, staged: Staged) -> None:
        name = f"{stem}.jpg"
        path = self._folder / "scenes" / self._side / name
        _write_picture(path, staged.picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        height, width = staged.picture.shape[:2]
        identity = len(self._pictures) + 1
        self._pictures.append({"id": identity, "file_name": name, "width": width, "height": height})
        for seen in staged.seen:
            left, top, right, bottom = seen.box
            box = [left, top, right - left, bottom - top]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1, "image_id": identity, "category_id": CLASSES.index(seen.name) + 1,
                    "bbox": box, "area": box[2] * box[3], "iscrowd": 0, "segmentation": [],
                    "visible": round(seen.visible, 3),
                }
            )  # fmt: skip
            self.counts.boxes[seen.name] += 1
        self.counts.pictures += 1
        self.counts.dropped += staged.dropped
        if staged.target is not None:
            _link(path, self._folder / "target" / self._side / name)
            self._targets.append([name, *(f"{number:.2f}" for number in staged.target)])
            self.counts.targets += 1

    def _add_crops(self, stem: str, staged: Staged, rng: np.random.Generator) -> None:
        for place, seen in enumerate(staged.seen):
            left, top, right, bottom = seen.box
            longest, shortest = max(right - left, bottom - top), min(right - left, bottom - top)
            if seen.visible < CROP_VISIBLE or shortest < CROP_SMALLEST_PX:
                continue
            side = longest * MARGIN * rng.uniform(0.95, 1.1)
            x, y = np.array([left + right, top + bottom]) / 2 + rng.uniform(-0.06, 0.06, 2) * side
            crop = _crop(staged.picture, (x - side / 2, y - side / 2, side))
            self._write_crop(seen.name, f"{stem}{place:02d}.png", crop)
            if seen.name == "cone":
                self._add_cone(f"{stem}{place:02d}.png", seen, crop, (x - side / 2, y - side / 2, side))
        if rng.random() < BACKGROUNDS:
            side = rng.uniform(20, 80)
            height, width = staged.picture.shape[:2]
            left, top = rng.uniform(0, width - side), rng.uniform(height * 0.2, height - side)
            if all(_apart(seen.box, (left, top, left + side, top + side)) for seen in staged.seen):
                self._write_crop(BACKGROUND, f"{stem}99.png", _crop(staged.picture, (left, top, side)))

    def _add_cone(self, name: str, seen: Seen, crop: NDArray[np.uint8], window: tuple[float, float, float]) -> None:
        left, top, side = window
        row = [name]
        for x, y in (seen.points["tip"], seen.points["base"]):
            place = ((x - left) / side * CROP_PX, (y - top) / side * CROP_PX)
            if not all(0 <= number <= CROP_PX for number in place):
                return  # The cone stands half outside of the picture.
            row += [f"{number:.2f}" for number in place]
        _link(self._folder / "crops" / self._side / "cone" / name, self._folder / "cones" / self._side / name)
        self._cones.append(row)

    def _write_crop(self, label: str, name: str, crop: NDArray[np.uint8]) -> None:
        _write_picture(self._folder / "crops" / self._side / label / name, crop, [])
        self.counts.crops[label] += 1


def _apart(box: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]


def _crop(picture: NDArray[np.uint8], window: tuple[float, float, float]) -> NDArray[np.uint8]:
    """The square at left, top of a side, as (CROP_PX, CROP_PX, 3); beyond the picture its edge goes on."""
    left, top, side = window
    scale = side / CROP_PX
    shift = 0.5 * scale - 0.5
    back = np.array([[scale, 0, left + shift], [0, scale, top + shift]])
    if scale > 1:  # Averaged before it is made smaller, so that nothing glitters.
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.4 * scale), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(picture, back, (CROP_PX, CROP_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8)


def _write_picture(path: Path, picture: NDArray[np.uint8], settings: list[int]) -> None:
    done, data = cv2.imencode(path.suffix, picture, settings)
    if not done:
        raise OutputError(f"{path}: OpenCV cannot encode a picture of shape {picture.shape}")
    path.write_bytes(data.tobytes())


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, or a copy on a disk that knows none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_table(path: Path, points: tuple[str, ...], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", *(f"{name}_{axis}" for name in points for axis in "xy")])
        table.writerows(rows)


def _manifest(count: int, seed: int, counts: dict[str, SideCounts]) -> dict[str, Any]:
    return {
        "sepilot": __version__,
        "count": count,
        "seed": seed,
        "picture": [OBJECT_MOUNT.height_px, OBJECT_MOUNT.width_px],
        "sides": {
            side: {
                "worlds": [found.worlds[0], found.worlds[-1]], "pictures": found.pictures, "targets": found.targets,
                "boxes": dict(sorted(found.boxes.items())), "crops": dict(sorted(found.crops.items())),
                "dropped": dict(sorted(found.dropped.items())),
            }
            for side, found in counts.items()
        },
    }  # fmt: skip
