"""export.json and check.json of an export directory, read strictly. Keys that the page does not show are left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sepilot_export.convert.failures import Failure, failures_in
from sepilot_export.record.fields import Fields, Interval, read_object
from sepilot_runtime.base.errors import RunError

__all__ = ["Check", "CheckedFile", "Export", "ExportedFile", "Histogram", "read_check", "read_export"]


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
    """export.json. `difference` is between training model and deploy graph, in output values.

    Attributes:
        failed: formats that could not be made.
    """

    created: str
    difference: float
    model_sha256: str
    tools: Mapping[str, str]
    warnings: tuple[str, ...]
    files: tuple[ExportedFile, ...]
    failed: tuple[Failure, ...]


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
        cause, next_step: where the figures of a file that fails tell them, "" where not.
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
    cause: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """check.json. `source` says in words whose answers the files were compared with."""

    frames: int
    source: str
    task_mae: float | None
    files: tuple[CheckedFile, ...]


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
        failed=failures_in({"failed": top.values("failed")} if top.has("failed") else {}, path),
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
        cause=row.text("cause") if row.has("cause") else "",
        next_step=row.text("next_step") if row.has("next_step") else "",
    )


def _interval(fields: Fields) -> Interval:
    return Interval(mean=fields.number("mean"), low=fields.number("low"), high=fields.number("high"))


def _histogram(fields: Fields) -> Histogram:
    edges, counts = fields.values("edges_deg"), fields.values("counts")
    numbers = [v for v in (*edges, *counts) if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != len(edges) + len(counts) or len(edges) != len(counts) + 1:
        raise RunError(f"{fields.where}: numbers expected, one more in edges_deg than in counts")
    return Histogram(edges_deg=tuple(map(float, edges)), counts=tuple(map(int, counts)))
