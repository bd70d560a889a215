"""Donkeycar tubs.

Version 2: `manifest.json` holds five lines of JSON: inputs, types, metadata, manifest metadata, and a table with the
catalogs' names and the deleted indexes. Catalogs are JSON lines. Version 1: one `record_N.json` per frame beside its
picture. Steering is `user/angle` in [-1, 1], + = right, in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepilot_runtime.errors import DriveError
from sepilot_train.drives.drive import Drive, Rows
from sepilot_train.drives.frames import ImageFrames
from sepilot_train.drives.options import ReaderOptions

__all__ = ["inside", "read_tub_v1", "read_tub_v2"]

FULL_SCALE_DEG = 25.0
"""A tub does not say what a steering of 1 turns the wheels by; this is usual for 1/10 scale cars."""

IMAGE, ANGLE, THROTTLE = "cam/image_array", "user/angle", "user/throttle"


def read_tub_v2(path: Path, options: ReaderOptions) -> Drive:
    """Raises DriveError: no manifest, or a catalog that it names is missing."""
    table, recorded_scale = _manifest(path)
    deleted = {i for i in table.get("deleted_indexes", []) if isinstance(i, int)}
    rows = Rows(path)
    for name in table["paths"]:
        catalog = inside(path, name)
        try:
            text = catalog.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError as e:
            raise DriveError(f"{path / 'manifest.json'}: names the catalog {name}, which is not there") from e
        except OSError as e:
            raise DriveError(f"{catalog}: cannot be read: {e.strerror or e}") from e
        for line in text.splitlines():
            if line.strip():
                _take(rows, path, line, deleted)
    return rows.drive(
        "tub-v2",
        ImageFrames(rows.sources),
        full_scale_deg=options.full_scale(recorded_scale or FULL_SCALE_DEG),
    )


def read_tub_v1(path: Path, options: ReaderOptions) -> Drive:
    """Raises DriveError: no usable record."""
    rows = Rows(path)
    records = sorted(path.glob("record_*.json"), key=lambda p: int(re.sub(r"\D", "", p.stem) or 0))
    for file in records:
        text = file.read_text(encoding="utf-8", errors="replace")
        _take(rows, path, text, set(), images="")
    return rows.drive("tub-v1", ImageFrames(rows.sources), full_scale_deg=options.full_scale(FULL_SCALE_DEG))


def inside(root: Path, name: str) -> Path:
    """`root / name`, which must not lead out of `root`.

    Links that somebody has put into the drive are followed; what a recording's own text says is not trusted.

    Raises:
        DriveError: `name` is absolute or climbs by `..`.
    """
    # Joining an absolute path drops the root; a Windows path is one strange name on POSIX and does no harm.
    if name.startswith("/") or ".." in name.split("/"):
        raise DriveError(f"{root}: names the file {name!r}, which lies outside of the drive; refused")
    return root / name


def _manifest(path: Path) -> tuple[dict[str, Any], float | None]:
    file = path / "manifest.json"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        documents = [json.loads(line) for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as e:
        raise DriveError(f"{file}: cannot be read: {e}") from e
    except json.JSONDecodeError as e:
        raise DriveError(f"{file}: not the JSON lines of a tub's manifest ({e.msg})") from e
    table = next((d for d in documents if isinstance(d, dict) and "paths" in d), None)
    if table is None or not all(isinstance(p, str) for p in table["paths"]):
        raise DriveError(f"{file}: a line with `paths` of the catalogs expected, found none")
    scales = [d["full_scale_deg"] for d in documents if isinstance(d, dict) and "full_scale_deg" in d]
    usable = [float(s) for s in scales if isinstance(s, int | float) and 0 < s <= 180]
    return table, usable[0] if usable else None


def _take(rows: Rows, root: Path, text: str, deleted: set[int], *, images: str = "images") -> None:
    """One record, from a line of a catalog or a file of its own."""
    try:
        record = json.loads(text)
    except json.JSONDecodeError:
        rows.skip("broken JSON")
        return
    if not isinstance(record, dict) or not isinstance(record.get(IMAGE), str):
        rows.skip("record without an image")
        return
    if record.get("_index") in deleted:
        rows.skip("deleted by the author")
        return
    name = record[IMAGE]
    path = inside(root / images, name)
    if not path.is_file():
        rows.skip("image is missing")
        return
    if ANGLE not in record:
        rows.skip("record without user/angle")
        return
    rows.add(
        name,
        path,
        time_s=_number(record, "_timestamp_ms", "milliseconds") / 1000.0,
        steering=_number(record, ANGLE),
        throttle=_number(record, THROTTLE),
    )


def _number(record: Mapping[str, Any], *keys: str) -> float:
    for key in keys:
        value = record.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return float("nan")
