"""Recorded drives as a source: Donkeycar tub v2, in order, with the recorded steering beside each frame.

Only what playing a drive back needs. Reading drives for training, with filters and statistics, is
`sepilot_train.drives`.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sepilot_runtime.errors import DriveError
from sepilot_runtime.sources import DEFAULT_RATE_HZ, ImageSource

__all__ = ["open_tub"]

_IMAGE, _ANGLE, _TIME, _INDEX = "cam/image_array", "user/angle", "_timestamp_ms", "_index"


def open_tub(path: Path) -> ImageSource:
    """Open a tub. Deleted rows, rows without an image file and broken lines are left out and counted in `lost`.

    Raises:
        DriveError: the manifest cannot be read, or no row is left.
    """
    manifest = _manifest(path)
    deleted = set(manifest.get("deleted_indexes", []))
    images = path / "images"
    here = {p.name for p in images.iterdir()} if images.is_dir() else set()
    lost: Counter[str] = Counter()
    paths: list[Path] = []
    stamps: list[float | None] = []
    labels: list[float | None] = []
    for row in _rows(path, manifest, lost):
        name = row.get(_IMAGE)
        if row.get(_INDEX) in deleted:
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


def _manifest(path: Path) -> dict[str, Any]:
    where = path / "manifest.json"
    try:
        lines = where.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DriveError(f"{where}: cannot be read: {e}") from e
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("paths"), list):
            return entry
    raise DriveError(f"{where}: names no catalogs; it is not a Donkeycar tub")


def _rows(path: Path, manifest: Mapping[str, Any], lost: Counter[str]) -> Iterator[dict[str, Any]]:
    for name in manifest["paths"]:
        if Path(str(name)).name != name:
            raise DriveError(f"{path / 'manifest.json'}: catalog {name!r} lies outside the drive")
        try:
            text = (path / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            lost["missing catalog"] += 1
            continue
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                lost["broken line"] += 1
                continue
            if isinstance(row, dict):
                yield row


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
