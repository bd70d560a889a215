"""What `sepilot bench` says: one JSON document, tables of 80 columns."""

from __future__ import annotations

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepilot_runtime.bench.cold_start import ColdStart
from sepilot_runtime.bench.latency_bench import Measurement
from sepilot_runtime.bench.record import Benchmark, BenchRow, conditions_of
from sepilot_runtime.bench.regression import RegressionTest
from sepilot_runtime.bench.roofline import floor_us
from sepilot_runtime.bench.soak import SoakTest
from sepilot_runtime.device.conditions import Conditions

__all__ = ["Report", "comparison_table", "document", "paced_table", "table"]

WIDTH, NAME_WIDTH = 80, 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a benchmark found.

    Attributes:
        results: files first, references last.
        macs: multiplications of each result's model; None where nobody knows.
        colds, paced: of the files, in the order of `results`; empty where that was not asked for.
        gemm_gmacs: rate of the machine, 1e9 multiplications with addition per second.
        missing: references that could not be measured, and why.
        names: of the paths in `results`, each unlike the others.
        sha256: of the files among them.
    """

    settings: Mapping[str, Any]
    before: Conditions
    after: Conditions
    results: Sequence[Measurement]
    macs: Sequence[int | None]
    colds: Sequence[ColdStart]
    paced: Sequence[SoakTest]
    gemm_gmacs: float | None
    missing: Sequence[str]
    names: Mapping[Path, str]
    sha256: Mapping[Path, str]

    def floor_us(self, index: int) -> float | None:
        """The least that a result's multiplications take on one thread of this machine in float32."""
        macs = self.macs[index]
        return floor_us(macs, self.gemm_gmacs) if macs and self.gemm_gmacs else None


def document(report: Report) -> Benchmark:
    """What a benchmark found, as it is written."""
    return Benchmark(
        conditions=conditions_of(report.before, report.after),
        settings=report.settings,
        gemm_gmacs=report.gemm_gmacs,
        rows=tuple(_row(report, index) for index in range(len(report.results))),
        missing=tuple(report.missing),
    )


def _row(report: Report, index: int) -> BenchRow:
    result = report.results[index]
    total, floor = result.total, report.floor_us(index)
    paced = report.paced[index] if index < len(report.paced) else None
    return BenchRow(
        file=report.names[result.path],
        path=str(result.path),
        sha256=report.sha256.get(result.path),
        engine=result.engine,
        precision=result.precision,
        threads=result.threads,
        reference=result.reference,
        contract=not result.bare,
        bytes=result.file_bytes,
        load_ms=result.load_ms,
        first_us=result.first_us,
        us_min=total.min_us,
        us_p50=total.p50_us,
        us_p90=total.p90_us,
        us_p99=total.p99_us,
        us_max=total.max_us,
        us_p50_by_round=result.total_by_round_us,
        count=total.count,
        preprocess=result.preprocess,
        infer=result.infer,
        ratio=result.ratio,
        macs=report.macs[index],
        floor_us=floor,
        infer_over_floor=result.infer.p50_us / floor if floor else None,
        cold_start=report.colds[index] if index < len(report.colds) else None,
        paced=dataclasses.replace(paced, resources=paced.resources[-1:]) if paced else None,
    )


def table(report: Report, *, by_engine: bool) -> str:
    """Times, then what each file costs apart from them."""
    lines = [f"{'file':{NAME_WIDTH}} thr  prep infer    min   p50   p90    p99    max  ratio"]
    labels = _labels(report.names[r.path] for r in report.results)
    engine = None
    for r in report.results:
        heading = r.engine if by_engine or r.reference else None
        if heading and heading != engine:
            lines.append(f"on {heading}{', to compare with' * r.reference}")
        engine = heading
        head = f"{labels[report.names[r.path]]:{NAME_WIDTH}} {r.threads:>3}"
        stages = f"{'-' if r.bare else _us(r.preprocess.p50_us):>5} {_us(r.infer.p50_us):>5}"
        t = r.total
        total = f"{_us(t.min_us):>5} {_us(t.p50_us):>5} {_us(t.p90_us):>5} {_us(t.p99_us):>6} {_us(t.max_us):>6}"
        lines.append(f"{head} {stages}  {total}  {r.ratio:>5.{0 if r.ratio >= 100 else 2}f}")
        if r.bare:
            lines.append("  no contract: answers not checked; bring it under one with `sepilot adopt FILE`")
    lines += ["", f"{'file':{NAME_WIDTH}} thr engine        precision          kB cold s   MB floor"]
    for index, r in enumerate(report.results):
        cold = report.colds[index] if index < len(report.colds) else None
        floor = report.floor_us(index)
        seconds = _or_dash(cold.seconds if cold else None, 6, 2)
        megabytes = _or_dash(cold.peak_rss_bytes / 1e6 if cold else None, 4, 0)
        over = f"{_us(r.infer.p50_us / floor) if floor else '-':>5}"
        lines.append(
            f"{labels[report.names[r.path]]:{NAME_WIDTH}} {r.threads:>3} {r.engine:<13} {r.precision:<15} "
            f"{r.file_bytes / 1000:>5.0f} {seconds} {megabytes} {over}"
        )
    if report.gemm_gmacs:
        lines += [
            "",
            "cold s, MB: a fresh process to its first angle, and the most memory it held",
            f"floor: infer over what the model's multiplications take at {report.gemm_gmacs:.1f} GMAC/s,",
            "the rate of a float32 matrix product on one thread of this machine just now",
        ]
    lines += _key(labels)
    return "\n".join([*lines, *(textwrap.fill(f"not measured: {line}", WIDTH) for line in report.missing)])


def paced_table(report: Report) -> str:
    """The live loop at a camera's rate."""
    lines = [f"{'file':{NAME_WIDTH}} thr frames   p50    p99     max  woken missed ours kB/min"]
    labels = _labels(report.names[r.path] for r in report.results)
    for result, paced in zip(report.results, report.paced, strict=False):
        wake = paced.wake.p99_us if paced.wake else 0.0
        lines.append(
            f"{labels[report.names[result.path]]:{NAME_WIDTH}} {result.threads:>3} "
            f"{paced.frames:>6} {_us(paced.turn.p50_us):>5} "
            f"{_us(paced.turn.p99_us):>6} {_us(paced.turn.max_us):>7} {_us(wake):>6} {paced.missed:>6} "
            f"{paced.missed_by_us:>4} {paced.rss_slope_kb_per_min:>6.1f}"
        )
    lines += [
        "",
        "woken: how long after its frame was due the system let us run, 99th percentile",
        "missed: turns that ended more than a period after their frame was due; ours:",
        "those that would have done so on a machine of their own",
    ]
    return "\n".join(lines)


def comparison_table(found: Sequence[RegressionTest]) -> str:
    """Medians in microseconds, their ratio with what the noise allows, and what follows from it."""
    lines = [f"{'file':{NAME_WIDTH}} thr      old      new  ratio  95 % interval  "]
    labels = _labels(row.file for row in found)
    engine = None
    for row in found:
        if row.engine != engine:
            engine = row.engine
            lines.append(f"on {engine}")
        lines.append(
            f"{labels[row.file]:{NAME_WIDTH}} {row.threads:>3} {_us(row.old_us):>8} {_us(row.new_us):>8} "
            f"{row.ratio:>6.2f}  {row.low:>5.2f} to {row.high:<5.2f} {row.outcome.value}"
        )
    return "\n".join([*lines, *_key(labels)])


def _or_dash(value: float | None, width: int, digits: int) -> str:
    return f"{value:>{width}.{digits}f}" if value is not None else f"{'-':>{width}}"


def _us(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}" if value < 99_999.5 else f"{value / 1000:.0f}k"


def _labels(names: Iterable[str]) -> dict[str, str]:
    """What stands in the column for each name: numbers where cutting leaves nothing to tell two apart by."""
    labels = {name: _short(name) for name in names}
    times = Counter(labels.values())
    same = [name for name, label in labels.items() if times[label] > 1]
    return labels | {name: f"file {number}" for number, name in enumerate(same, start=1)}


def _key(labels: Mapping[str, str]) -> list[str]:
    """The names behind the numbers, one a line."""
    lines = [f"{label}: {name}" for name, label in labels.items() if label != _short(name)]
    return ["", *lines] if lines else []


def _short(name: str) -> str:
    """A name that fits its column. The middle is cut: the end tells files of one model apart."""
    if len(name) <= NAME_WIDTH:
        return name
    head = NAME_WIDTH // 3
    return f"{name[:head]}…{name[head + 1 - NAME_WIDTH :]}"
