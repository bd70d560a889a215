"""Donkeycar tubs.

Version 2: `manifest.json` holds five lines of JSON: inputs, types, metadata, manifest metadata, and a table with the
catalogs' names and the deleted indexes. Catalogs are JSON lines. Version 1: one `record_N.json` per frame beside its
picture. Steering is `user/angle` in [-1, 1], + = right, in both.

Donkeycar writes the manifest's last line anew for every frame, so a power cut tears it while all else is whole: the
catalogs that lie there are what was recorded. Whoever then deletes the manifest and records on begins at index 0 again,
behind the old rows of `catalog_0` and over the old pictures.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepilot_runtime.base.caps import RECORDING_BYTES, ROW_BYTES
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.images import natural_key
from sepilot_runtime.base.reading import read_regular
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.frames import ImageFrames
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import FileFinder, Folder
from sepilot_runtime.recording.rows import Rows

__all__ = ["TUB_V1", "TUB_V2"]

FULL_SCALE_DEG = 25.0
"""A tub does not say what a steering of 1 turns the wheels by; this is usual for 1/10 scale cars."""

MANIFEST = "manifest.json"

IMAGE, ANGLE, THROTTLE, MODE = "cam/image_array", "user/angle", "user/throttle", "user/mode"

AUTOPILOT = frozenset({"pilot", "local", "local_angle"})
"""Modes in which Donkeycar steers by a model; `user/angle` is then the model's, or a stick that nobody holds."""

_RECORD = re.compile(r"record_(\d{1,18})\.json")


def _find_v2(folder: Folder) -> Iterator[Part]:
    """A manifest that names catalogs, or catalogs. Other tools write a `manifest.json`, too."""
    catalogs = frozenset(name for name in folder.files if name.endswith(".catalog"))
    if catalogs or (MANIFEST in folder.files and _names_catalogs(folder.path / MANIFEST)):
        yield Part(path=folder.path, files=catalogs | {MANIFEST})


def _names_catalogs(manifest: Path) -> bool:
    try:
        return b'"paths"' in read_regular(manifest, RECORDING_BYTES)
    except OSError:  # Reading it says why.
        return True


def _find_v1(folder: Folder) -> Iterator[Part]:
    if records := frozenset(name for name in folder.files if name.startswith("record_") and name.endswith(".json")):
        yield Part(path=folder.path, files=records)


def _read_v2(path: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: no usable row, a manifest of something else, or a catalog that lies outside."""
    finder = FileFinder(path)
    manifest = _manifest(path, finder)
    reader = _Reader(path, finder, options, options.full_scale(manifest.full_scale_deg))
    missing = 0
    for name in manifest.catalogs:
        catalog = finder.find(name)
        if catalog is None:
            missing += 1
            continue
        # Line by line: a list of all would be the most that a training holds.
        for line in re.finditer(r"[^\n]+", _text(catalog)):
            if not line[0].isspace():
                reader.take(line[0], manifest.deleted, images="images")
    if missing:
        reader.rows.skip("missing catalog", missing)
    return [reader.drive("tub-v2", manifest.notes)]


def _read_v1(path: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: no usable record."""
    reader = _Reader(path, FileFinder(path), options, options.full_scale(FULL_SCALE_DEG))
    records = (_RECORD.fullmatch(name) for name in Folder.at(path).files)
    for match in sorted((m for m in records if m), key=lambda m: int(m[1])):
        file = reader.finder.find(match.string)
        if file is not None:
            reader.take(_text(file), frozenset(), images="")
    return [reader.drive("tub-v1")]


def _text(path: Path) -> str:
    try:
        return read_regular(path, RECORDING_BYTES).decode("utf-8-sig", "replace")
    except OSError as e:
        raise DriveError(f"{path}: cannot be read: {e.strerror or e}") from e


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    """What to read, and what a user should know of it."""

    catalogs: tuple[str, ...]
    deleted: frozenset[int]
    full_scale_deg: float
    notes: tuple[str, ...]


def _manifest(path: Path, finder: FileFinder) -> _Manifest:
    """The manifest as far as it is whole; the catalogs that lie there, whether it names them or not.

    Raises:
        DriveError: it cannot be read, or its table is one of something else.
    """
    file = finder.find(MANIFEST)
    lines = [line for line in _text(file).split("\n") if line.strip()] if file else []
    objects = [found for line in lines if isinstance(found := _parsed(line), dict)]
    table = next((d for d in reversed(objects) if "paths" in d), None)
    here = sorted((p for p in map(Path, Folder.at(path).files) if p.suffix == ".catalog"), key=natural_key)
    named, deleted, notes = [], frozenset[int](), []
    if table is None:
        state = "torn" if file else "missing"
        notes = [f"{MANIFEST} is {state}: the catalogs in the folder are read, deleted rows are not known"]
    else:
        named = table["paths"]
        if not _is_list_of(named, str):
            raise DriveError(f"{file}: paths: a list of the catalogs' names expected")
        if not _is_list_of(table.get("deleted_indexes", []), int):
            raise DriveError(f"{file}: deleted_indexes: a list of whole numbers expected")
        deleted = frozenset(table.get("deleted_indexes", []))
        if others := sum(p.name not in named for p in here):
            notes = [f"{others} of {len(here)} catalogs are not in {MANIFEST}: read as well"]
    scales = [_number(d, "full_scale_deg") for d in objects]
    return _Manifest(
        catalogs=tuple(dict.fromkeys([*named, *(p.name for p in here)])),
        deleted=deleted,
        full_scale_deg=next((scale for scale in scales if 0 < scale <= 180), FULL_SCALE_DEG),
        notes=tuple(notes),
    )


def _parsed(text: str) -> Any:
    """None for what is no JSON, or none that can be read: numbers or lists without end."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


class _Reader:
    """Goes through the rows of a tub, from lines of catalogs or files of their own."""

    def __init__(self, path: Path, finder: FileFinder, options: ReaderOptions, full_scale_deg: float) -> None:
        self.rows, self.finder = Rows(path, options), finder
        self._options, self._full_scale_deg = options, full_scale_deg
        self._factor, self._notes = options.steering(full_scale_deg)
        self._taken_modes: Counter[str] = Counter()

    def take(self, text: str, deleted: frozenset[int], *, images: str) -> None:
        """One row."""
        rows = self.rows
        record = _parsed(text) if len(text) <= ROW_BYTES else None
        name = record.get(IMAGE) if isinstance(record, dict) else None
        if record is None:
            rows.skip("broken JSON")
            return
        if not isinstance(name, str):
            rows.skip("record without an image")
            return
        index = record.get("_index")
        if isinstance(index, int) and index in deleted:
            rows.skip("deleted by the author")
            return
        path = self.finder.locate(name, below=images)
        if path is None:
            rows.skip("missing image")
            return
        steering, why = self._steering(record)
        rows.add(
            name,
            path,
            time_s=_number(record, "_timestamp_ms", "milliseconds") / 1000.0,
            steering=steering,
            throttle=_number(record, THROTTLE),
            further=[_number(record, name, f"user/{name}") for name in rows.further],
            unlabelled=why,
        )

    def _steering(self, record: Mapping[str, Any]) -> tuple[float | None, str]:
        """The driver's label, or None and why there is none."""
        if ANGLE not in record:
            return None, "record without user/angle"
        if (mode := record.get(MODE)) in AUTOPILOT:
            if self._options.autopilot == "leave-out":
                return None, f"driven by the autopilot (mode {mode}); --autopilot take reads them"
            self._taken_modes[mode] += 1
        return self._factor * _number(record, ANGLE), ""

    def drive(self, kind: str, notes: tuple[str, ...] = ()) -> Drive:
        taken = [f"{count:,} rows driven by the autopilot (mode {m}) taken" for m, count in self._taken_modes.items()]
        return self.rows.drive(
            kind,
            ImageFrames,
            full_scale_deg=self._full_scale_deg,
            notes=(*self._notes, *notes, *taken),
            unit_flags="--unit and --full-scale-deg",
        )


def _number(record: Mapping[str, Any], *keys: str) -> float:
    """The first of `keys` that holds a number; NaN when none does."""
    for key in keys:
        value = record.get(key)
        # JSON knows whole numbers that no float can hold.
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return float(value)
    return math.nan


OPTIONS = frozenset({"full_scale_deg", "positive", "unit", "autopilot", "labels"})

TUB_V2 = Format(
    what=f"a Donkeycar tub ({MANIFEST} or catalogs)",
    kinds={"tub-v2": OPTIONS},
    fills_folder=True,
    find=_find_v2,
    read=_read_v2,
)

TUB_V1 = Format(
    what="an old one (record_*.json)",
    kinds={"tub-v1": OPTIONS},
    fills_folder=True,
    find=_find_v1,
    read=_read_v1,
)
