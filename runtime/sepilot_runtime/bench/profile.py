"""A profile: the quickest way on this machine to run a model that passed its accuracy gate.

    {"version": 1, "file": "swift-int8.tflite", "sha256": "…", "engine": "litert", "threads": 1, "us_p50": 31.2,
     "cpu": "…"}

`file` is relative to the profile's own folder where it lies in it or below, so that both travel together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.base.caps import MODEL_BYTES, SETTINGS_BYTES
from sepilot_runtime.base.documents import parse
from sepilot_runtime.base.errors import SepilotError, UsageError
from sepilot_runtime.base.files import read_json, sha256_of, write_json
from sepilot_runtime.base.unique_names import names_of
from sepilot_runtime.bench.record import BenchRow
from sepilot_runtime.device.checked import CHECK_NAME, rows_of
from sepilot_runtime.engine.names import EngineName, engine_named

__all__ = ["Profile", "ineligible", "read_profile", "require_eligible", "write_profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What stands in the file.

    Attributes:
        us_p50: frame to angle on `cpu`, when it was chosen.
    """

    version: int = 1
    file: str
    sha256: str
    engine: EngineName
    threads: int
    us_p50: float
    cpu: str

    def __post_init__(self) -> None:
        if self.version != 1:
            raise UsageError(f"version: 1 expected, found {self.version}")
        engine_named(self.engine)
        if self.threads < 1:
            raise UsageError(f"threads: at least 1 expected, found {self.threads}")


def require_eligible(path: Path, candidates: Sequence[tuple[Path, str]]) -> tuple[list[int], list[str]]:
    """Make sure that a profile can come of files on engines, which can be told before they are measured.

    Returns:
        The places of those that are eligible, and a line for each reason why others are not.

    Raises:
        UsageError: none is eligible.
    """
    names = names_of([file for file, _ in candidates])
    reasons = [ineligible(file, engine) for file, engine in candidates]
    said: dict[str, dict[str, None]] = {}
    for name, (_, engine), why in zip(names, candidates, reasons, strict=True):
        if why is not None:
            said.setdefault(why, {})[f"{name} on {engine}"] = None
    # Files of one folder mostly have one reason.
    lines = [f"{', '.join(files)}: {why}" for why, files in said.items()]
    eligible = [place for place, why in enumerate(reasons) if why is None]
    if not eligible:
        raise UsageError(f"{path}: not written, as no file is eligible: {'; '.join(lines)}")
    return eligible, lines


def write_profile(path: Path, rows: Sequence[BenchRow], cpu: str) -> tuple[Profile, list[str]]:
    """Store the quickest of those that passed their accuracy gate.

    Returns:
        The profile, and a line for each reason why files are not eligible.

    Raises:
        UsageError: none is eligible.
        OutputError: `path` cannot be written.
    """
    own = [row for row in rows if not row.reference]
    eligible, lines = require_eligible(path, [(Path(row.path), row.engine) for row in own])
    best = min((own[place] for place in eligible), key=lambda row: (row.us_p50, row.threads))
    folder, file = path.absolute().parent, Path(best.path).absolute()
    profile = Profile(
        file=str(file.relative_to(folder) if file.is_relative_to(folder) else file),
        sha256=sha256_of(file),
        engine=best.engine,
        threads=best.threads,
        us_p50=round(best.us_p50, 2),
        cpu=cpu,
    )
    write_json(path, dataclasses.asdict(profile))
    return profile, lines


def ineligible(file: Path, engine: str) -> str | None:
    """Why a file must not be chosen: check.json beside it does not say that these bytes passed on this engine."""
    path = file.parent / CHECK_NAME
    if not path.is_file():
        return f"not checked: no {CHECK_NAME} beside it; run: sepilot check {file.parent}"
    try:
        record = read_json(path)
    except SepilotError as e:
        return str(e)
    said = (file.name, engine)
    row = next((row for row in rows_of(record, engine) if (row.get("file"), row.get("engine")) == said), None)
    if row is None:
        return f"{CHECK_NAME} says nothing about it on this engine; run: sepilot check DIR --engine {engine}"
    if row.get("sha256") != sha256_of(file):
        return f"{CHECK_NAME} is about another file of this name; run: sepilot check {file.parent}"
    return None if row.get("passed") is True else "failed its accuracy gate"


def read_profile(path: Path) -> tuple[Profile, Path]:
    """A profile and the file that it names.

    Raises:
        UsageError: no such profile, it cannot be read, or the file is missing or not the one that was measured.
    """
    try:
        profile = parse(Profile, read_json(path, UsageError, limit=SETTINGS_BYTES), "", UsageError, complete=True)
    except UsageError as e:
        raise UsageError(f"{path}: {str(e).removeprefix(f'{path}: ')}") from e
    file = path.absolute().parent / profile.file
    if not file.is_file():
        raise UsageError(f"{path}: names {profile.file}, which is not there")
    try:
        sha256 = sha256_of(file, limit=MODEL_BYTES)
    except OSError as e:
        raise UsageError(f"{path}: {profile.file} cannot be read: {e.strerror or e}") from e
    if sha256 != profile.sha256:
        raise UsageError(f"{path}: {profile.file} is another file than the one that was measured; bench again")
    return profile, file
