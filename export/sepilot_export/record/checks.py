"""check.json: how far every file of an export is from the training model, and whether it passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sepilot_export.convert.failures import Failure
from sepilot_export.convert.formats import GateLimits
from sepilot_runtime.base.bootstrap import Interval
from sepilot_runtime.base.documents import read_document
from sepilot_runtime.base.errors import RunError

__all__ = ["Check", "CheckedFile", "CheckedOutput", "ErrorHistogram", "OutputReference", "ReferenceFigures", "Section",
           "Witness", "own_figures", "read_check"]  # fmt: skip


COLUMNS = ("max_error", "mae_increase", "sign_flips", "saturated")
"""Gates whose figures the table shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorHistogram:
    """Frames by absolute error in the output's unit, `edges_deg` rising in equal ratios; one of `counts` less."""

    edges_deg: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.edges_deg) != len(self.counts) + 1:
            raise RunError("one more number in edges_deg than in counts expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputReference:
    """How good the answers are that an output of the files was compared with; `constant_mae` of a constant one."""

    unit: str
    scale: float
    task_mae: float | None
    r2: float | None
    constant_mae: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFigures:
    """What the files were compared with; task figures are None without labels.

    Attributes:
        source: whose answers they are, in words.
        full_scale_deg, task_mae, r2, constant_mae: of the first output.
        outputs: the same of each by its name, nothing in what an older sepilot wrote.
    """

    source: str
    frames: int
    drives: tuple[str, ...]
    full_scale_deg: float
    task_mae: float | None
    r2: float | None
    constant_mae: float | None
    outputs: Mapping[str, OutputReference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedOutput:
    """One output of a file.

    Attributes:
        mean_error, p99_error, max_error: in `unit`.
        figures: by gate, what it goes by; `limits`, what it allows.
        task_mae, r2: None without labels.
    """

    unit: str
    mean_error: float
    p99_error: float
    max_error: float
    figures: Mapping[str, float | Interval | None]
    limits: GateLimits
    task_mae: float | None
    r2: float | None
    error_histogram: ErrorHistogram
    passed: bool

    @property
    def own_figures(self) -> Mapping[str, tuple[float, float]]:
        return own_figures(self.figures, self.limits)


def own_figures(
    figures: Mapping[str, float | Interval | None], limits: GateLimits
) -> Mapping[str, tuple[float, float]]:
    """What the gates of an output go by that have no column of their own, each with its limit."""
    return {
        gate: (figure.mean if isinstance(figure, Interval) else float(figure), limits[gate])
        for gate, figure in figures.items()
        if gate not in COLUMNS and figure is not None
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """One file. Errors are None for a file that never answered, task figures also without labels.

    Attributes:
        mean_error_deg to mae_increase, error_histogram, limits: of the first output.
        outputs: the figures of each by its name; nothing for a file that never answered, and in what an older sepilot
            wrote.
        sha256: None where the file was not there.
        golden_error: largest deviation on the golden frames, in output values; None where they failed.
        twin_steps: largest distance of a twin's answers from its TFLite file's, in output steps.
        reasons: why it fails.
        cause, next_step: where the figures of a file that fails tell them.
        notes: what could not be decided.
    """

    file: str
    format: str
    precision: str
    engine: str
    bytes: int
    sha256: str | None
    gzip_bytes: int
    frames: int
    mean_error_deg: float | None
    p99_error_deg: float | None
    max_error_deg: float | None
    sign_flips: int | None
    saturated: int | None
    task_mae: float | None
    r2: float | None
    mae_increase: Interval | None
    golden_error: float | None
    twin_steps: float | None = None
    error_histogram: ErrorHistogram | None = None
    limits: GateLimits
    outputs: Mapping[str, CheckedOutput] = field(default_factory=dict)
    passed: bool
    reasons: tuple[str, ...]
    cause: str | None = None
    next_step: str | None = None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """How far two files of one precision, made for two engines, are from each other with one output, in its unit."""

    files: tuple[str, str]
    precision: str
    output: str = ""
    mean_deg: float
    max_deg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All files on one set of frames."""

    reference: ReferenceFigures
    files: tuple[CheckedFile, ...]
    witnesses: tuple[Witness, ...]
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Section):
    """check.json.

    Attributes:
        conditions: machine and packages that the figures are of.
        not_exported: formats that the export could not make.
        drives: with --drives, on those.
        engines: with --engine, through those interpreters.
    """

    conditions: Mapping[str, str] = field(default_factory=dict)
    not_exported: tuple[Failure, ...] = ()
    drives: Section | None = None
    engines: Mapping[str, Section] = field(default_factory=dict)


def read_check(path: Path) -> Check:
    """check.json of an export directory. Raises RunError."""
    return read_document(Check, path, RunError)
