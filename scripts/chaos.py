"""Mixes faults at random into replayed drives, and looks whether one of them moved the car.

The drive is the real one, with its supervisor, the model file and the servo's output; camera, chip and clock are made
(chaos_world.py), so that hours of driving take minutes and the same seed gives the same drive. A round drives until all
is well, lets one or two faults begin (chaos_faults.py), and ends them again. The car was moved where the chip held
anything but neutral later than the fault allows: two frame periods for most. Where a bus does not answer the chip holds
what it has, and 60 ms after it answers is allowed. A drive that does not come back after a fault counts as well.

    scripts/chaos swift-int8.tflite drives/held-out --faults 10000 --processes 40

What no clock of ours can hold (a drive that is killed or stopped, with a watchdog beside it) is tried in so many real
processes after that (chaos_processes.py). Exit code 1 where a fault moved the car or the drive did not come back.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from chaos_faults import KINDS, START_PERIODS, Kind, Stage, TroubledEngine
from chaos_processes import ANSWER_MS, SILENCE_MS, Ending, endings
from chaos_world import PERIOD_NS, Chip, Clock, Image, ReplayedCamera

from sepilot_runtime.drive.actuation import Actuation
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.drive.loop import drive_live
from sepilot_runtime.drive.novelty import novelty_of
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.output.pca9685 import ServoSettings, ServoSink
from sepilot_runtime.drive.step import Step
from sepilot_runtime.source.opening import open_source
from sepilot_runtime.drive.supervisor import Control, Limits
from sepilot_runtime.drive.state import State

ACTUATION = Actuation(throttle=0.4, trim=0.1)
"""With a trim: neutral is not the middle of the servo."""

LIMITS = Limits(max_failures=1000)
"""A drive ends after 50 frames on which the model failed; here the next fault is to come."""

AFTER_BUS_NS = 60_000_000
SLACK_NS = 10_000_000
"""For the turn of the loop in which the time is up."""

CALM_PERIODS = 12
"""Of driving before a fault."""

PATIENCE_PERIODS = 100
"""After a fault, for the drive to come back; then another stretch of the recording is tried, so many times:"""
STRETCHES = 5
TWO_AT_ONCE = 0.3
NO_PULSES = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault that moved the car, or that the drive did not come back from."""

    round: int
    faults: tuple[str, ...]
    what: str
    period: float


@dataclass(slots=True)
class Tally:
    """What came of the faults so far.

    Attributes:
        faults: that were inflicted, by name.
        slowest: frame periods until neutral, the longest of each that was alone.
    """

    faults: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    frames: int = 0


class Director:
    """Decides between two frames what happens next, and keeps an eye on the chip."""

    def __init__(self, stage: Stage, count: int, tally: Tally, neutral: tuple[int, int]) -> None:
        """
        Args:
            neutral: pulses of throttle and steering in neutral, in 4096ths of the period.
        """
        self._stage, self._count, self._tally, self._neutral = stage, count, tally, neutral
        self._calm, self._round, self._stretches = 0, 0, 0
        self._since_ns = stage.clock.now_ns
        self._active: list[tuple[str, Kind, Callable[[], None]]] = []
        self._until_ns = self._deadline_ns = 0
        self._after_bus_ns = AFTER_BUS_NS
        self._standing_ns: int | None = None
        self._stood, self._from_start = True, False
        self._state = State.WAITING

    def write(self, step: Step) -> None:
        """As the last of the drive's outputs: what came of this turn."""
        self._state = step.state
        self._calm = self._calm + (step.frame is not None) if step.state is State.DRIVING else 0
        self._tally.frames += step.frame is not None

    def close(self) -> None:
        """Nothing is held."""

    def turn(self) -> None:
        """Once before every frame."""
        stage, now_ns = self._stage, self._stage.clock.now_ns
        self._watch(now_ns)
        if self._active:
            if now_ns >= self._until_ns:
                self._end(now_ns)
            return
        if self._calm >= CALM_PERIODS:
            if sum(self._tally.faults.values()) >= self._count:
                stage.control.end("all faults are through")
            else:
                self._begin()
        elif now_ns - self._since_ns > PATIENCE_PERIODS * PERIOD_NS:
            self._elsewhere(now_ns)

    def _begin(self) -> None:
        stage, rng = self._stage, self._stage.rng
        names = rng.permutation(list(KINDS))[: 2 if rng.random() < TWO_AT_ONCE else 1].tolist()
        # Of two spoiled pictures the camera gives the second: what shows at once, not what takes its time.
        names.sort(key=lambda name: -(KINDS[name].periods or 0))
        kinds = [KINDS[name] for name in names]
        self._round += 1
        self._standing_ns = None
        limits = [kind.periods for kind in kinds if kind.periods is not None]
        longest = max(kind.longest for kind in kinds)
        self._active = [(name, kind, kind.begin(stage)) for name, kind in zip(names, kinds, strict=True)]
        onset_ns = max(stage.camera.due_ns, stage.clock.now_ns)
        self._until_ns = onset_ns + round(rng.integers(longest // 2, longest + 1) * PERIOD_NS)
        turn_periods = max(kind.turn_periods for kind in kinds)
        self._after_bus_ns = AFTER_BUS_NS + round((turn_periods - 1) * PERIOD_NS)
        self._from_start = bool(limits) and all(kind.from_start for kind in kinds if kind.periods is not None)
        allowed = min(limits, default=0.0) * turn_periods
        self._deadline_ns = onset_ns + round(allowed * PERIOD_NS) + SLACK_NS if limits else 0
        self._since_ns = onset_ns
        self._tally.faults.update(names)

    def _end(self, now_ns: int) -> None:
        if len(self._active) == 1 and self._standing_ns is not None:
            name = self._active[0][0]
            took = max(0.0, self._standing_ns - self._since_ns) / PERIOD_NS
            self._tally.slowest[name] = max(took, self._tally.slowest.get(name, 0.0))
        for _, _, end in self._active:
            end()
        self._active, self._calm, self._stretches, self._since_ns = [], 0, 0, now_ns

    def _watch(self, now_ns: int) -> None:
        chip = self._stage.chip
        standing = chip.pulses in (self._neutral, NO_PULSES)
        if self._active and standing and self._standing_ns is None:
            self._standing_ns = now_ns
        if self._stood and not standing and self._from_start:
            self._deadline_ns = max(self._deadline_ns, now_ns + round(START_PERIODS * PERIOD_NS) + SLACK_NS)
        self._stood = standing
        if standing or now_ns - chip.silent_ns <= self._after_bus_ns:
            return
        if self._active and self._deadline_ns and self._deadline_ns < now_ns <= self._until_ns:
            self._note("moved the car", now_ns)
        elif not self._state.answers and self._state is not State.WAITING:
            self._note(f"moved the car in {self._state}", now_ns)

    def _elsewhere(self, now_ns: int) -> None:
        """On to another stretch of the recording: the car may stand in this one."""
        stage = self._stage
        stage.camera.at = int(stage.rng.integers(len(stage.camera)))
        self._since_ns = now_ns
        self._stretches += 1
        if self._stretches == STRETCHES:
            self._note("did not come back", now_ns)
            stage.control.end("the drive did not come back")

    def _note(self, what: str, now_ns: int) -> None:
        names = tuple(name for name, _, _ in self._active)
        last = self._tally.findings[-1] if self._tally.findings else None
        if last is None or (last.round, last.what) != (self._round, what):
            period = round((now_ns - self._since_ns) / PERIOD_NS, 1)
            self._tally.findings.append(Finding(round=self._round, faults=names, what=what, period=period))


class Directed:
    """The camera, with the director before every frame."""

    def __init__(self, camera: ReplayedCamera, director: Director) -> None:
        self._camera, self._director = camera, director
        self.info, self.lost = camera.info, camera.lost

    @property
    def connected(self) -> bool:
        return self._camera.connected

    def newest(self, timeout_s: float):
        self._director.turn()
        return self._camera.newest(timeout_s)


def chaos(pilot: Pilot, images: Sequence[Image], *, faults: int, seed: int = 0, limits: Limits = LIMITS) -> Tally:
    """Drive over `images` until so many faults are through."""
    clock, settings, control, tally = Clock(), ServoSettings(), Control(), Tally()
    chip = Chip(clock, settings)
    engine = TroubledEngine(pilot.engine, clock)
    camera = ReplayedCamera(clock, images)
    stage = Stage(
        clock=clock, camera=camera, chip=chip, engine=engine, control=control, rng=np.random.default_rng(seed)
    )
    servo = ServoSink(lambda: chip, settings, ACTUATION.straight, sleep=lambda seconds: None)
    director = Director(stage, faults, tally, (servo.ticks(0.0), servo.ticks(ACTUATION.straight)))
    drive_live(
        Pilot(engine), Directed(camera, director), [servo, director], limits=limits, actuation=ACTUATION,
        control=control, novelty=lambda pilot: novelty_of(pilot.contract, limits), clock_ns=clock,
    )  # fmt: skip
    return tally


def images_of(where: Sequence[str], most: int) -> list[Image]:
    """The frames of recordings, at most so many, an equal share of each."""
    images: list[Image] = []
    for spec in where:
        with open_source(spec) as source:
            images += [frame.image for frame, _ in zip(source, range(most // len(where)), strict=False)]
    return images


def table(tally: Tally) -> str:
    lines = [f"{'fault':26} {'times':>6} {'neutral after':>14} {'allowed':>8}   (frame periods, alone)"]
    for name, kind in KINDS.items():
        took = f"{tally.slowest[name]:.1f}" if name in tally.slowest and kind.periods is not None else "-"
        allowed = "-" if kind.periods is None else f"{kind.periods:g}"
        lines.append(f"{name:26} {tally.faults[name]:>6} {took:>14} {allowed:>8}")
    lines.append(f"{sum(tally.faults.values())} faults in {tally.frames} frames: {len(tally.findings)} findings")
    lines += [
        f"  round {finding.round}: {' and '.join(finding.faults) or 'afterwards'}: {finding.what} "
        f"after {finding.period:g} periods"
        for finding in tally.findings[:20]
    ]
    return "\n".join(lines)


def endings_table(found: Sequence[Ending]) -> str:
    lines = [f"{'process':20} {'its bus':28} {'times':>5} {'after the blow':>15} {'after the bus':>14}"]
    for blow, bus in sorted({(ending.blow, ending.bus) for ending in found}):
        same = [ending for ending in found if (ending.blow, ending.bus) == (blow, bus)]
        blow_ms, answer_ms = max(e.blow_ms for e in same), max(e.answer_ms for e in same)
        late = "  LATE" if any(e.late for e in same) else ""
        lines.append(f"{blow:20} {bus:28} {len(same):>5} {blow_ms:>12.0f} ms {answer_ms:>11.0f} ms{late}")
    lines.append(f"late: {sum(e.late for e in found)} (over {SILENCE_MS:g} ms and {ANSWER_MS:g} ms)")
    return "\n".join(lines)


def document_of(tally: Tally, found: Sequence[Ending]) -> Mapping[str, object]:
    return {
        "processes": [dataclasses.asdict(ending) | {"late": ending.late} for ending in found],
        "faults": tally.faults, "slowest_periods": tally.slowest, "frames": tally.frames,
        "findings": [dataclasses.asdict(finding) for finding in tally.findings],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="a .tflite or .onnx file made by `sepilot export`")
    parser.add_argument("drives", nargs="+", metavar="DRIVE", help="recordings that are replayed")
    parser.add_argument("--faults", type=int, default=10_000, metavar="N", help="how many (default 10000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same drive")
    parser.add_argument("--frames", type=int, default=4000, metavar="N", help="of the recordings, held in memory")
    parser.add_argument("--processes", type=int, default=40, metavar="N", help="real drives besides (default 40)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        images = images_of(arguments.drives, arguments.frames)
        tally = chaos(load_pilot(arguments.file), images, faults=arguments.faults, seed=arguments.seed)
        print(table(tally), flush=True)
        found = list(endings(arguments.file, Path(arguments.drives[0]), arguments.processes, arguments.seed))
    except SepilotError as e:
        print(f"chaos: {e}", file=sys.stderr)
        return e.exit_code
    print(endings_table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(document_of(tally, found), indent=2) + "\n", encoding="utf-8")
    return 1 if tally.findings or any(ending.late for ending in found) else 0


if __name__ == "__main__":
    sys.exit(main())
