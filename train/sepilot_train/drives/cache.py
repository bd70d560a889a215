"""Frames decoded once: a memory-mapped file of uint8 pictures per recording and contract.

The key holds the picture's definition, the version of the preprocessing and the state of every source file, so a changed
crop or a touched image makes another file. The pixels are written beside and renamed, the description last: without it
the pixels do not count, so a killed run leaves no half cache.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract import Picture
from sepilot_runtime.errors import DriveError, FrameError
from sepilot_runtime.files import atomic_file, write_json
from sepilot_runtime.opencv import cv2
from sepilot_runtime.preprocess import PREPROCESS_VERSION, Preprocessor
from sepilot_train.drives.drive import Drive, Frames

__all__ = ["PictureSet", "default_cache", "load_pictures"]

CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PictureSet:
    """The readable frames of a drive as pictures.

    Attributes:
        pictures: uint8 (n, height, width, channels), read only.
        time_s, steering, throttle, camera, names: as in `Drive`, (n,) each.
        skipped: reason to count, of the reader and of the decoder together.
        fingerprint: SHA-256 over names and labels of the frames.
    """

    drive_id: str
    pictures: NDArray[np.uint8]
    time_s: NDArray[np.float64]
    steering: NDArray[np.float32]
    throttle: NDArray[np.float32]
    camera: NDArray[np.int8]
    names: tuple[str, ...]
    skipped: Mapping[str, int]
    fingerprint: str
    full_scale_deg: float
    rate_hz: float


def default_cache() -> Path:
    """$SEPILOT_CACHE, or the user's cache folder by the XDG convention."""
    if given := os.environ.get("SEPILOT_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sepilot"


def load_pictures(
    drive: Drive, picture: Picture, *, cache_dir: Path | None = None, progress: bool = True, workers: int | None = None
) -> PictureSet:
    """Pictures of a drive's frames, from the cache or decoded into it by `workers` threads (default: one per core).

    Raises:
        DriveError: not one frame can be read.
        OutputError: the cache cannot be written.
    """
    folder = cache_dir or default_cache()
    key = _key(drive.frames, picture)
    pixels, info = folder / f"{key}.u8", folder / f"{key}.json"
    shape = (len(drive.frames), *picture.shape)
    bad = _read_info(info, pixels, shape)
    if bad is None:
        bad = _decode(drive, picture, pixels, info, shape, progress=progress, workers=workers)
    good = np.array([row not in bad for row in drive.rows.tolist()], bool)
    if not good.any():
        first = next(iter(bad.values()))
        raise DriveError(f"{drive.path}: not one of {len(drive)} frames can be read, the first because the {first}")
    kept = drive.taken(np.flatnonzero(good))
    skipped = Counter(drive.skipped) + Counter(bad[row] for row in drive.rows[~good].tolist())
    everything = np.memmap(pixels, np.uint8, "r", shape=shape)
    return PictureSet(
        drive_id=drive.id,
        # Rows in a row need no copy.
        pictures=everything if len(kept) == len(everything) else everything[kept.rows],
        time_s=kept.time_s,
        steering=kept.steering,
        throttle=kept.throttle,
        camera=kept.camera,
        names=kept.names,
        skipped=dict(skipped),
        fingerprint=_fingerprint(kept),
        full_scale_deg=kept.full_scale_deg,
        rate_hz=kept.rate_hz,
    )


def _key(frames: Frames, picture: Picture) -> str:
    settings = {"picture": dataclasses.asdict(picture), "preprocess": PREPROCESS_VERSION, "opencv": cv2.__version__}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + frames.stamp()).hexdigest()[:32]


def _fingerprint(drive: Drive) -> str:
    digest = hashlib.sha256("\n".join(drive.names).encode())
    digest.update(drive.steering.tobytes())
    digest.update(drive.camera.tobytes())
    return digest.hexdigest()


def _read_info(info: Path, pixels: Path, shape: tuple[int, ...]) -> dict[int, str] | None:
    """Unreadable rows with their reasons; None when there is no whole cache."""
    try:
        found: Any = json.loads(info.read_text(encoding="utf-8"))
        if found["shape"] != list(shape) or pixels.stat().st_size != int(np.prod(shape)):
            return None
        return {int(row): str(reason) for row, reason in found["bad"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _decode(
    drive: Drive,
    picture: Picture,
    pixels: Path,
    info: Path,
    shape: tuple[int, ...],
    *,
    progress: bool,
    workers: int | None,
) -> dict[int, str]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bad: dict[int, str] = {}
    columns = (TextColumn("decoding {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not progress)
    with atomic_file(pixels) as part, bar:
        with part.open("r+b") as file:
            # Allocated now, so that a full disk is an error here and not a bus error in the middle.
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
        target = np.memmap(part, np.uint8, "r+", shape=shape)
        task = bar.add_task(drive.id, total=shape[0])

        def decode(start: int) -> dict[int, str]:
            return _decode_rows(drive.frames, picture, target, range(start, min(start + CHUNK, shape[0])))

        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            futures = pool.map(decode, range(0, shape[0], CHUNK))
            try:
                for found in futures:
                    bad.update(found)
                    bar.advance(task, CHUNK)
            except BaseException:
                # Ctrl-C must not wait for the rest of the drive.
                pool.shutdown(cancel_futures=True)
                raise
        target.flush()
        del target
    write_json(info, {"shape": list(shape), "bad": {str(row): reason for row, reason in bad.items()}})
    return bad


def _decode_rows(frames: Frames, picture: Picture, target: NDArray[np.uint8], rows: range) -> dict[int, str]:
    preprocessor = Preprocessor(picture)
    bad = {}
    for row in rows:
        try:
            target[row] = preprocessor.picture_of(frames.read(row))
        except FrameError as e:
            bad[row] = e.reason
    return bad
