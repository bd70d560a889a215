"""Recorded drives as a source: Donkeycar tub v2, in order, with the recorded steering beside each frame.

Only what playing a drive back needs. Reading drives for training, with filters and statistics, is
`sepilot_train.drives`.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sepilot_runtime.base.caps import RECORDING_BYTES, ROW_BYTES
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.source.protocol import DEFAULT_RATE_HZ
from sepilot_runtime.source.recorded import ImageSource

__all__ = ["open_tub"]

_IMAGE, _ANGLE, _TIME, _INDEX = "cam/image_array", "user/angle", "_timestamp_ms", "_index"


def open_tub(path: Path) -> ImageSource:
    """Open a tub. Deleted rows, rows without an image file and broken lines are left out and counted in `lost`.

    Raises:
        DriveError: the manifest cannot be read, it or a link leads outside of the drive, or no row is left.
    """
    names, deleted = _manifest(path)
    images = path / "images"
    here = _files_in(images, path) if images.is_dir() else frozenset()
    lost: Counter[str] = Counter()
    paths: list[Path] = []
    stamps: list[float | None] = []
    labels: list[float | None] = []
    for row in _rows(path, names, lost):
        name = row.get(_IMAGE)
        index = row.get(_INDEX)
        if isinstance(index, int) and index in deleted:
            continue
        # `here` holds bare names, so a row cannot lead out of the drive.
        if not isinstance(name, str) or name not in here:
            lost["missing image"] += 1
            continue
        paths.append(images / name)
        stamps.append(_number(row.get(_TIME)))
        labels.append(_number(row.get(_ANGLE)))
    if not paths:
        raise DriveError(f"{path}: no row of this drive has an image ({lost['missing image']} missing)")
    times_s, rate_hz = _timeline(stamps)
    source = ImageSource(str(path), "drive", paths, times_s=times_s, labels=labels, rate_hz=rate_hz)
    source.lost.update(lost)
    return source


def _manifest(path: Path) -> tuple[list[str], frozenset[int]]:
    """The catalogs' names and the deleted indexes."""
    where = path / "manifest.json"
    try:
        lines = read_regular(where, RECORDING_BYTES).decode("utf-8").splitlines()
    except OSError as e:
        raise DriveError(f"{where}: cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise DriveError(f"{where}: cannot be read: {e}") from e
    for line in reversed(lines):
        entry = _parsed(line)
        if not isinstance(entry, dict) or "paths" not in entry:
            continue
        names, deleted = entry["paths"], entry.get("deleted_indexes", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DriveError(f"{where}: paths: a list of the catalogs' names expected")
        if not isinstance(deleted, list) or not all(isinstance(index, int) for index in deleted):
            raise DriveError(f"{where}: deleted_indexes: a list of whole numbers expected")
        return names, frozenset(deleted)
    raise DriveError(f"{where}: names no catalogs; it is not a Donkeycar tub")


def _rows(path: Path, names: Sequence[str], lost: Counter[str]) -> Iterator[dict[str, Any]]:
    here = _files_in(path, path)
    for name in names:
        if Path(name).name != name:
            raise DriveError(f"{path / 'manifest.json'}: catalog {name!r} lies outside the drive")
        if name not in here:
            lost["missing catalog"] += 1
            continue
        try:
            text = read_regular(path / name, RECORDING_BYTES).decode("utf-8", "replace")
        except OSError as e:
            raise DriveError(f"{path / name}: cannot be read: {e.strerror or e}") from e
        for line in text.splitlines():
            row = _parsed(line) if len(line) <= ROW_BYTES else None
            if isinstance(row, dict):
                yield row
            else:
                lost["broken line"] += 1


def _parsed(line: str) -> Any:
    """None for what is no JSON, or none that can be read: numbers or lists without end."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _files_in(folder: Path, drive: Path) -> frozenset[str]:
    """Names of the regular files in a folder of a drive.

    Raises:
        DriveError: the folder or a file is a link that leads outside of the drive.
    """
    root = drive.resolve()
    with os.scandir(folder) as entries:
        files = [entry for entry in entries if entry.is_file()]
    for place in (folder, *(Path(entry.path) for entry in files if entry.is_symlink())):
        if not place.resolve().is_relative_to(root):
            raise DriveError(f"{place}: is a link that leads outside of the drive; refused")
    return frozenset(entry.name for entry in files)


def _number(value: object) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if good else None  # type: ignore[arg-type]


def _timeline(stamps_ms: list[float | None]) -> tuple[list[float], float]:
    """Seconds since the first row and the usual rate; by the row's number where the stamps are of no use."""
    known = [stamp for stamp in stamps_ms if stamp is not None]
    steps = [(b - a) / 1000 for a, b in itertools.pairwise(known)]
    usual_s = statistics.median(steps) if steps else 0.0
    if len(known) < len(stamps_ms) or min(steps, default=0.0) < 0 or not 0.005 < usual_s < 2:
        return [i / DEFAULT_RATE_HZ for i in range(len(stamps_ms))], DEFAULT_RATE_HZ
    return [(stamp - known[0]) / 1000 for stamp in known], round(1 / usual_s, 1)
