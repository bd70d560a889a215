"""What `sepilot bench --json` and `sepilot closed-loop --json` printed, read strictly.

Keys that the page does not show are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sepilot_export.record.fields import Fields, Interval, read_object
from sepilot_runtime.base.errors import RunError

__all__ = ["STAGES", "Bench", "BenchRow", "ClosedLoop", "LoopRow", "read_bench", "read_closed_loop"]

STAGES = ("preprocess", "infer")
"""Of the path from frame to angle, in the order of the work, as `sepilot bench` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One measured file. `stages` maps a stage of the path to its median, in the order of the work.

    Attributes:
        sha256: of the file; None in what an older sepilot printed, and for what is no model file.
    """

    file: str
    sha256: str | None
    engine: str
    threads: int
    us_p50: float
    us_p99: float
    stages: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What was measured and under which conditions.

    Attributes:
        load: mean number of running processes around the measurement, None where the system does not say.
    """

    conditions: Mapping[str, str]
    cores: int
    load: float | None
    rows: tuple[BenchRow, ...]

    @property
    def disturbed(self) -> bool:
        """Whether the machine had more to do than the benchmark, which keeps one core busy."""
        return self.load is not None and self.load > self.cores

    def median_us(self, file: str) -> float | None:
        """The lowest whole-path median that was measured for a file, None where it was not."""
        return min((row.us_p50 for row in self.rows if row.file == file), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRow:
    """One driver at one delay.

    Attributes:
        kind: "file", "model" (the training model) or "control" (the expert, a wheel held straight).
        share: of the worlds survived, with its 95 % confidence interval.
        cte_m: mean distance from the road's centre line in metres, with its interval.
        vs_model: `cte_m` relative to the training model's; None for controls and where that did not drive.
        reaction_m: distance driven between a frame and its command.
    """

    driver: str
    kind: str
    worlds: int
    survived: int
    share: Interval
    cte_m: Interval
    max_cte_m: float
    laps: float
    interventions_per_km: float
    delay_ms: float
    reaction_m: float
    vs_model: Interval | None


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


def read_bench(path: Path) -> Bench:
    """What `sepilot bench --json` printed."""
    top = read_object(path)
    conditions = top.inner("conditions")
    return Bench(
        conditions=top.words("settings") | top.words("conditions"),
        cores=conditions.whole("cores"),
        load=conditions.optional("load"),
        rows=tuple(
            BenchRow(
                file=row.text("file"),
                sha256=row.text("sha256") if row.has("sha256") else None,
                engine=row.text("engine"),
                threads=row.whole("threads"),
                us_p50=row.number("us_p50"),
                us_p99=row.number("us_p99"),
                stages={name: row.inner(name).number("p50_us") for name in STAGES},
            )
            for row in top.objects("rows")
        ),
    )


def read_closed_loop(path: Path) -> ClosedLoop:
    """What `sepilot closed-loop --json` printed."""
    top = read_object(path)
    settings = ("simulator", "worlds", "first_seed", "steps", "rate_hz", "speed_mps")
    return ClosedLoop(
        conditions={key: top.word(key) for key in settings} | top.words("conditions"),
        rows=tuple(_loop_row(row) for row in top.objects("results")),
    )


def _loop_row(row: Fields) -> LoopRow:
    worlds, survived = row.whole("worlds"), row.whole("survived")
    if not 0 <= survived <= worlds or worlds == 0:
        raise RunError(f"{row.where}: survived: 0 to {worlds} of at least 1 world expected, found {survived}")
    vs_model = row.inner("vs_model") if row.has("vs_model") else None
    return LoopRow(
        driver=row.text("driver"),
        kind=row.text("kind"),
        worlds=worlds,
        survived=survived,
        share=Interval(mean=survived / worlds, low=row.number("survived_low"), high=row.number("survived_high")),
        cte_m=Interval(
            mean=row.number("mean_cte_m"), low=row.number("mean_cte_low_m"), high=row.number("mean_cte_high_m")
        ),
        max_cte_m=row.number("max_cte_m"),
        laps=row.number("laps"),
        interventions_per_km=row.number("interventions_per_km"),
        delay_ms=row.number("delay_ms"),
        reaction_m=row.number("reaction_m"),
        vs_model=Interval(mean=vs_model.number("value"), low=vs_model.number("low"), high=vs_model.number("high"))
        if vs_model
        else None,
    )
