"""tradeoff.json: every file at hand with its figures, and the ones worth a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sepilot_export.tradeoff.candidate import FileFigures
from sepilot_export.tradeoff.discovery import LeftOut
from sepilot_runtime.base.bootstrap import Interval
from sepilot_runtime.bench.record import BenchConditions

__all__ = ["FileRow", "Frames", "FurtherOutput", "PickRow", "TimingSettings", "Tradeoff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """The frames that all files are judged on."""

    count: int
    drives: tuple[str, ...]
    constant_mae_deg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingSettings:
    """How the files were timed."""

    rounds: int
    calls: int
    seed: int
    threads: int = 1
    frame_height: int
    frame_width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PickRow:
    """A file worth a name, why, and what share of the lowest error's gain over a constant answer it keeps."""

    pick: str
    file: str
    rule: str
    kept: float
    above_best_deg: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherOutput:
    """The mean error of an output besides the first."""

    unit: str
    mae: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow(FileFigures):
    """A file. `outputs`: the errors of all but the first."""

    file: str
    run: str | None
    above_best_deg: Interval | None
    constant_mae_deg: float
    outputs: Mapping[str, FurtherOutput]
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tradeoff:
    """The whole. `fronts`: by cost, the files that no other beats in error and cost."""

    version: int = 1
    frames: Frames
    settings: TimingSettings
    conditions: BenchConditions
    picks: tuple[PickRow, ...]
    files: tuple[FileRow, ...]
    fronts: Mapping[str, tuple[str, ...]]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
