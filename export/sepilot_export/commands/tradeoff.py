"""`sepilot tradeoff`: which file to put on the car, from every run and export at hand."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.commands.arguments import flag, request_from, seed, switch

__all__ = ["main"]

EPILOG = """examples:
  sepilot tradeoff runs --out tradeoff
  sepilot tradeoff runs/week runs/week-slim runs/week-export --out tradeoff
  sepilot tradeoff exports --out on-the-car --rounds 100      on the car: copy the exports there

Trains nothing. Every file is checked anew on the held-out frames that all of them share and timed beside the others; a
run without an export is exported first. DIR gets report.html, tradeoff.png, tradeoff.json and exports/. Microseconds
are of this machine. Export directories are all that a car needs for its own; TensorFlow is used only to export.

Exit code: 0 there is a file to recommend, 1 there is none, 2 files that cannot be compared.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeoffRequest:
    paths: tuple[Path, ...] = flag(
        "runs, exports, or folders that hold them, two levels deep", "PATH", positional=True, nargs="+"
    )
    out: Path = flag("to write; must not exist (default: tradeoff)", "DIR", default=Path("tradeoff"))
    drives: tuple[Path, ...] = flag(
        "where the drives of a run without an export are now, if they moved", "PATH", nargs="+", default=()
    )
    rounds: int = flag("visits to each file (default: 40)", "N", default=40)
    calls: int = flag("timed frames per visit (default: 100)", "N", default=100)
    seed: int = flag("of the order of the visits (default: 0)", "N", type=seed, default=0)
    json: bool = switch("print tradeoff.json instead of the table")


def main(argv: Sequence[str]) -> int:
    request = request_from(
        argv, TradeoffRequest, "tradeoff",
        "Compare every file at hand in error, time and size, and name the most accurate, a balanced one and the "
        "smallest.", EPILOG,
    )  # fmt: skip
    from sepilot_runtime.base.claims import claimed

    with claimed(request.out):
        return _tradeoff(request)


def _tradeoff(request: TradeoffRequest) -> int:
    from sepilot_export.tradeoff.charts import draw_png
    from sepilot_export.tradeoff.job import Settings, compare
    from sepilot_export.tradeoff.page import render
    from sepilot_export.tradeoff.table import print_comparison, record_of
    from sepilot_runtime.base.files import atomic_directory, require_new, write_json
    from sepilot_runtime.base.opencv import cv2

    out: Path = request.out
    require_new(out)
    cv2.setNumThreads(1)  # As `sepilot drive` runs.
    settings = Settings(rounds=request.rounds, calls=request.calls, seed=request.seed)
    with atomic_directory(out) as part:
        comparison = compare(request.paths, part, out, settings, moved_to=request.drives)
        record = dataclasses.asdict(record_of(comparison))
        write_json(part / "tradeoff.json", record)
        draw_png(comparison, part / "tradeoff.png")
        (part / "report.html").write_text(render(comparison), encoding="utf-8")
    if request.json:
        print(json.dumps(record, indent=2))
    else:
        from rich.console import Console

        print_comparison(comparison, Console(highlight=False))
        print(f"\n-> {out / 'report.html'}")
    if comparison.disturbed:
        print("sepilot: the machine was busy with other work; the times tell of that as well", file=sys.stderr)
    return 0 if comparison.picks else 1
