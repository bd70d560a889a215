"""Frames decoded once: a memory-mapped file of uint8 pictures per recording and contract.

The key holds the picture's definition, the version of the preprocessing and the state of every source file, so a
changed crop or a touched image makes another file. The pixels are written beside and renamed, the description with
their checksum last: without it they do not count, so neither a killed run nor a power cut leaves a half cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, FrameError, OutputError
from sepilot_runtime.base.files import atomic_file, write_json
from sepilot_runtime.base.images import DECODING_VERSION
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.preprocess import PREPROCESS_VERSION, Preprocessor
from sepilot_runtime.contract.window import window_of
from sepilot_runtime.recording.drive import Drive, Frames
from sepilot_train.base.progress import progress_bar
from sepilot_train.base.stored import StoredPictures

__all__ = ["PictureSet", "default_cache", "load_pictures", "usable_cache"]

CHUNK = 64

WAY_OUT = "name a folder for them with SEPILOT_CACHE=DIR"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PictureSet:
    """The readable frames of a drive as pictures.

    Attributes:
        drive: those frames alone; what does not decode is among its `skipped`.
        pictures: uint8 (n, height, width, channels), in the cache.
        frame_sizes: int64 (n, 2), height and width in pixels of the frames that the pictures were made of.
        fingerprint: SHA-256 over the frames' names, file sizes and the labels that `load_pictures` was asked for; the
            same wherever the drive lies.
    """

    drive: Drive
    pictures: StoredPictures
    frame_sizes: NDArray[np.int64]
    fingerprint: str

    def taken(self, index: NDArray[np.int64], reason: str) -> PictureSet:
        """The pictures at `index`; the others count as skipped for this reason.

        Raises:
            DriveError: none is left.
        """
        if not len(index):
            raise DriveError(f"{self.drive.path}: not one of {len(self.drive)} pictures can be used: {reason}")
        skipped = {**self.drive.skipped, reason: len(self.drive) - len(index)}
        return dataclasses.replace(
            self,
            drive=dataclasses.replace(self.drive.taken(index), skipped=skipped),
            pictures=StoredPictures.joined([(self.pictures, index)]),
            frame_sizes=self.frame_sizes[index],
        )

    def windows(self, picture: Picture) -> NDArray[np.float64]:
        """(n, 4) left, top, width, height of what each picture shows, in fractions of its frame."""
        sizes, which = np.unique(self.frame_sizes, axis=0, return_inverse=True)
        windows = [np.array(window_of(int(h), int(w), picture)) / (w, h, w, h) for h, w in sizes]
        return np.stack(windows)[which.reshape(-1)]


def default_cache() -> Path:
    """$SEPILOT_CACHE, or the user's cache folder by the XDG convention.

    Raises:
        OutputError: this user has no home folder.
    """
    if given := os.environ.get("SEPILOT_CACHE"):
        return Path(given)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "sepilot"
    try:
        return Path.home() / ".cache" / "sepilot"
    except RuntimeError as e:
        raise OutputError(f"decoded pictures: this user has no home folder; {WAY_OUT}") from e


def usable_cache() -> Path:
    """`default_cache`, made if it was not there. Raises OutputError where it cannot be written."""
    folder = default_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise OutputError(f"{folder}: decoded pictures cannot be written: {e.strerror or e}; {WAY_OUT}") from e
    return folder


def load_pictures(
    drive: Drive,
    picture: Picture,
    *,
    labels: Sequence[str] = ("steering",),
    cache_dir: Path | None = None,
    progress: bool = True,
) -> PictureSet:
    """Pictures of a drive's frames, from the cache or decoded into it.

    Args:
        labels: names of those that a net learns or is judged by: they are part of the fingerprint.

    Raises:
        DriveError: not one frame can be read.
        OutputError: the cache cannot be written.
    """
    folder = cache_dir or usable_cache()
    key = _key(drive.frames, picture)
    pixels, info = folder / f"{key}.u8", folder / f"{key}.json"
    shape = (len(drive.frames), *picture.shape)
    found = _read_info(info, pixels, shape) or _decode(drive, picture, pixels, info, shape, progress=progress)
    kept = _readable(drive, found.bad)
    pictures = StoredPictures(np.memmap(pixels, np.uint8, "r", shape=shape), kept.rows)
    sizes = found.frame_sizes[kept.rows]
    return PictureSet(drive=kept, pictures=pictures, frame_sizes=sizes, fingerprint=_fingerprint(kept, labels))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Decoded:
    """Unreadable rows with their reasons, and (height, width) of every row's frame, zeros where it is unreadable."""

    bad: dict[int, str]
    frame_sizes: NDArray[np.int64]


def _readable(drive: Drive, bad: Mapping[int, str]) -> Drive:
    """The drive without the `bad` rows, which are skipped for their reasons. Raises DriveError."""
    good = np.array([row not in bad for row in drive.rows.tolist()], bool)
    if not good.any():
        first = next(iter(bad.values()))
        raise DriveError(f"{drive.path}: not one of {len(drive)} frames can be read, the first because the {first}")
    skipped = Counter(drive.skipped) + Counter(bad[row] for row in drive.rows[~good].tolist())
    return dataclasses.replace(drive.taken(np.flatnonzero(good)), skipped=dict(skipped))


def _key(frames: Frames, picture: Picture) -> str:
    settings = {
        "picture": dataclasses.asdict(picture),
        "preprocess": PREPROCESS_VERSION,
        "decoding": DECODING_VERSION,
        "opencv": cv2.__version__,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + frames.stamp()).hexdigest()[:32]


def _fingerprint(drive: Drive, labels: Sequence[str]) -> str:
    digest = hashlib.sha256(os.fsencode("\n".join(drive.names)))
    for name in labels:
        # Steering goes without its name: drives keep the fingerprint that they had while there was no other label.
        digest.update(name.encode() if name != "steering" else b"")
        digest.update(drive.labels[name].tobytes())
    digest.update(drive.camera.tobytes())
    digest.update(drive.frames.sizes()[drive.rows].tobytes())
    return digest.hexdigest()


def _read_info(info: Path, pixels: Path, shape: tuple[int, ...]) -> _Decoded | None:
    """None when there is no whole cache."""
    try:
        found: Any = json.loads(info.read_text(encoding="utf-8"))
        # Summing up costs less than the first epoch's page faults that it saves.
        if found["shape"] != list(shape) or pixels.stat().st_size != math.prod(shape) or found["crc32"] != _sum(pixels):
            return None
        # Height, width and how many rows in a row have them.
        runs = np.array(found["frame_sizes"], np.int64).reshape(-1, 3)
        sizes = np.repeat(runs[:, :2], runs[:, 2], axis=0)
        bad = {int(row): str(reason) for row, reason in found["bad"].items()}
        return _Decoded(bad=bad, frame_sizes=sizes) if len(sizes) == shape[0] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sum(pixels: Path) -> int:
    """CRC-32 of a file."""
    total = 0
    with pixels.open("rb") as file:
        while block := file.read(1 << 20):
            total = zlib.crc32(block, total)
    return total


def _decode(
    drive: Drive, picture: Picture, pixels: Path, info: Path, shape: tuple[int, ...], *, progress: bool
) -> _Decoded:
    bad: dict[int, str] = {}
    sizes = np.zeros((shape[0], 2), np.int64)
    _sweep(pixels.parent)
    with atomic_file(pixels) as part, progress_bar(f"decoding {drive.id}", shape[0], shown=progress) as advance:
        with part.open("r+b") as file:
            # Allocated now, so that a full disk is an error here and not a bus error in the middle.
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        target = np.memmap(part, np.uint8, "r+", shape=shape)
        # A video has one position; a second reader would only make the first one start over.
        threads = 1 if drive.frames.sequential else os.cpu_count()
        chunks = (range(start, min(start + CHUNK, shape[0])) for start in range(0, shape[0], CHUNK))
        with ThreadPoolExecutor(threads) as pool:
            # Ctrl-C does not wait for the rest of the drive: who leaves the loop cancels what has not begun.
            for found in pool.map(lambda rows: _decode_rows(drive.frames, picture, target, sizes, rows), chunks):
                bad.update(found)
                advance(CHUNK)
        target.flush()
        checksum = _sum(part)
    reasons = {str(row): reason for row, reason in bad.items()}
    document = {"shape": list(shape), "crc32": checksum, "bad": reasons, "frame_sizes": _runs(sizes)}
    write_json(info, document)
    return _Decoded(bad=bad, frame_sizes=sizes)


def _runs(sizes: NDArray[np.int64]) -> list[list[int]]:
    starts = np.flatnonzero(np.r_[True, (sizes[1:] != sizes[:-1]).any(axis=1)])
    lengths = np.diff(np.r_[starts, len(sizes)])
    return [[*map(int, sizes[start]), int(length)] for start, length in zip(starts, lengths, strict=True)]


def _sweep(folder: Path) -> None:
    """Remove what runs that were killed outright left behind; a day is longer than any decoding that still goes on."""
    for part in folder.glob(".*.u8"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > 86_400:
                part.unlink()


def _decode_rows(
    frames: Frames, picture: Picture, target: NDArray[np.uint8], sizes: NDArray[np.int64], rows: range
) -> dict[int, str]:
    preprocessor = Preprocessor(picture)
    bad = {}
    for row in rows:
        try:
            frame = frames.read(row)
            target[row] = preprocessor.picture_of(frame)
            sizes[row] = frame.shape[:2]
        except FrameError as e:
            bad[row] = e.reason
    return bad
