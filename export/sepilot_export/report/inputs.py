"""What `sepilot train`, `check`, `bench` and `closed-loop` left behind, read strictly.

Keys that the page does not show are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sepilot_export.report.fields import Fields, read_object
from sepilot_runtime.errors import RunError

__all__ = [
    "Bench",
    "BenchRow",
    "Check",
    "CheckedFile",
    "ClosedLoop",
    "Export",
    "ExportedFile",
    "Histogram",
    "Interval",
    "LoopRow",
    "read_bench",
    "read_check",
    "read_closed_loop",
    "read_export",
    "read_history",
]

STAGES = ("preprocess", "infer")
"""Of the path from frame to angle, in the order of the work, as `sepilot bench` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Frames by absolute error, `edges_deg` rising in equal ratios; `counts` has one entry less."""

    edges_deg: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """One row of check.json. Errors are None for a file that never answered, task figures also without labels.

    Attributes:
        limit_deg: the gate for the largest error.
    """

    file: str
    precision: str
    engine: str
    bytes: int
    limit_deg: float
    mean_error_deg: float | None
    p99_error_deg: float | None
    max_error_deg: float | None
    sign_flips: int | None
    saturated: int | None
    task_mae: float | None
    mae_increase: Interval | None
    histogram: Histogram | None
    passed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """check.json. `source` says in words whose answers the files were compared with."""

    frames: int
    source: str
    task_mae: float | None
    files: tuple[CheckedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """One row of export.json. `sparsity` is the share of zero weights."""

    file: str
    precision: str
    engine: str
    bytes: int
    gzip_bytes: int
    sparsity: float
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """export.json. `difference` is between training model and deploy graph, in output values."""

    created: str
    difference: float
    model_sha256: str
    tools: Mapping[str, str]
    warnings: tuple[str, ...]
    files: tuple[ExportedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One measured file. `stages` maps a stage of the path to its median, in the order of the work."""

    file: str
    engine: str
    threads: int
    us_p50: float
    us_p99: float
    stages: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    conditions: Mapping[str, str]
    rows: tuple[BenchRow, ...]

    def median_us(self, file: str) -> float | None:
        """The lowest whole-path median that was measured for a file, None where it was not."""
        return min((row.us_p50 for row in self.rows if row.file == file), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRow:
    """One driver at one delay. Cross-track errors are None where nobody could measure them."""

    driver: str
    worlds: int
    survived: int
    mean_cte_m: float | None
    max_cte_m: float | None
    laps: float | None
    interventions_per_km: float | None
    delay_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    conditions: Mapping[str, str]
    rows: tuple[LoopRow, ...]

    @property
    def delays_ms(self) -> tuple[float, ...]:
        return tuple(sorted({row.delay_ms for row in self.rows}))

    @property
    def drivers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.driver for row in self.rows))

    def at(self, delay_ms: float) -> tuple[LoopRow, ...]:
        return tuple(row for row in self.rows if row.delay_ms == delay_ms)


def read_export(path: Path) -> Export:
    """export.json of an export directory."""
    top = read_object(path)
    return Export(
        created=top.text("created"),
        difference=top.number("deploy_graph_difference"),
        model_sha256=top.text("model_sha256"),
        tools=top.words("tools"),
        warnings=tuple(map(str, top.values("warnings"))),
        files=tuple(
            ExportedFile(
                file=row.text("file"),
                precision=row.text("precision"),
                engine=row.text("engine"),
                bytes=row.whole("bytes"),
                gzip_bytes=row.whole("gzip_bytes"),
                sparsity=row.number("sparsity"),
                sha256=row.text("sha256"),
            )
            for row in top.objects("files")
        ),
    )


def read_check(path: Path) -> Check:
    """check.json of an export directory."""
    top = read_object(path)
    reference = top.inner("reference")
    scale_deg = reference.number("full_scale_deg")
    return Check(
        frames=reference.whole("frames"),
        source=reference.text("source"),
        task_mae=reference.optional("task_mae"),
        files=tuple(_checked_file(row, scale_deg) for row in top.objects("files")),
    )


def _checked_file(row: Fields, scale_deg: float) -> CheckedFile:
    answered = row.has("max_error_deg")
    return CheckedFile(
        file=row.text("file"),
        precision=row.text("precision"),
        engine=row.text("engine"),
        bytes=row.whole("bytes"),
        limit_deg=row.inner("limits").number("max_error") * scale_deg,
        mean_error_deg=row.number("mean_error_deg") if answered else None,
        p99_error_deg=row.number("p99_error_deg") if answered else None,
        max_error_deg=row.number("max_error_deg") if answered else None,
        sign_flips=row.whole("sign_flips") if answered else None,
        saturated=row.whole("saturated") if answered else None,
        task_mae=row.optional("task_mae"),
        mae_increase=_interval(row.inner("mae_increase")) if row.has("mae_increase") else None,
        histogram=_histogram(row.inner("error_histogram")) if row.has("error_histogram") else None,
        passed=row.flag("passed"),
        reasons=tuple(map(str, row.values("reasons"))),
    )


def _interval(fields: Fields) -> Interval:
    return Interval(mean=fields.number("mean"), low=fields.number("low"), high=fields.number("high"))


def _histogram(fields: Fields) -> Histogram:
    edges, counts = fields.values("edges_deg"), fields.values("counts")
    numbers = [v for v in (*edges, *counts) if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != len(edges) + len(counts) or len(edges) != len(counts) + 1:
        raise RunError(f"{fields.where}: numbers expected, one more in edges_deg than in counts")
    return Histogram(edges_deg=tuple(map(float, edges)), counts=tuple(map(int, counts)))


def read_bench(path: Path) -> Bench:
    """What `sepilot bench --json` printed."""
    top = read_object(path)
    return Bench(
        conditions=top.words("conditions"),
        rows=tuple(
            BenchRow(
                file=Path(row.text("file")).name,
                engine=row.text("engine"),
                threads=row.whole("threads"),
                us_p50=row.number("us_p50"),
                us_p99=row.number("us_p99"),
                stages={name: row.inner(name).number("p50_us") for name in STAGES if row.has(name)},
            )
            for row in top.objects("rows")
        ),
    )


def read_closed_loop(path: Path) -> ClosedLoop:
    """What `sepilot closed-loop --json` printed."""
    top = read_object(path)
    return ClosedLoop(
        conditions=top.words("conditions"),
        rows=tuple(
            LoopRow(
                driver=Path(row.text("driver")).name,
                worlds=row.whole("worlds"),
                survived=row.whole("survived"),
                mean_cte_m=row.optional("mean_cte_m"),
                max_cte_m=row.optional("max_cte_m"),
                laps=row.optional("laps"),
                interventions_per_km=row.optional("interventions_per_km"),
                delay_ms=row.optional("delay_ms") or 0.0,
            )
            for row in top.objects("results")
        ),
    )


def read_history(path: Path) -> dict[str, list[float]]:
    """history.csv: column to values, one per epoch; empty before the first epoch has ended."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise RunError(f"{path}: cannot be read: {e}") from e
    history: dict[str, list[float]] = {}
    for line, row in enumerate(rows, start=2):
        for key, value in row.items():
            try:
                history.setdefault(key, []).append(float(value))
            except (TypeError, ValueError) as e:
                raise RunError(f"{path}: line {line}, column {key}: a number expected, found {value!r}") from e
    return history
