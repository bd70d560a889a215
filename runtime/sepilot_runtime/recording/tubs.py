"""Donkeycar tubs.

Version 2: `manifest.json` holds five lines of JSON: inputs, types, metadata, manifest metadata, and a table with the
catalogs' names and the deleted indexes. Catalogs are JSON lines. Version 1: one `record_N.json` per frame beside its
picture. Steering is `user/angle` in [-1, 1], + = right, in both.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepilot_runtime.base.caps import RECORDING_BYTES, ROW_BYTES
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.recording.drive import Drive, Rows
from sepilot_runtime.recording.frames import ImageFrames
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import FileFinder

__all__ = ["is_tub_v1", "is_tub_v2", "read_tub_v1", "read_tub_v2"]

FULL_SCALE_DEG = 25.0
"""A tub does not say what a steering of 1 turns the wheels by; this is usual for 1/10 scale cars."""

IMAGE, ANGLE, THROTTLE = "cam/image_array", "user/angle", "user/throttle"


def is_tub_v2(path: Path) -> bool:
    """A folder with a manifest that names catalogs, or with a broken one beside catalogs.

    Other tools write a `manifest.json`, too.
    """
    manifest = path / "manifest.json"
    try:
        return manifest.is_file() and (b'"paths"' in read_regular(manifest, RECORDING_BYTES) or _has_catalogs(path))
    except OSError:
        return True


def is_tub_v1(path: Path) -> bool:
    """A folder with `record_N.json` files."""
    return any(path.glob("record_*.json"))


def read_tub_v2(path: Path, options: ReaderOptions) -> Drive:
    """Raises DriveError: no manifest, or a catalog that it names is missing or lies outside."""
    table, recorded_scale = _manifest(path)
    deleted = {i for i in table["deleted_indexes"] if isinstance(i, int)}
    rows = Rows(path, options)
    finder = FileFinder(path)
    for name in table["paths"]:
        catalog = finder.find(name)
        if catalog is None:
            raise DriveError(f"{path / 'manifest.json'}: names the catalog {name!r}, which is not there")
        # Line by line: a list of all would be the most that a training holds.
        for line in re.finditer(r"[^\n]+", _text(catalog)):
            if not line[0].isspace():
                _take(rows, finder, line[0], deleted, images="images")
    scale = options.full_scale(recorded_scale or FULL_SCALE_DEG)
    return rows.drive("tub-v2", ImageFrames(rows.sources), full_scale_deg=scale)


def read_tub_v1(path: Path, options: ReaderOptions) -> Drive:
    """Raises DriveError: no usable record."""
    rows = Rows(path, options)
    finder = FileFinder(path)
    records = (re.fullmatch(r"record_(\d{1,18})\.json", p.name) for p in path.glob("record_*.json"))
    for match in sorted((m for m in records if m), key=lambda m: int(m[1])):
        file = finder.find(match.string)
        if file is not None:
            _take(rows, finder, _text(file), set(), images="")
    return rows.drive("tub-v1", ImageFrames(rows.sources), full_scale_deg=options.full_scale(FULL_SCALE_DEG))


def _has_catalogs(path: Path) -> bool:
    return any(path.glob("*.catalog"))


def _text(path: Path) -> str:
    try:
        return read_regular(path, RECORDING_BYTES).decode("utf-8", "replace")
    except OSError as e:
        raise DriveError(f"{path}: cannot be read: {e.strerror or e}") from e


def _manifest(path: Path) -> tuple[dict[str, Any], float | None]:
    """The line with the catalogs and the deleted indexes, and the full-scale angle if the recorder wrote one."""
    file = path / "manifest.json"
    documents: list[Any] = []
    for number, line in enumerate(_text(file).split("\n"), 1):
        try:
            documents += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError) as e:
            raise DriveError(f"{file}: line {number} is not JSON, as each line of a tub's manifest is") from e
    objects = [d for d in documents if isinstance(d, dict)]
    table = next((d for d in objects if "paths" in d), None)
    if table is None or not _is_list_of(table["paths"], str):
        raise DriveError(f"{file}: a line with `paths`, a list of the catalogs' names, expected, found none")
    if not _is_list_of(table.setdefault("deleted_indexes", []), int):
        raise DriveError(f"{file}: deleted_indexes: a list of whole numbers expected")
    scales = [_number(d, "full_scale_deg") for d in objects]
    return table, next((scale for scale in scales if 0 < scale <= 180), None)


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _take(rows: Rows, finder: FileFinder, text: str, deleted: set[int], *, images: str) -> None:
    """One record, from a line of a catalog or a file of its own."""
    try:
        record: Any = json.loads(text) if len(text) <= ROW_BYTES else None
    except (ValueError, RecursionError):
        rows.skip("broken JSON")
        return
    name = record.get(IMAGE) if isinstance(record, dict) else None
    if not isinstance(name, str):
        rows.skip("record without an image")
        return
    index = record.get("_index")
    if isinstance(index, int) and index in deleted:
        rows.skip("deleted by the author")
        return
    path = finder.find(name, below=images)
    if path is None:
        rows.skip("missing image")
        return
    if ANGLE not in record:
        rows.skip("record without user/angle")
        return
    rows.add(
        name,
        str(path),
        time_s=_number(record, "_timestamp_ms", "milliseconds") / 1000.0,
        steering=_number(record, ANGLE),
        throttle=_number(record, THROTTLE),
        further=[_number(record, name, f"user/{name}") for name in rows.further],
    )


def _number(record: Mapping[str, Any], *keys: str) -> float:
    """The first of `keys` that holds a number; NaN when none does."""
    for key in keys:
        value = record.get(key)
        # JSON knows whole numbers that no float can hold.
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return float(value)
    return math.nan
