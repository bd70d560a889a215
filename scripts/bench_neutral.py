"""How often a drive would have gone to neutral over recordings in which nothing was wrong.

Each recording is played as a camera, by its own time stamps on a clock of its own, through the real loop with a model
file and the default limits, at a constant throttle. What the recording itself lacks (gaps between its frames) is told
apart from what the checks of the pictures find. Play drives that the model was not trained on.

    scripts/bench-neutral swift-int8.tflite drives/held-out
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
from bench_novelty import interval

from sepilot_runtime.drive.actuation import Actuation
from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.drive.loop import drive_live
from sepilot_runtime.drive.novelty import novelty_of
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.source.replay import ReplaySource
from sepilot_runtime.drive.step import Step
from sepilot_runtime.source.opening import open_source
from sepilot_runtime.drive.supervisor import Control, Limits
from sepilot_runtime.drive.state import State

OF_THE_RECORDING = ("no frame", "the camera has gone", "the frame is too old")


@dataclass(slots=True, kw_only=True)
class Found:
    """What became of one recording.

    Attributes:
        entries: how often each state was entered, by its reason.
        places: ids of the frames at which it went to neutral.
    """

    name: str
    frames: int = 0
    entries: Counter[tuple[str, str]] = field(default_factory=Counter)
    places: list[tuple[int, str]] = field(default_factory=list)
    _last: tuple[str, str] = ("", "")

    def write(self, step: Step) -> None:
        self.frames += step.frame is not None
        now = step.state.value, step.reason
        if now != self._last and step.state in (State.NEUTRAL, State.DEGRADED):
            self.entries[now] += 1
            if step.state is State.NEUTRAL and step.frame is not None:
                self.places.append((step.frame.id, step.reason))
        self._last = now

    def close(self) -> None:
        """Nothing is held."""

    @property
    def false_neutrals(self) -> int:
        return sum(n for (state, why), n in self.entries.items() if state == "neutral" and why not in OF_THE_RECORDING)


def play(pilot: Pilot, spec: str, throttle: float) -> Found:
    """Drive over one recording."""
    now_ns, control, limits, found = [10**10], Control(), Limits(), Found(name=Path(spec).name)

    def clock_ns() -> int:
        return now_ns[0]

    def sleep(seconds: float) -> None:
        now_ns[0] += round(seconds * 1e9)

    with open_source(spec) as source:
        camera = ReplaySource(source, clock_ns=clock_ns, sleep=sleep)
        drive_live(
            pilot, camera, [found], limits=limits, actuation=Actuation(throttle=throttle), control=control,
            novelty=lambda pilot: novelty_of(pilot.contract, limits), clock_ns=clock_ns,
        )  # fmt: skip
    return found


def table(found: Sequence[Found]) -> str:
    lines = []
    for drive in found:
        lines.append(f"{drive.name}: {drive.frames} frames")
        lines += [f"  {n:>5}x {state}: {why}" for (state, why), n in drive.entries.most_common()]
        lines += [f"        frame {place}: {why}" for place, why in drive.places if why not in OF_THE_RECORDING]
    frames, false = sum(drive.frames for drive in found), sum(drive.false_neutrals for drive in found)
    low, high = (1e4 * share for share in interval(false, frames))
    lines.append(
        f"neutral for the picture's sake: {false} in {frames} frames, {1e4 * false / frames:.2f} in 10,000 "
        f"({low:.2f} to {high:.2f}, 95 %)"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="a .tflite or .onnx file made by `sepilot export`")
    parser.add_argument("drives", nargs="+", metavar="DRIVE", help="recordings in which nothing was wrong")
    parser.add_argument("--throttle", type=float, default=0.3, metavar="T", help="throughout (default 0.3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        pilot = load_pilot(arguments.file)
        found = [play(pilot, drive, arguments.throttle) for drive in arguments.drives]
    except SepilotError as e:
        print(f"bench-neutral: {e}", file=sys.stderr)
        return e.exit_code
    print(table(found))
    if arguments.json:
        rows = [
            {"drive": d.name, "frames": d.frames, "false_neutrals": d.false_neutrals, "places": d.places} for d in found
        ]
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
