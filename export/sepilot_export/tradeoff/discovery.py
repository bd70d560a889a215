"""Run and export directories among the paths that were named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_export.record.exports import EXPORT_NAME, read_export
from sepilot_export.verify.reference import REFERENCE_NAME
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.files import sha256_of

__all__ = ["Found", "LeftOut", "Place", "find"]

DEPTH = 2
"""Levels of folders that are searched below a named path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that takes no part in the comparison, and why."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An export directory to compare.

    Attributes:
        path: where its files lie now.
        shown: where they will lie; differs from `path` for an export that is made for the comparison.
        name: short, unlike those of the others.
        run: the run that it was made from; None where that is not at hand.
    """

    path: Path
    shown: Path
    name: str
    run: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What lies below the named paths: exports, each with its run, runs that have no export, and what is no use."""

    exports: tuple[tuple[Path, Path | None], ...]
    runs: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def find(paths: Sequence[Path]) -> Found:
    """Search `paths`: runs, exports, or folders that hold them up to two levels down.

    Raises:
        RunError: a path is no directory, holds nothing of the kind, or an export.json cannot be read.
    """
    exports: dict[Path, Path] = {}
    runs: dict[Path, Path] = {}
    left_out: dict[Path, LeftOut] = {}
    for path in paths:
        if not path.is_dir():
            what = "a file" if path.exists() else "nothing"
            raise RunError(f"{path}: a run, an export or a folder of them expected, found {what}")
        here = list(_walk(path, DEPTH))
        if not here:
            raise RunError(f"{path}: neither a run nor an export, and none up to {DEPTH} folders below")
        for folder in here:
            if reason := _useless(folder):
                left_out[folder.resolve()] = LeftOut(what=str(folder), reason=reason)
            else:
                (exports if _is_export(folder) else runs).setdefault(folder.resolve(), folder)
    hashes = {run: sha256_of(run / "model.keras") for run in runs}
    sources = {folder: _source(folder, hashes) for folder in exports}
    taken = set(sources.values())
    return Found(
        exports=tuple((shown, _shown(sources[folder], runs)) for folder, shown in exports.items()),
        runs=tuple(shown for run, shown in runs.items() if run not in taken),
        left_out=tuple(left_out.values()),
    )


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Directories that are, or are meant to be, a run or an export; nothing is searched below one."""
    if (folder / "request.json").exists() or (folder / EXPORT_NAME).exists():
        yield folder
    elif depth > 0:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.name.startswith("."):
                yield from _walk(inner, depth - 1)


def _is_export(folder: Path) -> bool:
    return (folder / EXPORT_NAME).exists()


def _useless(folder: Path) -> str:
    """Why a directory cannot be used, or ""."""
    if _is_export(folder):
        return "" if (folder / REFERENCE_NAME).exists() else f"an export without {REFERENCE_NAME}; export again"
    return "" if (folder / "model.keras").exists() else "the training has not finished"


def _source(folder: Path, hashes: dict[Path, str]) -> Path | None:
    """The run of an export: the one that it names, where that is still there, or the one with the same model."""
    record = read_export(folder)
    named = Path(record.run).resolve() if record.run else None
    if named is not None and (named / "model.keras").exists():
        return named
    return next((run for run, found in hashes.items() if found == record.model_sha256), None)


def _shown(run: Path | None, runs: dict[Path, Path]) -> Path | None:
    """A run as the user named it, where it was."""
    return None if run is None else runs.get(run, run)
