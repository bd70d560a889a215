"""What `sepilot closed-loop` shows: the JSON document, tables of 80 columns for the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape

from sepilot_runtime.base.bootstrap import Ratio, bootstrap_ratio
from sepilot_train.closed_loop.evaluation import ClosedLoopResult, DriverKind

if TYPE_CHECKING:
    from rich.console import Console

    from sepilot_train.simulator.protocol import Simulator

__all__ = ["ClosedLoop", "against_model", "print_tables", "record_of"]


def against_model(result: ClosedLoopResult, results: Sequence[ClosedLoopResult]) -> Ratio | None:
    """Mean cross-track error relative to the training model's at the same delay: 1 is as good, 1.1 is 10 % worse.

    None for a control, and where no training model drove.
    """
    if result.kind is DriverKind.CONTROL:
        return None
    for other in results:
        if other.kind is DriverKind.MODEL and other.delay_ms == result.delay_ms:
            return bootstrap_ratio(np.array(result.world_cte_m), np.array(other.world_cte_m))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """What `sepilot closed-loop --json` prints.

    Attributes:
        results: ordered by delay, then by driver.
    """

    simulator: str
    worlds: int
    first_seed: int
    steps: int
    rate_hz: float
    speed_mps: float
    full_scale_deg: float
    conditions: Mapping[str, str]
    results: tuple[ClosedLoopResult, ...]

    @property
    def delays_ms(self) -> tuple[float, ...]:
        return tuple(sorted({row.delay_ms for row in self.results}))

    @property
    def drivers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.driver for row in self.results))

    def at(self, delay_ms: float) -> tuple[ClosedLoopResult, ...]:
        return tuple(row for row in self.results if row.delay_ms == delay_ms)


def record_of(
    simulator: Simulator,
    seeds: Sequence[int],
    steps: int,
    results: Sequence[ClosedLoopResult],
    conditions: Mapping[str, str],
    paths: Mapping[str, str],
) -> ClosedLoop:
    """The document.

    Args:
        paths: of the files, by the name of their driver.
    """
    return ClosedLoop(
        simulator=simulator.name,
        worlds=len(seeds),
        first_seed=seeds[0],
        steps=steps,
        rate_hz=simulator.rate_hz,
        speed_mps=simulator.speed_mps,
        full_scale_deg=simulator.full_scale_deg,
        conditions=conditions,
        results=tuple(
            dataclasses.replace(result, path=paths.get(result.driver), vs_model=against_model(result, results))
            for result in results
        ),
    )


def print_tables(record: ClosedLoop) -> None:
    """A table for each delay and, where there are several, one of worlds survived over delay."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(
        f"{record.simulator}: {record.worlds} unseen worlds "
        f"(seeds {record.first_seed}-{record.first_seed + record.worlds - 1}) of {record.steps} steps "
        f"= {record.steps / record.rate_hz:g} s at {record.speed_mps:g} m/s.\n"
        "worlds: driven without leaving the road, and the share of worlds that this speaks for; CTE: distance from the "
        "centre line, mean over worlds and maximum; /km: put back on the road. Intervals are 95 %."
    )
    for delay_ms in record.delays_ms:
        _print_delay(record, delay_ms, console)
    if len(record.delays_ms) > 1:
        console.print("\nWorlds survived, by delay and the distance driven in it", style="bold")
        grid = _grid([f"{ms:g} ms\n{ms / 1000 * record.speed_mps:.2f} m" for ms in record.delays_ms])
        for name in record.drivers:
            rows = [row for row in record.results if row.driver == name]
            grid.add_row(escape(name), *(f"{row.survived}/{row.worlds}" for row in rows))
        console.print(grid)


def _print_delay(record: ClosedLoop, delay_ms: float, console: Console) -> None:
    rows = record.at(delay_ms)
    title = f"\nDelay {delay_ms:g} ms = {delay_ms / 1000 * record.speed_mps:.2f} m" if delay_ms else "\nNo added delay"
    console.print(title, style="bold")
    several = len({row.mean_speed_mps for row in record.results}) > 1
    grid = _grid(("worlds", "95 %", "CTE cm", "max", "laps", *(["m/s"] if several else []), "/km", "vs Keras", "µs"))
    for row in rows:
        half = (row.mean_cte_high_m - row.mean_cte_low_m) / 2
        grid.add_row(
            escape(row.driver),
            f"{row.survived}/{row.worlds}",
            f"{row.survived_low * 100:.0f}-{row.survived_high * 100:.0f}",
            f"{row.mean_cte_m * 100:.1f}±{half * 100:.1f}",
            f"{row.max_cte_m * 100:.0f}",
            f"{row.laps:.1f}",
            *([f"{row.mean_speed_mps:.2f}"] if several else []),
            f"{row.interventions_per_km:.1f}",
            _change(row.vs_model) if row.vs_model and row.kind is DriverKind.FILE else "",
            f"{row.latency_us_p50:.0f}" if row.kind is not DriverKind.CONTROL else "",
        )
    console.print(grid)
    if files := sorted((r for r in rows if r.kind is DriverKind.FILE), key=lambda r: r.latency_us_p50):
        fastest, slowest = files[0], files[-1]
        console.print(
            f"Road driven from frame to command: {slowest.reaction_m * 1000:.2f} mm with the slowest file "
            f"({escape(slowest.driver)}), {fastest.reaction_m * 1000:.2f} mm with the fastest."
        )


def _grid(columns: Sequence[str]) -> Any:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    grid.add_column("driver", overflow="fold")
    for name in columns:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def _change(ratio: Ratio) -> str:
    return f"{(ratio.value - 1) * 100:+.0f}±{(ratio.high - ratio.low) / 2 * 100:.0f}%"
