"""`sepilot closed-loop`: model files drive simulated worlds that nobody trained on."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.commands.arguments import flag, request_from, seed, switch

if TYPE_CHECKING:
    from sepilot_train.closed_loop.evaluation import ClosedLoopResult, Driver
    from sepilot_train.simulator.protocol import Simulator

__all__ = ["main"]

DESCRIPTION = """\
Let model files, the training model, the simulator's expert and a locked wheel
drive through simulated worlds that nobody trained on. Simulated driving proves
nothing about a real road.
"""

EPILOG = """examples:
  sepilot closed-loop runs/week-export/*.tflite --run runs/week
  sepilot closed-loop runs/week-export --delay-ms 0,50,100,150,200
  sepilot closed-loop swift-int8.tflite --worlds 100 --min-survived 95 --json
  sepilot closed-loop                              the controls alone: are the worlds fair?

The worlds are simulated. A model that fails here has a fault; one that drives
well here has proven nothing about a real road. CTE is the cross-track error, the
car's distance from the road's centre line.

A model with a throttle drives at its own speed, 0.3 being the usual one, up to
--max-throttle; the expert then slows for bends, too.

A car that leaves the road is put back and goes on; its world does not count as
survived. --delay-ms comes on top of the model's own time, which does not pass in
the simulator and is told in metres instead.

Exit code: 0 measured, 1 a file survives fewer worlds than --min-survived,
2 something cannot be opened.
"""


def _delays(text: str) -> list[float]:
    try:
        delays = sorted({float(word) for word in text.split(",")})
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"numbers with commas between them expected, found {text!r}") from e
    if not all(0 <= delay <= 10_000 for delay in delays):
        raise argparse.ArgumentTypeError(f"milliseconds from 0 to 10000 expected, found {text!r}")
    return delays


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoopRequest:
    files: tuple[Path, ...] = flag(
        "model files, or directories of them", "FILE", positional=True, nargs="*", default=()
    )
    run: Path | None = flag("drive the training model of this run as well, to compare with", "DIR")
    simulator: str = flag("builtin (default), carracing, panda3d", "NAME", default="builtin")
    worlds: int = flag("how many worlds (default: 24)", "N", type=int, default=24)
    steps: int = flag("steps in each world (default: 600)", "N", type=int, default=600)
    delay_ms: tuple[float, ...] = flag("delays of the steering (default: 0)", "MS,…", type=_delays, default=(0.0,))
    max_throttle: float = flag("cut a model's own throttle off here (default: 1)", "X", default=1.0)
    seed: int = flag("start at another world (default: 0)", "OFFSET", type=seed, default=0)
    min_survived: int | None = flag("exit 1 if a file survives fewer at the least delay", "N", type=int)
    json: bool = switch("print the figures as JSON instead of tables")


def main(argv: Sequence[str]) -> int:
    request = request_from(argv, ClosedLoopRequest, "closed-loop", DESCRIPTION, EPILOG)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from sepilot_runtime.engine.model_file import model_files
    from sepilot_train.base.progress import progress_bar
    from sepilot_train.closed_loop.evaluation import evaluation_seeds, run_closed_loop
    from sepilot_train.closed_loop.tables import print_tables, record_of
    from sepilot_train.simulator import open_simulator

    _require_sense(request)
    files = model_files(request.files)
    simulator = open_simulator(request.simulator)
    drivers = _open_drivers(files, request.run, simulator)
    places = {driver.name: str(path) for driver, path in zip(drivers, files, strict=False)}
    seeds = evaluation_seeds(request.worlds, request.seed)
    with progress_bar("driving", len(seeds) * len(drivers) * len(request.delay_ms)) as advance:
        results = run_closed_loop(
            simulator, drivers, seeds, request.steps, request.delay_ms,
            max_throttle=request.max_throttle, on_world=advance,
        )  # fmt: skip
    record = record_of(simulator, seeds, request.steps, results, _conditions(), places)
    if request.json:
        print(json.dumps(dataclasses.asdict(record), indent=2))
    else:
        print_tables(record)
    return 0 if _enough_survived(results, request.min_survived) else 1


def _require_sense(request: ClosedLoopRequest) -> None:
    for name in ("worlds", "steps"):
        if (value := getattr(request, name)) < 1:
            raise UsageError(f"--{name}: 1 or more expected, found {value}")
    if not 0 < request.max_throttle <= 1:
        raise UsageError(f"--max-throttle: above 0 and at most 1 expected, found {request.max_throttle:g}")
    wanted = request.min_survived
    if wanted is not None and not 0 <= wanted <= request.worlds:
        raise UsageError(f"--min-survived: 0 to --worlds {request.worlds} expected, found {wanted}")
    if wanted is not None and not request.files:
        raise UsageError("--min-survived: a FILE to judge expected, found none")


def _open_drivers(files: Sequence[Path], run: Path | None, simulator: Simulator) -> list[Driver]:
    """Everything is opened before anything drives, so that a bad file costs seconds and not the whole measurement."""
    from sepilot_train.closed_loop.drivers import (
        ConstantDriver,
        ExpertDriver,
        PilotDriver,
        open_file_drivers,
        open_model_driver,
    )

    drivers: list[PilotDriver] = [*open_file_drivers(files)]
    if run is not None:
        from sepilot_train.run.run import open_run

        drivers.append(open_model_driver(open_run(run)))
    throttle = any(driver.throttle for driver in drivers)
    return [*drivers, ExpertDriver(simulator, slow_for_bends=throttle), ConstantDriver(0.0)]


def _conditions() -> dict[str, str]:
    """Latency is that of this machine, and worlds look slightly different in another OpenCV."""
    import platform

    from sepilot_runtime.base.opencv import cv2
    from sepilot_runtime.device.conditions import versions

    found = {"machine": platform.machine(), "python": platform.python_version(), "opencv": cv2.__version__}
    return found | versions(("ai-edge-litert", "onnxruntime", "numpy"))


def _enough_survived(results: Sequence[ClosedLoopResult], wanted: int | None) -> bool:
    """Judged at the smallest delay: what more delay costs is what the others are there to show."""
    from sepilot_train.closed_loop.evaluation import DriverKind

    if wanted is None:
        return True
    least = min(r.delay_ms for r in results)
    short = [r for r in results if r.kind is DriverKind.FILE and r.delay_ms == least and r.survived < wanted]
    for result in short:
        print(f"FAIL {result.driver}: {wanted} worlds survived expected, found {result.survived}", file=sys.stderr)
    return not short
