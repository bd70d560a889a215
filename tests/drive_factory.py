"""Tiny recordings of every format, written by hand so that a reader and its test cannot share a mistake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from sepilot_runtime.recording.drive import Drive


def frame(position: float, *, height: int = 48, width: int = 64) -> np.ndarray:
    """A gray road with a bright bar: at the left edge for -1, at the right edge for +1."""
    picture = np.full((height, width, 3), 60, np.uint8)
    x = round((position + 1) / 2 * (width - 9))
    picture[height // 3 :, x : x + 8] = (40, 200, 220)
    return picture


def angles(count: int) -> list[float]:
    """Steering that swings slowly from side to side."""
    return [round(float(0.9 * np.sin(i / 6)), 4) for i in range(count)]


def write_tub(folder: Path, count: int = 40, *, throttle: float | Sequence[float] = 0.3, **changes: Any) -> Path:
    """A tub v2. `changes`: records (index -> replaced keys, None drops the key), deleted, manifest (replaced keys)."""
    images = folder / "images"
    images.mkdir(parents=True)
    lines = []
    for i, angle in enumerate(angles(count)):
        name = f"{i}_cam_image_array_.jpg"
        cv2.imwrite(str(images / name), frame(angle), [cv2.IMWRITE_JPEG_QUALITY, 95])
        record = {
            "_index": i,
            "_session_id": "26-01-01_0",
            "_timestamp_ms": 1_700_000_000_000 + 50 * i,
            "cam/image_array": name,
            "user/angle": angle,
            "user/mode": "user",
            "user/throttle": throttle if isinstance(throttle, float) else throttle[i],
        }
        record.update(changes.get("records", {}).get(i, {}))
        lines.append(json.dumps({k: v for k, v in record.items() if v is not None}))
    half = count // 2
    (folder / "catalog_0.catalog").write_text("\n".join(lines[:half]) + "\n")
    (folder / "catalog_1.catalog").write_text("\n".join(lines[half:]) + "\n")
    table = {
        "paths": ["catalog_0.catalog", "catalog_1.catalog"],
        "current_index": count,
        "max_len": 1000,
        "deleted_indexes": list(changes.get("deleted", ())),
    }
    table.update(changes.get("manifest", {}))
    head = [
        ["cam/image_array", "user/angle", "user/throttle", "user/mode"],
        ["image_array", "float", "float", "str"],
        {},
        {},
    ]
    (folder / "manifest.json").write_text("\n".join(json.dumps(d) for d in (*head, table)) + "\n")
    return folder


def write_tub_v1(folder: Path, count: int = 12) -> Path:
    """A tub v1: one JSON file per frame."""
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text('{"inputs": ["cam/image_array", "user/angle", "user/throttle"]}')
    for i, angle in enumerate(angles(count)):
        cv2.imwrite(str(folder / f"{i}_cam-image_array_.jpg"), frame(angle))
        record = {
            "cam/image_array": f"{i}_cam-image_array_.jpg",
            "user/angle": angle,
            "user/throttle": 0.3,
            "milliseconds": 50 * i,
        }
        (folder / f"record_{i}.json").write_text(json.dumps(record))
    return folder


def write_udacity(folder: Path, count: int = 10, *, header: bool = True, prefix: str = "IMG/") -> Path:
    """A log of Udacity's simulator; `prefix` stands before every picture's name, the files lie in IMG/."""
    (folder / "IMG").mkdir(parents=True)
    lines = ["center,left,right,steering,throttle,brake,speed"] if header else []
    for i, angle in enumerate(angles(count)):
        names = [f"{side}_2016_12_01_13_30_{i // 10:02d}_{i % 10}00.jpg" for side in ("center", "left", "right")]
        for name in names:
            cv2.imwrite(str(folder / "IMG" / name), frame(angle))
        lines.append(",".join([*(prefix + n for n in names), str(angle), "0.5", "0", "20.1"]))
    (folder / "driving_log.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_angle_names(folder: Path, degrees: Sequence[int] = (45, 60, 90, 120, 135)) -> Path:
    """DeepPiCar's `video01_000_045.png`: 90 degrees is straight, more is right."""
    folder.mkdir(parents=True)
    for i, angle in enumerate(degrees):
        cv2.imwrite(str(folder / f"video01_{i:03d}_{angle:03d}.png"), frame((angle - 90) / 45))
    return folder


def write_video(path: Path, count: int = 12, *, rate_hz: float = 20.0) -> Path:
    """A video of the same frames, MJPEG in AVI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (64, 48))
    assert writer.isOpened()
    for angle in angles(count):
        writer.write(frame(angle))
    writer.release()
    return path


def bare_drive(name: str, steering: np.ndarray, *, rate_hz: float = 20.0) -> Drive:
    """A drive of which there is nothing but labels and times: frames `0.jpg`, `1.jpg`, … that nobody can read."""
    from sepilot_runtime.recording.drive import Drive
    from sepilot_runtime.recording.frames import ImageFrames

    count = len(steering)
    return Drive(
        id=name, path=Path(name), kind="images", time_s=np.arange(count) / rate_hz, labels={"steering": steering},
        camera=np.zeros(count, np.int8), names=tuple(f"{i}.jpg" for i in range(count)), rows=np.arange(count),
        frames=ImageFrames([]), full_scale_deg=25.0,
    )  # fmt: skip
