"""The closed loop: drivers steer a simulated car through worlds that nobody trained on.

Offline error does not rank drivers, since it never shows what a driver does after its own mistakes; this does. It is
synthetic all the same, and proves nothing about a real road.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Ratio, bootstrap_mean
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.latency import latency_of
from sepilot_train.closed_loop.statistics import poisson_interval, wilson_interval
from sepilot_train.simulator.protocol import EVALUATION_SEED, USUAL_THROTTLE, Simulator

__all__ = [
    "ClosedLoopResult",
    "Command",
    "CommandDelay",
    "Driver",
    "DriverKind",
    "evaluation_seeds",
    "run_closed_loop",
]


class DriverKind(StrEnum):
    """`file` runs on a car, `model` is the training model, `control` a bound that tells what the worlds ask for."""

    FILE = "file"
    MODEL = "model"
    CONTROL = "control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Steering in [-1, 1], + = right; throttle in [0, 1], None where a driver leaves the car at its usual speed."""

    steering: float
    throttle: float | None = None


class Driver(Protocol):
    """Whatever drives."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> DriverKind: ...

    def command(self, frame: NDArray[np.uint8]) -> Command:
        """What to do at a frame (h, w, 3) uint8 BGR."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoopResult:
    """One driver with one delay over all worlds.

    Attributes:
        survived: worlds driven from the first step to the last without leaving the road once.
        survived_low, survived_high: 95 % confidence interval (Wilson) of the share of worlds survived.
        mean_cte_m: mean |cross-track error| on the road, of each world, averaged over worlds.
        mean_cte_low_m, mean_cte_high_m: its 95 % confidence interval, by drawing worlds anew.
        max_cte_m: the largest |cross-track error| on the road. Half the road's width where it was left.
        laps: of all worlds together.
        interventions: how often the car had left the road and was put back on its centre line.
        interventions_per_km: per kilometre of `distance_m`.
        interventions_per_km_low, interventions_per_km_high: its 95 % confidence interval (Poisson).
        distance_m: driven in all worlds, interventions or not: speed x time.
        mean_speed_mps: the usual speed, or that of the driver's own throttle.
        delay_ms: added to every command.
        latency_us_p50: of the driver's own `command()`, on this machine.
        reaction_m: distance driven between a frame and its command: in `latency_us_p50` and `delay_ms`.
        world_cte_m: mean |cross-track error| of each world, in the order of the seeds.
        path: of a file.
        vs_model: `mean_cte_m` relative to the training model's; None for controls and where that did not drive.
    """

    driver: str
    kind: DriverKind
    worlds: int
    survived: int
    survived_low: float
    survived_high: float
    mean_cte_m: float
    mean_cte_low_m: float
    mean_cte_high_m: float
    max_cte_m: float
    laps: float
    interventions: int
    interventions_per_km: float
    interventions_per_km_low: float
    interventions_per_km_high: float
    distance_m: float
    mean_speed_mps: float
    delay_ms: float
    latency_us_p50: float
    reaction_m: float
    world_cte_m: tuple[float, ...]
    path: str | None = None
    vs_model: Ratio | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.survived <= self.worlds or self.worlds == 0:
            raise RunError(f"survived: 0 to {self.worlds} of at least 1 world expected, found {self.survived}")


class CommandDelay:
    """Commands that take effect later.

    The simulator holds one value for a whole step. A command that arrives within a step is mixed with the one that
    it replaces, each by its share of the step: what the car would be asked for on average. That is linear
    interpolation between the two. Before the first command arrives the wheels stand straight.
    """

    def __init__(self, delay_ms: float, rate_hz: float, *, rest: float = 0.0) -> None:
        """`rest` is what holds before the first command arrives."""
        steps = delay_ms / 1000.0 * rate_hz
        self._whole = int(steps)
        self._share = steps - self._whole
        self._rest = rest
        self._waiting: deque[float] = deque(maxlen=self._whole + 2)
        self.clear()

    def clear(self) -> None:
        """Forget all commands on their way."""
        self._waiting.extend([self._rest] * (self._whole + 2))

    def send(self, value: float) -> float:
        """Take the command of this step; give what the car holds during it."""
        self._waiting.append(value)
        return (1.0 - self._share) * self._waiting[1] + self._share * self._waiting[0]


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What is counted for one driver and one delay, world after world."""

    cte_m: list[float] = field(default_factory=list)
    max_cte_m: float = 0.0
    laps: float = 0.0
    interventions: list[int] = field(default_factory=list)
    latencies_us: list[float] = field(default_factory=list)
    speeds_mps: list[float] = field(default_factory=list)


def evaluation_seeds(worlds: int, offset: int = 0) -> range:
    """Seeds of worlds in which nothing is ever recorded."""
    return range(EVALUATION_SEED + offset, EVALUATION_SEED + offset + worlds)


def run_closed_loop(
    simulator: Simulator,
    drivers: Sequence[Driver],
    seeds: Sequence[int],
    steps: int,
    delays_ms: Sequence[float] = (0.0,),
    *,
    max_throttle: float = 1.0,
    on_world: Callable[[], None] = lambda: None,
) -> list[ClosedLoopResult]:
    """Let every driver drive `steps` steps in every world, from the same start, at every delay of its commands.

    Worlds are the outer loop: making one takes longer than going back to its start.

    Args:
        delays_ms: >= 0 each.
        max_throttle: a driver's throttle is cut off there.
        on_world: called after each drive, `len(seeds) * len(drivers) * len(delays_ms)` times.

    Returns:
        One for each delay and driver, ordered by delay, then by driver.
    """
    tallies = [[_Tally() for _ in drivers] for _ in delays_ms]
    for seed in seeds:
        for delay_ms, row in zip(delays_ms, tallies, strict=True):
            for driver, tally in zip(drivers, row, strict=True):
                _drive(simulator, driver, seed, steps, delay_ms, max_throttle, tally)
                on_world()
    seconds = len(seeds) * steps / simulator.rate_hz
    return [
        _result(driver, tally, delay_ms, seconds, simulator.speed_mps)
        for delay_ms, row in zip(delays_ms, tallies, strict=True)
        for driver, tally in zip(drivers, row, strict=True)
    ]


def _drive(
    simulator: Simulator, driver: Driver, seed: int, steps: int, delay_ms: float, max_throttle: float, tally: _Tally
) -> None:
    """One world. Errors are counted where the driver saw the road: at the start of each step."""
    commands = CommandDelay(delay_ms, simulator.rate_hz)
    throttles = CommandDelay(delay_ms, simulator.rate_hz, rest=min(USUAL_THROTTLE, max_throttle))
    frame, state = simulator.reset(seed)
    errors, interventions = [], 0
    for _ in range(steps):
        errors.append(abs(state.cte_m))
        start = time.perf_counter_ns()
        command = driver.command(frame)
        tally.latencies_us.append((time.perf_counter_ns() - start) / 1000.0)
        throttle = None
        if command.throttle is not None:
            tally.speeds_mps.append(state.speed_mps)
            throttle = throttles.send(min(command.throttle, max_throttle))
        frame, state = simulator.step(commands.send(command.steering), throttle)
        if state.off_road:
            interventions += 1
            frame, state = simulator.recentre()
            commands.clear()
            throttles.clear()
    tally.cte_m.append(float(np.mean(errors)))
    tally.max_cte_m = max(tally.max_cte_m, *errors)
    tally.laps += state.laps
    tally.interventions.append(interventions)


def _result(driver: Driver, tally: _Tally, delay_ms: float, seconds: float, usual_mps: float) -> ClosedLoopResult:
    worlds = len(tally.cte_m)
    speed_mps = float(np.mean(tally.speeds_mps)) if tally.speeds_mps else usual_mps
    distance_m = seconds * speed_mps
    survived = tally.interventions.count(0)
    low, high = wilson_interval(survived, worlds)
    fewest, most = poisson_interval(sum(tally.interventions))
    kilometres = distance_m / 1000.0
    cte = bootstrap_mean(np.array(tally.cte_m))
    latency = latency_of(tally.latencies_us)
    latency_us = latency.p50_us if latency else 0.0
    return ClosedLoopResult(
        driver=driver.name,
        kind=driver.kind,
        worlds=worlds,
        survived=survived,
        survived_low=low,
        survived_high=high,
        mean_cte_m=cte.mean,
        mean_cte_low_m=cte.low,
        mean_cte_high_m=cte.high,
        max_cte_m=tally.max_cte_m,
        laps=tally.laps,
        interventions=sum(tally.interventions),
        interventions_per_km=sum(tally.interventions) / kilometres,
        interventions_per_km_low=fewest / kilometres,
        interventions_per_km_high=most / kilometres,
        distance_m=distance_m,
        mean_speed_mps=speed_mps,
        delay_ms=delay_ms,
        latency_us_p50=latency_us,
        reaction_m=speed_mps * (latency_us / 1e6 + delay_ms / 1e3),
        world_cte_m=tuple(tally.cte_m),
    )
