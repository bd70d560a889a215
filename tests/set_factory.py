"""Tiny labelled sets of every format, written by hand so that a reader and its test cannot share a mistake.

A scene is a dark picture with a few plain shapes, each class in a colour of its own:
a small net learns them in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

COLORS = ((60, 60, 230), (60, 220, 60), (230, 120, 40), (40, 220, 230), (220, 60, 220), (230, 230, 60))
NAMES = ("cone", "car", "sign")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scene:
    """A picture (H, W, 3) uint8 BGR; in pixels its boxes (name, left, top, right, bottom) and points (x, y)."""

    picture: np.ndarray
    boxes: tuple[tuple[str, int, int, int, int], ...]
    points: tuple[tuple[float, float], ...] = ()


def scenes(
    count: int, rng: np.random.Generator, *, size: tuple[int, int] = (48, 64), names: Sequence[str] = NAMES,
    most: int = 3,
) -> list[Scene]:  # fmt: skip
    """Scenes of `size` (height, width) with 0 to `most` boxes; the points are corners and middle of the first."""
    height, width = size
    made = []
    for _ in range(count):
        picture = rng.integers(20, 60, (height, width, 3), np.uint8)
        boxes = []
        for _ in range(int(rng.integers(0, most + 1))):
            place = int(rng.integers(len(names)))
            wide, high = (int(rng.integers(side // 6, side // 2)) for side in (width, height))
            left, top = int(rng.integers(0, width - wide)), int(rng.integers(0, height - high))
            picture[top : top + high, left : left + wide] = COLORS[place % len(COLORS)]
            boxes.append((names[place], left, top, left + wide, top + high))
        points: tuple[tuple[float, float], ...] = ()
        if boxes:
            _, left, top, right, bottom = boxes[0]
            points = ((left, top), (right, bottom), ((left + right) / 2, (top + bottom) / 2))
        made.append(Scene(picture=picture, boxes=tuple(boxes), points=points))
    return made


def write_pictures(folder: Path, made: Sequence[Scene], stem: str = "scene") -> list[str]:
    """`scene-0.png`, …; gives their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{stem}-{i}.png" for i in range(len(made))]
    for name, scene in zip(names, made, strict=True):
        cv2.imwrite(str(folder / name), scene.picture)
    return names


def class_picture(place: int, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A noisy disc in the colour of the class at `place`, somewhere near the middle."""
    height, width = size
    picture = rng.integers(20, 80, (height, width, 3), np.uint8)
    at = tuple(int(side // 2 + rng.integers(-side // 8, side // 8 + 1)) for side in (width, height))
    cv2.circle(picture, at, min(size) // 4, COLORS[place % len(COLORS)], -1)
    return picture


def write_class_folders(
    path: Path, classes: Sequence[str] = NAMES, per_class: int = 8, size: tuple[int, int] = (24, 32),
    rng: np.random.Generator | None = None, *, per_group: int = 1,
) -> Path:  # fmt: skip
    """A folder per class with pictures `00003_01.png`: group 3, its picture 1, where there are several to a group."""
    rng = rng or np.random.default_rng(0)
    for place, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(per_class):
            stem = f"{i // per_group:05d}_{i % per_group:02d}" if per_group > 1 else f"{i:05d}"
            cv2.imwrite(str(path / name / f"{stem}.png"), class_picture(place, rng, size))
    return path


def write_identities(path: Path, count: int = 12, each: int = 6, *, size: int = 24, first: int = 0) -> Path:
    """A folder for each of `count` identities `id007`: four by four patches in colours of its own, moved and noisy."""
    for number in range(first, first + count):
        rng = np.random.default_rng([number])
        patches = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        (path / f"id{number:03d}").mkdir(parents=True)
        for i in range(each):
            whole = cv2.resize(patches, (size, size), interpolation=cv2.INTER_NEAREST)
            moved = np.roll(whole, tuple(rng.integers(-1, 2, 2)), (0, 1)) * rng.uniform(0.8, 1.0)
            noisy = (moved + rng.normal(0, 8, moved.shape)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(path / f"id{number:03d}" / f"{i}.png"), noisy)
    return path


def voc_xml(name: str, size: tuple[int, int], boxes: Sequence[tuple[str, float, float, float, float]]) -> str:
    """As LabelImg writes it, with a path of another machine."""
    height, width = size
    objects = "".join(
        f"\t<object>\n\t\t<name>{label}</name>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{left}</xmin>\n"
        f"\t\t\t<ymin>{top}</ymin>\n\t\t\t<xmax>{right}</xmax>\n\t\t\t<ymax>{bottom}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for label, left, top, right, bottom in boxes
    )
    return (
        f"<annotation>\n\t<folder>x</folder>\n\t<filename>{name}</filename>\n\t<path>C:\\somebody\\{name}</path>\n"
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"{objects}</annotation>\n"
    )


def write_voc(path: Path, made: Sequence[Scene], *, lists: Mapping[str, Sequence[int]] | None = None) -> Path:
    """Annotations/, JPEGImages/ and, for `lists` of places by side, ImageSets/Main/; without suffix in the lists."""
    names = write_pictures(path / "JPEGImages", made)
    (path / "Annotations").mkdir()
    for name, scene in zip(names, made, strict=True):
        text = voc_xml(name, scene.picture.shape[:2], scene.boxes)
        (path / "Annotations" / name).with_suffix(".xml").write_text(text)
    for side, places in (lists or {}).items():
        (path / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{Path(names[i]).stem}\n" for i in places)
        (path / "ImageSets" / "Main" / f"{side}.txt").write_text(lines)
    return path


def write_voc_beside(path: Path, made: Sequence[Scene]) -> Path:
    """Each XML file beside its picture."""
    for name, scene in zip(write_pictures(path, made), made, strict=True):
        (path / name).with_suffix(".xml").write_text(voc_xml(name, scene.picture.shape[:2], scene.boxes))
    return path


def coco_of(
    names: Sequence[str], made: Sequence[Scene], classes: Sequence[str] = NAMES, *, points: bool = False
) -> dict:
    """A COCO document: ids start at 10 and categories at 1, as nobody should count on."""
    document: dict = {"info": {}, "licenses": [], "images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(classes, 1)]
    if points:
        document["categories"][0] |= {"keypoints": ["corner", "other", "middle"], "skeleton": [[1, 2]]}
    for i, (name, scene) in enumerate(zip(names, made, strict=True), 10):
        height, width = scene.picture.shape[:2]
        document["images"].append({"id": i, "file_name": name, "width": width, "height": height})
        for label, left, top, right, bottom in scene.boxes:
            box = [left, top, right - left, bottom - top]
            note = {"id": len(document["annotations"]) + 1, "image_id": i, "category_id": classes.index(label) + 1}
            note |= {"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "segmentation": []}
            if points and label == scene.boxes[0][0] and box[:2] == list(scene.boxes[0][1:3]):
                note |= {"keypoints": [n for x, y in scene.points for n in (x, y, 2)], "num_keypoints": 3}
            document["annotations"].append(note)
    return document


def write_coco(
    path: Path, made: Sequence[Scene], *, side: str = "train", classes: Sequence[str] = NAMES, points: bool = False
) -> Path:
    """`annotations/instances_train2017.json` and the pictures in `train2017/`."""
    names = write_pictures(path / f"{side}2017", made)
    (path / "annotations").mkdir(exist_ok=True)
    document = json.dumps(coco_of(names, made, classes, points=points))
    (path / "annotations" / f"instances_{side}2017.json").write_text(document)
    return path


def write_yolo(
    path: Path, made: Mapping[str, Sequence[Scene]], *, classes: Sequence[str] = NAMES, points: bool = False
) -> Path:
    """`data.yaml`, images/train/ and labels/train/, … by side; pose labels of three points with `points`.

    A scene without a box has an empty label file.
    """
    for side, of_side in made.items():
        names = write_pictures(path / "images" / side, of_side)
        (path / "labels" / side).mkdir(parents=True)
        for name, scene in zip(names, of_side, strict=True):
            text = "".join(_yolo_line(scene, i, classes, points=points) for i in range(len(scene.boxes)))
            (path / "labels" / side / name).with_suffix(".txt").write_text(text)
    sides = "".join(f"{side}: images/{side}\n" for side in made)
    shape = "kpt_shape: [3, 3]\n" if points else ""
    listed = "".join(f"  {i}: {name}\n" for i, name in enumerate(classes))
    (path / "data.yaml").write_text(
        f"# made by hand\npath: ../datasets/x  # of another machine\n{sides}{shape}names:\n{listed}"
    )
    return path


def _yolo_line(scene: Scene, place: int, classes: Sequence[str], *, points: bool) -> str:
    height, width = scene.picture.shape[:2]
    label, left, top, right, bottom = scene.boxes[place]
    numbers = [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
    if points:
        known = scene.points if place == 0 else ((0, 0),) * 3
        numbers += [n for x, y in known for n in (x / width, y / height, 2 if place == 0 else 0)]
    return " ".join([str(classes.index(label)), *(f"{n:.6f}" for n in numbers)]) + "\n"


def write_points_csv(path: Path, made: Sequence[Scene], *, side: str = "train", persons: int = 3) -> Path:
    """`train.csv` with image, person, x0, y0, … in pixels, the pictures in `train/`; scenes without points left out."""
    made = [scene for scene in made if scene.points]
    names = write_pictures(path / side, made)
    header = ["image", "person", *(f"{axis}{i}" for i in range(len(made[0].points)) for axis in "xy")]
    rows = [
        [name, str(i % persons), *(f"{number:.2f}" for point in scene.points for number in point)]
        for i, (name, scene) in enumerate(zip(names, made, strict=True))
    ]
    (path / f"{side}.csv").write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    return path


def write_class_csv(path: Path, classes: Sequence[str] = NAMES, per_class: int = 4) -> Path:
    """`labels.csv` with image, class, track, and its pictures beside it."""
    path.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), ["image,class,track"]
    for i in range(per_class):
        for place, name in enumerate(classes):
            picture = f"{name} {i}.png"
            cv2.imwrite(str(path / picture), class_picture(place, rng, (24, 32)))
            rows.append(f"{picture},{name},{i // 2}")
    (path / "labels.csv").write_text("\n".join(rows) + "\n")
    return path


def disc_scenes(count: int, rng: np.random.Generator, *, size: tuple[int, int] = (24, 32)) -> list[Scene]:
    """A red disc with its left and right end and its middle, or in every fourth picture none; a blue one beside it."""
    height, width = size
    made = []
    for i in range(count):
        picture = rng.integers(20, 60, (height, width, 3), np.uint8)
        radius = int(rng.integers(4, 7))
        x, y = int(rng.integers(8, width - 8)), int(rng.integers(8, height - 8))
        cv2.circle(picture, ((x + width // 2) % width, (y + height // 2) % height), radius, (230, 60, 60), -1)
        boxes, points = (), ()
        if i % 4:
            cv2.circle(picture, (x, y), radius, (60, 60, 230), -1)
            boxes = ((NAMES[0], x - radius, y - radius, x + radius, y + radius),)
            points = ((x - radius + 0.5, y + 0.5), (x + radius + 0.5, y + 0.5), (x + 0.5, y + 0.5))
        made.append(Scene(picture=picture, boxes=boxes, points=points))
    return made
