"""What `sepilot bench --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sepilot_runtime.base.latency import Latency
from sepilot_runtime.bench.soak import SoakTest
from sepilot_runtime.device.conditions import Conditions

__all__ = ["BenchConditions", "BenchRow", "Benchmark", "ColdStart", "conditions_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConditions(Conditions):
    """The machine before the measurement, and what of it changes, afterwards."""

    load_after: float | None = None
    temperature_after_c: float | None = None
    clock_after_mhz: float | None = None
    throttled_after: str | None = None


def conditions_of(before: Conditions, after: Conditions) -> BenchConditions:
    """The machine around a measurement."""
    return BenchConditions(
        **{field.name: getattr(before, field.name) for field in fields(Conditions)},
        load_after=after.load,
        temperature_after_c=after.temperature_c,
        clock_after_mhz=after.clock_mhz,
        throttled_after=after.throttled,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """Medians over several starts.

    Attributes:
        seconds: from starting the process to its first line; `best_s`, the shortest.
        peak_rss_bytes: the most memory that it held until it ended.
    """

    starts: int
    seconds: float
    best_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """A file on an engine, or a reference, with a number of threads.

    Attributes:
        file: its name, unlike that of the other rows' files.
        sha256: of the file; None in what an older sepilot printed, and for what is no model file.
        reference: it stands there to compare with, and is nothing to drive with.
        contract: False for anybody's file, of which nobody knows what it sees and says: its times are from random
            inputs to outputs, and the answers were not checked.
        load_ms: reading and opening the file, without its golden frames; the first row of an interpreter also pays for
            its import. Nothing for a reference.
        first_us: the first frame to prediction after that.
        us_min, us_p50, us_p90, us_p99, us_max, count: of the whole path, frame to prediction.
        us_p50_by_round: the median of each visit; how much they differ is how steady the machine was. Empty in what an
            older sepilot printed.
        preprocess: frame to picture.
        infer: picture to the model's numbers: writing the input, running the model, dequantizing.
        post: from these to answers: decoding. None in what an older sepilot printed, which counted it to `infer`.
        ratio: median over that of the first row.
        paced: the live loop at a camera's rate; of its `resources` the last one, as all of them are in the slope.
        macs: multiplications of the model; None where nobody knows.
        floor_us: the least that the multiplications take on one thread of this machine in float32.
    """

    file: str
    path: str
    sha256: str | None = None
    engine: str
    precision: str
    threads: int
    reference: bool
    contract: bool = True
    bytes: int
    load_ms: float
    first_us: float
    us_min: float
    us_p50: float
    us_p90: float
    us_p99: float
    us_max: float
    us_p50_by_round: tuple[float, ...] = ()
    count: int
    preprocess: Latency
    infer: Latency
    post: Latency | None = None
    ratio: float
    macs: int | None = None
    floor_us: float | None = None
    infer_over_floor: float | None = None
    cold_start: ColdStart | None = None
    paced: SoakTest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What `sepilot bench --json` prints: one row per file, engine and thread count.

    Attributes:
        gemm_gmacs: rate of the machine, 1e9 multiplications with addition per second.
        missing: references that could not be measured, and why.
    """

    conditions: BenchConditions
    settings: Mapping[str, Any]
    gemm_gmacs: float | None = None
    rows: tuple[BenchRow, ...]
    missing: tuple[str, ...] = ()

    @property
    def disturbed(self) -> bool:
        """Whether the machine had more to do than the benchmark, which keeps one core busy."""
        return self.conditions.load is not None and self.conditions.load > self.conditions.cores

    def median_us(self, file: str) -> float | None:
        """The lowest whole-path median that was measured for a file, None where it was not."""
        return min((row.us_p50 for row in self.rows if row.file == file), default=None)
