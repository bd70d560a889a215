"""Drives in processes of their own that are killed, stopped or told to end while their bus fails.

The drive and its watchdog are the real ones; the chip is tests/fake_smbus2, which fails by script and notes every
transfer with its time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepilot_runtime.output.watchdog import TIMEOUT_MS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from bus_drive import NEUTRAL, BusDrive, bus_drive

__all__ = ["Ending", "endings"]

BLOWS = ("killed", "stopped", "told to end")
BUSES = ("answers", "fails once", "fails four times", "fails until it heals", "is unplugged and comes back")

ANSWER_MS = 60.0
"""From the bus's answer to neutral; what the processes' own start takes on a busy machine comes on top."""

STAYS_S = 0.1

SILENCE_MS = TIMEOUT_MS + 60.0
"""From the blow to neutral, where the bus answers: by then the watchdog has heard nothing for its time-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What came of one drive.

    Attributes:
        blow, bus: what happened to it.
        blow_ms, answer_ms: to neutral that stayed, from the blow and from the moment at which the bus answered.
        late: the car was in neutral later than it may.
    """

    blow: str
    bus: str
    blow_ms: float
    answer_ms: float

    @property
    def late(self) -> bool:
        return self.answer_ms > ANSWER_MS and self.blow_ms > SILENCE_MS


def endings(model: Path, drive: Path, count: int, seed: int) -> Iterator[Ending]:
    """So many drives, one after the other."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        blow, bus = str(rng.choice(BLOWS)), str(rng.choice(BUSES))
        with tempfile.TemporaryDirectory() as folder, bus_drive(model, drive, Path(folder)) as car:
            yield _one(car, blow, bus, rng)


def _one(car: BusDrive, blow: str, bus: str, rng: np.random.Generator) -> Ending:
    car.until_driving()
    time.sleep(rng.uniform(0, 0.3))
    car.until_driving()
    first = bool(rng.integers(2))
    if first:
        _fail(car, bus)
        time.sleep(rng.uniform(0, 0.1))
    blow_ns = time.monotonic_ns()
    _strike(car, blow)
    if not first:
        time.sleep(rng.uniform(0, 0.1))
        _fail(car, bus)
    if bus in BUSES[3:]:
        time.sleep(rng.uniform(0.05, 1.0))
        car.chip.heal()
    # It stays: what was under way when the blow fell may come after the first neutral.
    car.until(lambda: car.pulses == NEUTRAL and time.sleep(STAYS_S) is None and car.pulses == NEUTRAL, "neutral")
    history = car.history()
    last = max(i for i, (_, held) in enumerate(history) if held != NEUTRAL)
    neutral_ns = history[last + 1][0].at_ns
    failures = [record.at_ns for record in car.chip.log() if record.what in ("failed", "heal")]
    answers = [at_ns for at_ns in failures if at_ns < neutral_ns]
    answer_ns = max([blow_ns, *answers])
    return Ending(
        blow=blow, bus=bus, blow_ms=max(0.0, (neutral_ns - blow_ns) / 1e6),
        answer_ms=max(0.0, (neutral_ns - answer_ns) / 1e6),
    )  # fmt: skip


def _fail(car: BusDrive, bus: str) -> None:
    if bus == BUSES[1]:
        car.chip.fail(1)
    elif bus == BUSES[2]:
        car.chip.fail(4)
    elif bus in BUSES[3:]:
        car.chip.fail(gone=bus == BUSES[4])


def _strike(car: BusDrive, blow: str) -> None:
    if blow == BLOWS[0]:
        car.process.kill()
    elif blow == BLOWS[1]:
        car.stop()
    else:
        car.process.terminate()
