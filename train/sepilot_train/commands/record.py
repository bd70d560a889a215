"""`sepilot record`: drives from a simulator, as ordinary Donkeycar tubs, or sets of labelled pictures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.commands.arguments import flag, request_from, seed, switch

if TYPE_CHECKING:
    from sepilot_train.closed_loop.object_sets import SideCounts
    from sepilot_train.closed_loop.recorder import Recording

__all__ = ["main"]

EPILOG = """examples:
  sepilot record --simulator builtin --out drives            10 drives of 600 frames
  sepilot record --slow-for-bends --out drives               for nets that learn the throttle, too
  sepilot record --simulator carracing --drives 4 --seed 100 --out drives
  sepilot train drives/* --recipe swift --out run            what to do with them
  sepilot record --objects --count 2000 --out objects        cones, cars and signs to learn to find
  sepilot drives objects/scenes --sheet scenes.jpg

--objects writes sets with train, val and test, each in worlds of its own:
  scenes/   320x240 pictures with exact boxes of what is visible (COCO)
  crops/    a folder of 48x48 pictures for each class, and background (read with --label class)
  target/   pictures with a table of the place on the centre line 1.2 m ahead: image, target_x, target_y
  cones/    crops of cones with a table of tip and base
  objects.json  seed, version and counts, also of what has no box since it is hidden or small
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRequest:
    simulator: str = flag("builtin, carracing or panda3d (default: builtin)", "NAME", default="builtin")
    out: Path = flag("a new folder for the drives", "DIR", required=True)
    drives: int = flag("drives, each in a world of its own (default: 10)", "N", type=int, default=10)
    frames: int = flag("frames per drive (default: 600)", "N", type=int, default=600)
    seed: int = flag("of the first world; the next drives take the next (default: 0)", "S", type=seed, default=0)
    no_kicks: bool = switch("perfect driving only; nets trained on it get lost")
    slow_for_bends: bool = switch("slow down for bends, so that a net can learn the throttle")
    objects: bool = switch("write sets of pictures with cones, cars and signs instead of drives")
    count: int = flag("pictures with --objects (default: 1000)", "N", type=int, default=1000)
    json: bool = switch("print the table as JSON")


def main(argv: Sequence[str]) -> int:
    request = request_from(
        argv, RecordRequest, "record",
        "Let an expert that knows the track drive through simulated worlds, one drive each, and write what its camera "
        "saw with what it steered. Random kicks on the steering, which the labels do not follow, record the way back "
        "to the middle. The worlds are synthetic and say nothing about real roads.", EPILOG,
    )  # fmt: skip
    _require_acting(request)
    if request.objects:
        return _record_objects(request)
    from sepilot_runtime.base.claims import claimed
    from sepilot_runtime.base.files import require_new
    from sepilot_train.base.progress import progress_bar
    from sepilot_train.closed_loop.recorder import record
    from sepilot_train.simulator import open_simulator

    with claimed(request.out):
        require_new(request.out)
        simulator = open_simulator(request.simulator)
        with progress_bar("recording", request.drives * request.frames) as advance:
            recordings = record(
                simulator, request.out, drives=request.drives, frames=request.frames, seed=request.seed,
                kicks=not request.no_kicks, slow_for_bends=request.slow_for_bends, progress=advance,
            )  # fmt: skip
    if request.json:
        print(json.dumps([dataclasses.asdict(recording) for recording in recordings], indent=2))
    else:
        _print(request.out, recordings)
    return 0


def _require_acting(request: RecordRequest) -> None:
    """Refuse what the other of the two writes by. Raises UsageError."""
    others = ("drives", "frames", "no_kicks", "slow_for_bends") if request.objects else ("count",)
    for name, found in ((f.name, f) for f in dataclasses.fields(RecordRequest) if f.name in others):
        if getattr(request, name) != found.default:
            where = "without --objects" if request.objects else "with --objects"
            raise UsageError(f"--{name.replace('_', '-')}: is for recording {where}")


def _record_objects(request: RecordRequest) -> int:
    from sepilot_runtime.base.claims import claimed
    from sepilot_runtime.base.files import require_new
    from sepilot_train.base.progress import progress_bar
    from sepilot_train.closed_loop.object_sets import record_objects

    if request.simulator != "builtin":
        raise UsageError(f"--objects --simulator {request.simulator}: only builtin can draw them")
    with claimed(request.out):
        require_new(request.out)
        with progress_bar("recording", request.count) as advance:
            sides = record_objects(request.out, count=request.count, seed=request.seed, progress=advance)
    if request.json:
        print(json.dumps({side: dataclasses.asdict(found) for side, found in sides.items()}, indent=2))
    else:
        _print_sides(request.out, sides)
    return 0


def _print_sides(out: Path, sides: Mapping[str, SideCounts]) -> None:
    print(f"{out}: {sum(found.pictures for found in sides.values())} pictures")
    print(f"{'side':<8}{'worlds':>8}{'pictures':>10}{'boxes':>8}{'crops':>8}{'targets':>9}{'hidden':>8}{'small':>8}")
    for side, found in sides.items():
        counts = f"{found.boxes.total():>8}{found.crops.total():>8}{found.targets:>9}"
        dropped = f"{found.dropped['hidden']:>8}{found.dropped['small']:>8}"
        print(f"{side:<8}{len(found.worlds):>8}{found.pictures:>10}{counts}{dropped}")


MOST_ROWS = 12
"""More drives than this are summed up in a last line; --json lists all."""


def _print(out: Path, recordings: Sequence[Recording]) -> None:
    print(f"{out}: {len(recordings)} drives, {sum(recording.frames for recording in recordings)} frames")
    print(f"{'drive':<12}{'world':>8}{'frames':>8}{'mean |cte| m':>14}{'max |cte| m':>13}{'put back':>10}")
    shown = recordings if len(recordings) <= MOST_ROWS else recordings[: MOST_ROWS - 2]
    for r in shown:
        print(f"{r.name:<12}{r.seed:>8}{r.frames:>8}{r.mean_cte_m:>14.3f}{r.max_cte_m:>13.3f}{r.recentred:>10}")
    if len(shown) < len(recordings):
        mean = sum(r.mean_cte_m for r in recordings) / len(recordings)
        most = max(r.max_cte_m for r in recordings)
        print(f"{'all':<12}{'':>8}{'':>8}{mean:>14.3f}{most:>13.3f}{sum(r.recentred for r in recordings):>10}")
