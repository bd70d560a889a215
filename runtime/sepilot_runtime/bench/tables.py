"""What `sepilot bench` says: tables of 80 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sepilot_runtime.bench.record import Benchmark, BenchRow
from sepilot_runtime.bench.regression import RegressionTest

__all__ = ["comparison_table", "paced_table", "table"]

WIDTH, NAME_WIDTH = 80, 22

LEAST_POST = 0.05
"""Of the whole path: from which share on decoding has a column of its own."""


def table(bench: Benchmark, *, by_engine: bool) -> str:
    """Times, then what each file costs apart from them."""
    post = any(row.post and row.post.p50_us > LEAST_POST * row.us_p50 for row in bench.rows)
    name_width = NAME_WIDTH - 6 * post
    heads = f"{'file':{name_width}} thr  prep infer {' post ' * post}   min   p50   p90    p99    max  ratio"
    lines, labels, engine = [heads], _labels((row.file for row in bench.rows), name_width), None
    for row in bench.rows:
        heading = row.engine if by_engine or row.reference else None
        if heading and heading != engine:
            lines.append(f"on {heading}{', to compare with' * row.reference}")
        engine = heading
        stages = f"{_us(row.preprocess.p50_us) if row.contract else '-':>5} {_us(row.infer.p50_us):>5}"
        if post:
            stages += f" {_us(row.post.p50_us) if row.post and row.contract else '-':>5}"
        whole = f"{_us(row.us_min):>5} {_us(row.us_p50):>5} {_us(row.us_p90):>5}"
        tail = f"{_us(row.us_p99):>6} {_us(row.us_max):>6}  {row.ratio:>5.{0 if row.ratio >= 100 else 2}f}"
        lines.append(f"{_head(row, labels, name_width)} {stages}  {whole} {tail}")
        if not row.contract:
            lines.append("  no contract: answers not checked; bring it under one with `sepilot adopt FILE`")
    lines += _key(labels, name_width) if post else []
    labels = _labels(row.file for row in bench.rows)
    lines += ["", f"{'file':{NAME_WIDTH}} thr engine        precision          kB cold s   MB floor"]
    for row in bench.rows:
        cold, over = row.cold_start, row.infer_over_floor
        start = f"{cold.seconds:>6.2f} {cold.peak_rss_bytes / 1e6:>4.0f}" if cold else f"{'-':>6} {'-':>4}"
        costs = f"{row.bytes / 1000:>5.0f} {start} {_us(over) if over else '-':>5}"
        lines.append(f"{_head(row, labels)} {row.engine:<13} {row.precision:<15} {costs}")
    if bench.gemm_gmacs:
        lines += [
            "",
            "cold s, MB: a fresh process to its first answer, and the most memory it held",
            f"floor: infer over what the model's multiplications take at {bench.gemm_gmacs:.1f} GMAC/s,",
            "the rate of a float32 matrix product on one thread of this machine just now",
        ]
    lines += _key(labels)
    return "\n".join([*lines, *(textwrap.fill(f"not measured: {line}", WIDTH) for line in bench.missing)])


def paced_table(bench: Benchmark) -> str:
    """The live loop at a camera's rate."""
    lines = [f"{'file':{NAME_WIDTH}} thr frames   p50    p99     max  woken missed ours kB/min"]
    labels = _labels(row.file for row in bench.rows)
    for row in bench.rows:
        if paced := row.paced:
            turn, wake = paced.turn, paced.wake.p99_us if paced.wake else 0.0
            lines.append(
                f"{_head(row, labels)} {paced.frames:>6} {_us(turn.p50_us):>5} {_us(turn.p99_us):>6} "
                f"{_us(turn.max_us):>7} {_us(wake):>6} {paced.missed:>6} {paced.missed_by_us:>4} "
                f"{paced.rss_slope_kb_per_min:>6.1f}"
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
            f"{_head(row, labels)} {_us(row.old_us):>8} {_us(row.new_us):>8} "
            f"{row.ratio:>6.2f}  {row.low:>5.2f} to {row.high:<5.2f} {row.outcome.value}"
        )
    return "\n".join([*lines, *_key(labels)])


def _head(row: BenchRow | RegressionTest, labels: Mapping[str, str], width: int = NAME_WIDTH) -> str:
    return f"{labels[row.file]:{width}} {row.threads:>3}"


def _us(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}" if value < 99_999.5 else f"{value / 1000:.0f}k"


def _labels(names: Iterable[str], width: int = NAME_WIDTH) -> dict[str, str]:
    """What stands in the column for each name: numbers where cutting leaves nothing to tell two apart by."""
    labels = {name: _short(name, width) for name in names}
    times = Counter(labels.values())
    same = [name for name, label in labels.items() if times[label] > 1]
    return labels | {name: f"file {number}" for number, name in enumerate(same, start=1)}


def _key(labels: Mapping[str, str], width: int = NAME_WIDTH) -> list[str]:
    """The names behind the numbers, one a line."""
    lines = [f"{label}: {name}" for name, label in labels.items() if label != _short(name, width)]
    return ["", *lines] if lines else []


def _short(name: str, width: int = NAME_WIDTH) -> str:
    """A name that fits its column. The middle is cut: the end tells files of one model apart."""
    if len(name) <= width:
        return name
    head = width // 3
    return f"{name[:head]}…{name[head + 1 - width :]}"
